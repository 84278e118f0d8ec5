//! `bench rebuild`: how fast the history becomes read models, and what that costs.
//!
//! ```text
//!   made history ──▶ chat.events, chat.cursors ──▶ bare consumer        (what Kafka and its client give)
//!                                              ├──▶ decode, apply       (one projection in memory)
//!                                              ├──▶ `waltalkie rebuild` ──▶ tables ──▶ COPY of the same rows
//!                                              └──▶ peers              (the same aggregate, by other programs)
//! ```
//!
//! The history is made here with the encoder that the CDC worker uses; everything is read by the command that operators run,
//! in a process of its own. Bare consumer and COPY are of the same run, so that the results are ratios.

mod history;
mod memory;
mod peer;
mod process;
mod report;
mod tables;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use projections::Shipped;
use runtime::Config;

use super::machine::{Disk, Machine, versions};
use crate::bench::peer::Peer;
use crate::bench::place::Place;
use crate::bench::telling::Outcome;
use history::Shape;
use report::{Conditions, Report};

/// Arguments of `bench rebuild`.
#[derive(Debug, Clone, clap::Args)]
pub struct RebuildBenchArgs {
    /// Projections to rebuild; may be given several times
    #[arg(long, value_name = "NAME", default_values = ["chat_head", "chat_activity", "inbox"],
        value_parser = clap::builder::PossibleValuesParser::new(Shipped::ALL.map(Shipped::name)))]
    pub projection: Vec<String>,
    /// Events of the history
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    pub events: u64,
    /// Chats that they are spread over; each lives for a tenth of the time
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub chats: u64,
    /// Members of each chat
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub members: u64,
    /// Size of each message's text
    #[arg(long, value_name = "BYTES", default_value_t = 40)]
    pub content_bytes: usize,
    /// Runs of each measurement on the same history; figures are medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Partitions of each topic
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub partitions: u16,
    /// A program that makes the aggregate of `chat_activity` of the same topic, measured beside ours; may be given several
    /// times. `bench/stream-processors` brings Flink SQL and Kafka Streams
    #[arg(long, value_name = "NAME=COMMAND")]
    pub peer: Vec<Peer>,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Runs the bench; fails if rows aren't those of the history. `servers` are processes to account for.
pub async fn run(args: &RebuildBenchArgs, config: &Config, servers: Vec<(String, u32)>) -> Result<ExitCode> {
    ensure!(args.chats >= 1 && args.members >= 1, "--chats and --members must be at least 1");
    ensure!(args.events >= 2 * args.chats, "--events must be at least twice --chats: each chat is made and spoken in");
    let place = Place::make(config, args.partitions).await?;
    let measured = measure(args, &place.config, &servers).await;
    place.unmake_or_tell().await;
    measured?.tell(args.json)
}

async fn measure(args: &RebuildBenchArgs, config: &Config, servers: &[(String, u32)]) -> Result<Report> {
    let shape =
        Shape { events: args.events, chats: args.chats, members: args.members, content_bytes: args.content_bytes };
    let written = history::write(&shape, config).await?;
    let (mut bare, mut in_memory) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        bare.push(memory::bare(config, args.events).await?);
        in_memory.push(memory::applied(config, args.events).await?);
    }
    let mut rebuilds = Vec::new();
    for name in &args.projection {
        let mut runs = Vec::new();
        for _ in 0..args.runs {
            runs.push(tables::rebuild(name, config, servers).await?);
        }
        let copy = tables::copy(name, config).await?;
        let is_right = tables::is_right(name, config).await?;
        rebuilds.push(report::Rebuild::new(name.clone(), runs, copy, is_right));
    }
    let mut peers = Vec::new();
    for (number, peer) in args.peer.iter().enumerate() {
        let mut runs = Vec::new();
        for run in 0..args.runs {
            runs.push(peer::run(peer, &format!("peer-{number}-{run}"), args.events, config, servers).await?);
        }
        peers.push(report::Beside::new(peer.name.clone(), runs));
    }
    let (bare, in_memory) = (report::Pass::new(&bare), report::Pass::new(&in_memory));
    Ok(Report {
        scenario: "rebuild",
        conditions: Conditions {
            machine: Machine::here(),
            versions: versions(config).await,
            disk: Disk::measure(None, servers),
            events: args.events,
            chats: args.chats,
            members: args.members,
            content_bytes: args.content_bytes,
            partitions: args.partitions,
            bytes_an_event: written,
            runs: args.runs,
        },
        of_bare: in_memory.events_per_s / bare.events_per_s,
        bare,
        in_memory,
        rebuilds,
        peers,
    })
}
