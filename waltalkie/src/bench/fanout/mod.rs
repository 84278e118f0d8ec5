//! `bench fanout`: events to the members of their chats who are connected, in open loop, from each event's due time to the
//! client of each socket, and what a delivery costs.
//!
//! ```text
//!   rows, written beforehand ─▶ Postgres ◀╌╌ gaps, heads ╌╌┐
//!                                                         │
//!   feed (the publisher's place) ─SPUBLISH─▶ Redis ─▶ `run gateway` ─▶ sockets ─▶ `bench readers`
//!   floor: the same frames in memory ───────────────▶ bare server ──▶ sockets ─▶ `bench readers`
//! ```
//!
//! Node, readers and floor are processes of their own. Nothing sends, decides or goes through Kafka: that whole way is
//! `bench chat`'s. What is published has its rows, so a lost event is healed as in service; only a chat's counter moves after
//! a run's last event instead of before each one, so heads find what was lost at the end, and nothing before.

mod report;
mod run;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use runtime::Config;

use super::audience::Audience;
use super::machine::{Disk, Machine, versions};
use super::place::Place;
use super::readers::Connect;
use crate::bench::telling::Outcome;
use report::{Conditions, Report};

/// Arguments of `bench fanout`.
#[derive(Debug, Clone, clap::Args)]
pub struct FanoutArgs {
    /// Connections, each a person of its own
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub connections: usize,
    /// Chats
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub chats: usize,
    /// People in each chat, all of them connected
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub members: usize,
    /// Deliveries a second, whatever becomes of earlier ones; several, with commas between, are measured one after another
    #[arg(long, value_name = "PER_S", value_delimiter = ',', default_value = "50000")]
    pub deliveries_per_s: Vec<f64>,
    /// Gateway nodes, over which the connections are spread
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nodes: usize,
    /// Seconds of load before anything is measured
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub warmup_s: f64,
    /// Seconds that are measured
    #[arg(long, value_name = "S", default_value_t = 20.0)]
    pub seconds: f64,
    /// Runs at each rate, over the same connections; figures are medians
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub runs: usize,
    /// Of 100 clients, those that stop reading before the load begins; their deliveries don't count
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..100))]
    pub stalled_percent: u8,
    /// Size of each message's text
    #[arg(long, value_name = "BYTES", default_value_t = 192)]
    pub content_bytes: usize,
    /// Handshakes a second while people come in
    #[arg(long, value_name = "PER_S", default_value_t = 500.0)]
    pub ramp_per_s: f64,
    /// Seconds to wait for the last deliveries before they count as lost
    #[arg(long, value_name = "S", default_value_t = 30.0)]
    pub drain_s: f64,
    /// Also measures a bare server that writes the same bytes to the same clients from memory, at the same rates
    #[arg(long)]
    pub floor: bool,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

impl FanoutArgs {
    fn audience(&self) -> Audience {
        Audience::new("crowd", self.connections, self.chats, self.members, self.content_bytes)
    }

    /// Deliveries of a message to every chat, of those that are read.
    fn read_each(&self, audience: &Audience) -> u64 {
        let stalls = |person| Connect::stalls(self.stalled_percent.into(), person);
        let members = (0..self.chats).flat_map(|chat| (0..self.members).map(move |place| (chat, place)));
        members.filter(|(chat, place)| !stalls(audience.member(*chat, *place))).count() as u64
    }
}

/// Runs the bench; fails if anything was lost, repeated or out of order. `servers` are processes to account for.
pub async fn run(args: &FanoutArgs, config: &Config, servers: Vec<(String, u32)>) -> Result<ExitCode> {
    ensure!(args.members >= 1 && args.members <= args.connections, "--members must be from 1 to --connections");
    ensure!(args.chats >= 1 && args.runs >= 1 && args.nodes >= 1, "--chats, --runs and --nodes must be at least 1");
    ensure!(
        args.chats <= 1_000_000 && args.connections <= 1_000_000,
        "--chats and --connections must be at most 1000000"
    );
    ensure!(
        args.seconds > 0.0 && args.ramp_per_s > 0.0 && args.deliveries_per_s.iter().all(|rate| *rate > 0.0),
        "--deliveries-per-s, --seconds and --ramp-per-s must be over 0"
    );
    ensure!(args.warmup_s >= 0.0 && args.drain_s >= 0.0, "--warmup-s and --drain-s can't be negative");
    let audience = args.audience();
    let floor = if args.floor { run::floor(args, &audience).await? } else { Vec::new() };
    let place = Place::make(config, config.kafka.partitions).await?;
    let measured = run::waltalkie(args, &audience, &place, &servers).await;
    place.unmake_or_tell().await;
    let report = Report {
        scenario: "fanout",
        conditions: Conditions {
            machine: Machine::here(),
            versions: versions(config).await,
            disk: Disk::measure(None, &servers),
            connections: args.connections,
            chats: args.chats,
            members_per_chat: args.members,
            nodes: args.nodes,
            stalled_percent: args.stalled_percent,
            content_bytes: args.content_bytes,
            warmup_s: args.warmup_s,
            seconds: args.seconds,
        },
        loads: report::loads(measured?, &floor),
    };
    report.tell(args.json)
}
