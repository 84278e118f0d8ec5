//! `bench idle`: what a connection costs that does nothing but stay, and, with `--chats-on-node`, what a chat costs that a node
//! follows, and how long it takes until all of them are heard again after Redis was restarted.
//!
//! A connection is a person's own: session, chats that are subscribed and attached, presence, heartbeats. Memory is the
//! resident memory of the node's process, before and after; the kernel's memory for sockets isn't in it. The floor is a bare
//! axum WebSocket that echoes, with the same buffers.

mod chats;
mod hold;
mod report;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use local_stack::LocalStack;
use runtime::Config;

use super::machine::{Machine, versions};
use super::place::Place;
use crate::bench::telling::Outcome;
use report::{Conditions, Report};

/// Arguments of `bench idle`.
#[derive(Debug, Clone, clap::Args)]
pub struct IdleArgs {
    /// Connections, each a person of its own
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub connections: usize,
    /// Chats that each person is in
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub chats_each: usize,
    /// People in each chat, all of them connected
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub members: usize,
    /// Handshakes a second while people come in
    #[arg(long, value_name = "PER_S", default_value_t = 500.0)]
    pub ramp_per_s: f64,
    /// Seconds until memory is looked at: everything of the arrival has passed by then
    #[arg(long, value_name = "S", default_value_t = 20.0)]
    pub settle_s: f64,
    /// Seconds after that in which CPU time is measured
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// Runs, each with a node of its own; figures are medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Also measures a bare WebSocket echo with as many connections
    #[arg(long)]
    pub floor: bool,
    /// Also lets a node follow so many chats and, with --own-stack, restarts Redis under it
    #[arg(long, value_name = "N")]
    pub chats_on_node: Option<usize>,
    /// Of these, chats in which something is said while Redis is away
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "chats_on_node")]
    pub missed: usize,
    /// Seconds for which Redis is away at least
    #[arg(long, value_name = "S", default_value_t = 1.0, requires = "chats_on_node")]
    pub away_s: f64,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Runs the bench; fails if a connection didn't stay, or an event was lost, repeated or out of order. `stack` is whose Redis
/// may be restarted.
pub async fn run(
    args: &IdleArgs,
    config: &Config,
    servers: Vec<(String, u32)>,
    stack: Option<&mut LocalStack>,
) -> Result<ExitCode> {
    ensure!(args.members >= 1 && args.members <= args.connections, "--members must be from 1 to --connections");
    ensure!(
        args.chats_each >= 1 && args.connections <= 1_000_000,
        "--chats-each must be at least 1, --connections at most 1000000"
    );
    ensure!(args.ramp_per_s > 0.0 && args.seconds > 0.0, "--ramp-per-s and --seconds must be over 0");
    ensure!(args.settle_s >= 0.0 && args.away_s >= 0.0, "--settle-s and --away-s can't be negative");
    let mut floors = Vec::new();
    let mut runs = Vec::new();
    for _ in 0..args.runs {
        if args.floor {
            floors.push(hold::floor(args).await?);
        }
        let place = Place::make(config, config.kafka.partitions).await?;
        let held = hold::waltalkie(args, &place, &servers).await;
        place.unmake_or_tell().await;
        runs.push(held?);
    }
    let chats_on_node = match args.chats_on_node {
        Some(chats) => {
            ensure!(
                args.missed < chats && chats <= 1_000_000,
                "--missed must be below --chats-on-node, which is at most 1000000"
            );
            let place = Place::make(config, config.kafka.partitions).await?;
            let followed = chats::run(args, chats, &place, stack).await;
            place.unmake_or_tell().await;
            Some(followed?)
        }
        None => None,
    };
    let conditions = Conditions {
        machine: Machine::here(),
        versions: versions(config).await,
        connections: args.connections,
        chats_each: args.chats_each,
        members_per_chat: args.members,
        heartbeat_ms: config.gateway.heartbeat_ms,
        settle_s: args.settle_s,
        seconds: args.seconds,
    };
    let report = Report::new(conditions, runs, &floors, chats_on_node);
    report.tell(args.json)
}
