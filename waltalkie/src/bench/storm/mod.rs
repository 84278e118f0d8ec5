//! `bench storm`: a node is killed, and all of its clients come to another one at once.
//!
//! ```text
//!   crowd (`bench readers`) ══▶ node A ✗ kill -9
//!        ╚═══ all at once, with cursors ═══▶ node B ◀── others (`bench readers`), who get messages all the time
//! ```
//!
//! While the crowd is away something is said in each of its chats, so that everybody has something to be resumed. Each client
//! comes back as the contract asks: after a random 100 to 200 ms, later if it is refused, with `Retry-After` where that is said.
//! A client is back once it knows its chats and has all that it missed. Node B's other clients show what the crowd costs them,
//! PostgreSQL's own counters what it is asked. The floor is the same crowd between two bare servers that resume from memory.

mod reads;
mod report;
mod run;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use runtime::Config;

use super::machine::{Disk, Machine, versions};
use super::place::Place;
use crate::bench::telling::Outcome;
use report::{Conditions, Report};

/// Arguments of `bench storm`.
#[derive(Debug, Clone, clap::Args)]
pub struct StormArgs {
    /// Clients of the node that is killed, each a person of its own
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub clients: usize,
    /// Chats that each of them is in
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub chats_each: usize,
    /// People in each chat
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub members: usize,
    /// Messages that each chat gets while they are away
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub missed: usize,
    /// Clients that are at the other node already, in chats of ten
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub others: usize,
    /// Messages a second to those others, whatever becomes of earlier ones
    #[arg(long, value_name = "PER_S", default_value_t = 100.0)]
    pub rate: f64,
    /// Seconds of those messages before the node is killed
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub calm_s: f64,
    /// Seconds of those messages after it
    #[arg(long, value_name = "S", default_value_t = 15.0)]
    pub seconds: f64,
    /// Seconds until PostgreSQL's processes have told all that they did: it is waited for so long before and after
    #[arg(long, value_name = "S", default_value_t = 11.0)]
    pub settle_s: f64,
    /// Handshakes a second while people come in
    #[arg(long, value_name = "PER_S", default_value_t = 500.0)]
    pub ramp_per_s: f64,
    /// Runs, each with nodes of its own; figures are medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Also measures the same crowd between two bare servers
    #[arg(long)]
    pub floor: bool,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Runs the bench; fails if anybody didn't come back, or something was lost, repeated or out of order. `servers` are processes
/// to account for.
pub async fn run(args: &StormArgs, config: &Config, servers: Vec<(String, u32)>) -> Result<ExitCode> {
    ensure!(args.members >= 1 && args.members <= args.clients, "--members must be from 1 to --clients");
    ensure!(
        args.chats_each >= 1 && args.clients <= 1_000_000,
        "--chats-each must be at least 1, --clients at most 1000000"
    );
    ensure!(args.others >= 10, "--others must be at least 10");
    ensure!(
        args.rate > 0.0 && args.seconds > 0.0 && args.calm_s > 0.0 && args.ramp_per_s > 0.0,
        "--rate, --seconds, --calm-s and --ramp-per-s must be over 0"
    );
    ensure!(args.settle_s >= 0.0, "--settle-s can't be negative");
    let (mut runs, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        if args.floor {
            floors.push(run::floor(args).await?);
        }
        let place = Place::make(config, config.kafka.partitions).await?;
        let storm = run::waltalkie(args, &place, &servers).await;
        place.unmake_or_tell().await;
        runs.push(storm?);
    }
    let conditions = Conditions {
        machine: Machine::here(),
        versions: versions(config).await,
        disk: Disk::measure(None, &servers),
        clients: args.clients,
        chats_each: args.chats_each,
        members_per_chat: args.members,
        missed_each: args.missed,
        others: args.others,
        rate_per_s: args.rate,
    };
    let report = Report::new(conditions, runs, &floors);
    report.tell(args.json)
}
