//! `bench notify`: decisions a second from a backlog, and how long an event takes to a provider's door while nothing else is
//! under way.
//!
//! ```text
//!   rows of people, chats, devices ──▶ Postgres
//!   events ──▶ chat.events ──▶ `waltalkie run notifier` ──▶ push service in this process: verifies, decrypts, notes the time
//! ```
//!
//! Events are written here as the CDC worker has them, so that nothing but the notifier is measured. Of the backlog its
//! decisions are counted while its decider works through it; everything else of the process goes on beside it and counts
//! towards its processor time.

mod rows;
mod run;

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use runtime::Config;
use serde::Serialize;

use super::machine::{self, Disk, Machine, versions};
use super::telling::{Outcome, mib};

/// Arguments of `bench notify`.
#[derive(Debug, Clone, clap::Args)]
pub struct NotifyArgs {
    /// Messages of the backlog, each to one person
    #[arg(long, value_name = "N", default_value_t = 30_000)]
    pub backlog: u64,
    /// 1:1 chats that messages are spread over
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub chats: u64,
    /// Messages whose way to the provider is measured
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub pushes: u32,
    /// Messages a second meanwhile
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    pub rate: f64,
    /// Partitions of each topic
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub partitions: u16,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    scenario: &'static str,
    machine: Machine,
    versions: BTreeMap<String, String>,
    disk: Option<Disk>,
    chats: u64,
    partitions: u16,
    backlog: u64,
    decisions_per_s: f64,
    /// By the process' whole processor time in that time.
    decisions_per_cpu_s: f64,
    cpu_s: BTreeMap<String, f64>,
    peak_rss_bytes: u64,
    pushes: u32,
    rate_per_s: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    lost: u64,
    repeated: u64,
}

impl Outcome for Report {
    fn is_right(&self) -> bool {
        self.lost == 0 && self.repeated == 0
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "{}", machine::line(&self.machine, self.disk.as_ref(), &self.versions))?;
        writeln!(
            out,
            "backlog of {} messages in {} chats: {:.0} decisions/s, {:.0} for each second of processor time, {:.0} MiB",
            self.backlog,
            self.chats,
            self.decisions_per_s,
            self.decisions_per_cpu_s,
            mib(self.peak_rss_bytes)
        )?;
        writeln!(
            out,
            "event to the provider's door, {} at {}/s: p50 {:.1} ms, p95 {:.1}, p99 {:.1}, max {:.1}; {} lost, {} repeated",
            self.pushes, self.rate_per_s, self.p50_ms, self.p95_ms, self.p99_ms, self.max_ms, self.lost, self.repeated
        )
    }
}

/// Runs the bench; fails if a push is missing or comes twice. `servers` are processes to account for.
pub async fn run(args: &NotifyArgs, config: &Config, servers: Vec<(String, u32)>) -> Result<ExitCode> {
    ensure!(args.chats >= 1 && args.pushes >= 1 && args.rate > 0.0, "--chats, --pushes and --rate are at least 1");
    let measured = Box::pin(run::measure(args, config, &servers)).await?;
    let at = |quantile: f64| measured.latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let report = Report {
        scenario: "notify",
        machine: Machine::here(),
        versions: versions(config).await,
        disk: Disk::measure(None, &servers),
        chats: args.chats,
        partitions: args.partitions,
        backlog: args.backlog,
        decisions_per_s: measured.decisions_per_s,
        decisions_per_cpu_s: measured.decisions_per_cpu_s,
        cpu_s: measured.cpu_s,
        peak_rss_bytes: measured.peak_rss_bytes,
        pushes: args.pushes,
        rate_per_s: args.rate,
        p50_ms: at(0.5),
        p95_ms: at(0.95),
        p99_ms: at(0.99),
        max_ms: measured.latency.max() as f64 / 1_000.0,
        lost: measured.lost,
        repeated: measured.repeated,
    };
    report.tell(args.json)
}
