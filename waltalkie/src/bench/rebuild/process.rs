//! A process that is measured from its start to its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::processes::{Watch, cpu_s};
use crate::bench::program::Program;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What it took.
pub(super) struct Taken {
    pub(super) program: Program,
    pub(super) seconds: f64,
    /// Its own, under `role`, and the servers'.
    pub(super) cpu_s: BTreeMap<String, f64>,
    pub(super) peak_rss_bytes: u64,
}

/// Waits for its end, which has to be a good one.
pub(super) async fn to_its_end(mut program: Program, role: &str, servers: &[(String, u32)]) -> Result<Taken> {
    let (began, mut watch) = (Instant::now(), Watch::new(servers.to_vec(), None));
    let pid = program.pid().context("it has no process")?;
    let (mut own_cpu_s, mut peak_rss_bytes) = (0.0_f64, 0);
    let mut look = tokio::time::interval(LOOK);
    let status = loop {
        look.tick().await;
        own_cpu_s = own_cpu_s.max(cpu_s(pid));
        peak_rss_bytes = peak_rss_bytes.max(program.peak_rss_bytes());
        watch.look();
        if let Some(status) = program.ended()? {
            break status;
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    ensure!(status.success(), "it ended with {status}: {}", program.said());
    let mut cpu_s = watch.end().cpu_s;
    cpu_s.insert(role.to_owned(), own_cpu_s);
    Ok(Taken { program, seconds, cpu_s, peak_rss_bytes })
}
