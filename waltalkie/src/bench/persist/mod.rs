//! `bench persist`: how fast prepared commands become rows, and what that costs.
//!
//! ```text
//!   prepared commands ──▶ chat.commands ──▶ `waltalkie run persister …` ──▶ rows ──▶ counted: dense, all, once
//!                                                                            ▲
//!   bare loader: COPY of the same rows, without any rule ────────────────────┘   (what Postgres can take)
//! ```
//!
//! The loader runs in the same run on the same server, so that the result is a ratio. Each run has an installation of its
//! own: a prefix, and with it databases, topics and a slot, which keeps the WAL as it does in service.

mod budget;
mod commands;
mod drain;
mod loader;
mod report;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use runtime::Config;

use super::machine::{Disk, Machine, versions};
use crate::bench::telling::Outcome;
use report::{Conditions, Report};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Sends to many chats, the other roles stopped
    Spread,
    /// Sends to one chat, the other roles stopped
    Hot,
    /// Sends to many chats, with CDC worker, projector and publisher in the same process
    Beside,
}

impl Workload {
    const ALL: [Self; 3] = [Self::Spread, Self::Hot, Self::Beside];

    const fn name(self) -> &'static str {
        match self {
            Self::Spread => "spread over many chats",
            Self::Hot => "one hot chat",
            Self::Beside => "beside cdc, projector and publisher",
        }
    }

    /// Roles of the measured process.
    const fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Spread | Self::Hot => &["persister"],
            Self::Beside => &["persister", "cdc", "projector", "publisher"],
        }
    }
}

/// Arguments of `bench persist`.
#[derive(Debug, Clone, clap::Args)]
pub struct PersistArgs {
    /// What to measure; may be given several times [default: all]
    #[arg(long, value_enum)]
    pub workload: Vec<Workload>,
    /// Sends of a run
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub commands: u64,
    /// Runs of each workload; figures are medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Chats that sends are spread over
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub chats: u64,
    /// Size of each message's text
    #[arg(long, value_name = "BYTES", default_value_t = 192)]
    pub content_bytes: usize,
    /// Partitions of each topic
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub partitions: u16,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

impl PersistArgs {
    fn chats(&self, workload: Workload) -> u64 {
        match workload {
            Workload::Hot => 1,
            Workload::Spread | Workload::Beside => self.chats,
        }
    }
}

/// Runs the bench; fails if a row is missing, repeated or out of order. `servers` are processes to account for.
pub async fn run(args: &PersistArgs, config: &Config, servers: Vec<(String, u32)>) -> Result<ExitCode> {
    ensure!(args.commands >= 1 && args.chats >= 1, "--commands and --chats must be at least 1");
    let wanted = if args.workload.is_empty() { Workload::ALL.to_vec() } else { args.workload.clone() };
    let mut drains = Vec::new();
    for workload in wanted {
        drains.push(drain::run(args, workload, config, &servers).await?);
    }
    let report = Report {
        scenario: "persist",
        conditions: Conditions {
            machine: Machine::here(),
            versions: versions(config).await,
            disk: Disk::measure(None, &servers),
            content_bytes: args.content_bytes,
            partitions: args.partitions,
            batch_commands: config.persister.batch_commands,
            runs: args.runs,
        },
        drains,
    };
    report.tell(args.json)
}
