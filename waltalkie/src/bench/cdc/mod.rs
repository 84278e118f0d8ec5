//! `bench cdc`: how fast the worker drains a backlog, what it costs, and how long a commit takes to its consumer; with
//! `--chaos`, whether it stays right when it is killed, stopped and cut off (`chaos.rs`).
//!
//! ```text
//!   backlog ──▶ slot of run 1, 2, … ──▶ `waltalkie run cdc` ──▶ topics of that run ──▶ read back: dense, all, once
//!      │
//!      ├──────▶ null reader: the same stream, decoded by nothing        (what Postgres can give)
//!      └──────▶ bare producer: the same records, made beforehand        (what Kafka can take)
//! ```
//!
//! The two references run in the same run on the same machine, so that the result is a ratio. Every run has an
//! installation of its own in one database: a prefix, and with it slot, publication and topics, made before the backlog.
//! Other programs may drain the same backlog beside the worker (`peer.rs`).

mod backlog;
pub(crate) mod chaos;
mod drain;
mod latency;
mod ledger;
mod on_disk;
mod peer;
mod reference;
mod report;
mod side_by_side;
mod site;
mod takeover;
mod worker;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use runtime::Config;
use runtime::config::Compression;

use super::machine::{Disk, Machine, versions};
use crate::bench::peer::Peer;
use crate::bench::telling::Outcome;
use report::{Conditions, Report};
use site::Site;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// A backlog of transactions of 100 rows
    A,
    /// A backlog of transactions of one row
    B,
    /// A backlog of one transaction
    C,
    /// Commits at a steady rate: from each commit to a consumer of committed records
    Latency,
    /// One commit at a time on an idle system
    Idle,
    /// Bytes that an event takes on disk, by compression: in full batches, and at --rate. Only where it is asked for
    Disk,
    /// From a worker's SIGKILL or SIGSTOP to its standby's first read and first commit. Only where it is asked for
    Takeover,
}

impl Workload {
    const fn name(self) -> &'static str {
        match self {
            Self::A => "A: 100 rows a transaction",
            Self::B => "B: one row a transaction",
            Self::C => "C: one transaction",
            Self::Latency => "latency",
            Self::Idle => "idle",
            Self::Disk => "disk",
            Self::Takeover => "takeover",
        }
    }

    /// Rows of one transaction of the backlog.
    const fn transaction_rows(self, events: u64) -> u64 {
        match self {
            Self::A => 100,
            Self::C => events,
            Self::B | Self::Latency | Self::Idle | Self::Disk | Self::Takeover => 1,
        }
    }
}

/// Arguments of `bench cdc`.
#[derive(Debug, Clone, clap::Args)]
pub struct CdcArgs {
    /// What to measure; may be given several times [default: all]
    #[arg(long, value_enum)]
    pub workload: Vec<Workload>,
    /// Rows of a backlog
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub events: u64,
    /// Runs of each workload; figures are medians [default: 3, with --chaos 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: Option<u32>,
    /// Size of each message's text
    #[arg(long, value_name = "BYTES", default_value_t = 192)]
    pub content_bytes: usize,
    /// Chats that the rows belong to
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub chats: u64,
    /// Partitions of each topic
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub partitions: u16,
    /// Commits a second of the latency run, whatever becomes of earlier ones
    #[arg(long, value_name = "PER_S", default_value_t = 2_000)]
    pub rate: u64,
    /// Seconds of the latency run, after a warm-up of a third; of the idle run
    #[arg(long, value_name = "S", default_value_t = 15)]
    pub seconds: u64,
    /// Kills, and as many SIGSTOPs, of workload takeover
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub takeovers: u32,
    /// How the history is compressed: none, snappy, lz4 or zstd [default: cdc.compression; for workload disk each but snappy]
    #[arg(long, value_parser = compression)]
    pub compression: Option<Compression>,
    /// Leaves the null reader and the bare producer out
    #[arg(long)]
    pub no_reference: bool,
    /// A program that drains the same backlogs, measured beside the worker; may be given several times. `bench/debezium`
    /// has one
    #[arg(long, value_name = "NAME=COMMAND")]
    pub peer: Vec<Peer>,
    /// Kills, stops and cuts off workers at random instead of measuring; the history must be the tables after each run
    #[arg(long, conflicts_with_all = [
        "workload", "events", "content_bytes", "chats", "partitions", "rate", "seconds", "takeovers", "compression",
        "no_reference", "peer",
    ])]
    pub chaos: bool,
    /// What is drawn then.
    #[command(flatten)]
    pub chaos_args: chaos::ChaosArgs,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

impl CdcArgs {
    /// The configuration of what is measured.
    fn on(&self, config: &Config) -> Config {
        let mut config = config.clone();
        config.kafka.partitions = self.partitions;
        config.cdc.compression = self.compression.unwrap_or(config.cdc.compression);
        config.ops.listen.clear();
        config
    }

    /// Runs of each workload.
    fn runs(&self) -> usize {
        self.runs.map_or(3, |runs| runs as usize)
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    let all = [Compression::None, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let found = all.into_iter().find(|compression| compression.name() == text);
    found.ok_or_else(|| "one of none, snappy, lz4, zstd".to_owned())
}

/// Runs the bench; fails if anything is lost, repeated or out of order. `servers` are processes to account for.
pub async fn run(args: &CdcArgs, config: &Config, servers: Vec<(String, u32)>) -> Result<ExitCode> {
    if args.chaos {
        return chaos::run(args, config).await;
    }
    ensure!(args.events >= 1 && args.chats >= 1, "--events and --chats must be at least 1");
    ensure!(args.rate >= 1 && args.seconds >= 1, "--rate and --seconds must be at least 1");
    let all = [Workload::A, Workload::B, Workload::C, Workload::Latency, Workload::Idle];
    let wanted = if args.workload.is_empty() { all.to_vec() } else { args.workload.clone() };
    let drains_any = wanted.iter().any(|workload| matches!(workload, Workload::A | Workload::B | Workload::C));
    ensure!(args.peer.is_empty() || drains_any, "--peer drains backlogs: workload a, b or c");
    let mut drains = Vec::new();
    let mut latencies = Vec::new();
    let mut on_disk = Vec::new();
    let mut takeovers = Vec::new();
    for workload in wanted {
        let site = || Site::make(args.on(config), &servers);
        match workload {
            Workload::A | Workload::B | Workload::C => {
                drains.push(Box::pin(drain::run(args, workload, site().await?)).await?);
            }
            Workload::Latency | Workload::Idle => latencies.push(Box::pin(latency::run(args, workload, site)).await?),
            Workload::Disk => {
                for compression in on_disk::compressions(args) {
                    let mut config = args.on(config);
                    config.cdc.compression = compression;
                    on_disk.push(Box::pin(on_disk::run(args, &config, &servers)).await?);
                }
            }
            Workload::Takeover => takeovers.push(Box::pin(takeover::run(args, site().await?)).await?),
        }
    }
    let report = Report {
        scenario: "cdc",
        conditions: Conditions {
            machine: Machine::here(),
            versions: versions(config).await,
            disk: Disk::measure(None, &servers),
            content_bytes: args.content_bytes,
            chats: args.chats,
            partitions: args.partitions,
            compression: args.compression.unwrap_or(config.cdc.compression).name(),
            runs: args.runs(),
        },
        drains,
        latencies,
        on_disk,
        takeovers,
    };
    report.tell(args.json)
}
