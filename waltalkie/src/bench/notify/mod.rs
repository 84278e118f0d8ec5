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
//!
//! Then a large chat, in which nobody is there, is told of one message, and the same pushes are measured again beside that.

mod pushes;
mod rows;
mod run;

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use runtime::Config;
use serde::Serialize;

use super::figures::Percentiles;
use super::machine::{self, Disk, Machine, versions};
use super::telling::{Outcome, mib, percentiles};

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
    /// Members of the large chat; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub group_members: u64,
    /// Of them, how many have a device
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub group_devices: u64,
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
    /// Before the large chat.
    peak_rss_bytes: u64,
    pushes: u32,
    rate_per_s: f64,
    to_the_door: Percentiles,
    lost: u64,
    repeated: u64,
    large_chat: Option<LargeChat>,
}

/// Beside the large chat.
#[derive(Debug, Serialize)]
struct LargeChat {
    members: u64,
    devices: u64,
    /// From its message to its last push.
    seconds: f64,
    /// Of messages in 1:1 chats meanwhile.
    to_the_door: Percentiles,
    peak_rss_bytes: u64,
    lost: u64,
    repeated: u64,
}

impl Outcome for Report {
    fn is_right(&self) -> bool {
        let large = self.large_chat.as_ref().map_or(0, |large| large.lost + large.repeated);
        self.lost + self.repeated + large == 0
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
        let used: Vec<String> = self.cpu_s.iter().map(|(role, cpu_s)| format!("{role} {cpu_s:.2}")).collect();
        writeln!(out, "CPU seconds of it: {}\n", used.join(", "))?;
        let beside = self.large_chat.as_ref().map(|large| &large.to_the_door);
        let rows = [("alone", Some(&self.to_the_door)), ("beside the large chat", beside)];
        let heading = format!("event to the provider's door, ms, {} at {}/s", self.pushes, self.rate_per_s);
        percentiles(out, &heading, &rows)?;
        writeln!(out, "{} lost, {} repeated", self.lost, self.repeated)?;
        let Some(large) = &self.large_chat else { return Ok(()) };
        writeln!(
            out,
            "large chat of {} members, {} with a device: all told after {:.1} s, {:.0} MiB at most; {} lost, {} repeated",
            large.members,
            large.devices,
            large.seconds,
            mib(large.peak_rss_bytes),
            large.lost,
            large.repeated
        )
    }
}

/// Runs the bench; fails if a push is missing or comes twice. `servers` are processes to account for.
pub async fn run(args: &NotifyArgs, config: &Config, servers: Vec<(String, u32)>) -> Result<ExitCode> {
    ensure!(args.chats >= 1 && args.pushes >= 1 && args.rate > 0.0, "--chats, --pushes and --rate are at least 1");
    ensure!(
        args.group_members == 0 || args.group_devices < args.group_members,
        "--group-devices is less than --group-members: who says something isn't told"
    );
    let measured = Box::pin(run::measure(args, config, &servers)).await?;
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
        to_the_door: Percentiles::of_latencies(&measured.alone.latency),
        lost: measured.alone.lost,
        repeated: measured.alone.repeated,
        large_chat: measured.beside.map(|beside| LargeChat {
            members: args.group_members,
            devices: args.group_devices,
            seconds: beside.seconds,
            to_the_door: Percentiles::of_latencies(&beside.latency),
            peak_rss_bytes: beside.peak_rss_bytes,
            lost: beside.lost,
            repeated: beside.repeated,
        }),
    };
    report.tell(args.json)
}
