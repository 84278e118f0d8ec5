//! A peer's process: how it is told what to do, watched and ended.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use runtime::postgres;
use tokio::process::{Child, Command};
use tokio_postgres::config::Host;

use super::{PATIENCE, Peer, Task};

/// Lines of its log that an error shows.
const LINES: usize = 20;

/// The peer's process. Dropped, it is killed.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Process {
    /// Starts it with its orders in the environment.
    pub(super) fn start(peer: &Peer, task: &Task<'_>, events: u64) -> Result<Self> {
        let server = postgres::parse(&task.config.postgres.truth_url, "postgres.truth_url")?;
        let Some(Host::Tcp(host)) = server.get_hosts().first() else { bail!("a peer needs PostgreSQL by TCP") };
        let port = server.get_ports().first().copied().unwrap_or(5432);
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("peer.log");
        let mut command = Command::new("sh");
        // exec, so that it is this child that is measured and ended.
        command.arg("-c").arg(format!("exec {}", peer.command));
        for (name, value) in [
            ("PGHOST", host.as_str()),
            ("PGPORT", &port.to_string()),
            ("PGUSER", server.get_user().unwrap_or("postgres")),
            ("PGPASSWORD", &String::from_utf8_lossy(server.get_password().unwrap_or_default())),
            ("PGDATABASE", server.get_dbname().unwrap_or("postgres")),
            ("BENCH_SLOT", &task.slot),
            ("BENCH_PUBLICATION", task.publication),
            ("BENCH_BROKERS", &task.config.kafka.brokers),
            ("BENCH_TOPIC_PREFIX", &task.topic_prefix),
            ("BENCH_EVENTS", &events.to_string()),
            ("BENCH_FOLDER", &folder.path().to_string_lossy()),
        ] {
            command.env(name, value);
        }
        let out = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("starting {:?}", peer.command))?;
        Ok(Self { child, log, _folder: folder })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Fails with what it said if it has ended.
    pub(super) fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("it ended ({status}): {}", self.said()),
            None => Ok(()),
        }
    }

    /// Whatever it then ends with: a JVM that was told to stop calls that a failure.
    pub(super) async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it doesn't end when told to")??;
        Ok(())
    }

    /// The end of its log.
    pub(super) fn said(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}
