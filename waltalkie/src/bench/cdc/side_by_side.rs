//! The worker and its peers in one table.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::ledger::Counted;
use super::peer::ROLE;
use super::report::{Costs, Speed};
use crate::bench::figures::median;

/// What a peer took for a backlog. As for the worker: medians, peaks of all runs, what was read back over all runs.
#[derive(Debug, Serialize)]
pub(super) struct Beside {
    name: String,
    events_per_s: f64,
    runs: Vec<Speed>,
    cpu_s_per_million: BTreeMap<String, f64>,
    peak_rss_bytes: u64,
    pub(super) counted: Counted,
}

impl Beside {
    pub(super) fn new(name: &str, events: u64, drains: &[(Speed, Costs, Counted)]) -> Self {
        let costs: Vec<Costs> = drains.iter().map(|(_, costs, _)| costs.clone()).collect();
        let mut counted = Counted::default();
        for (_, _, drain) in drains {
            counted.add(drain);
        }
        Self {
            name: name.to_owned(),
            events_per_s: median(drains.iter().map(|(speed, _, _)| speed.events_per_s)),
            runs: drains.iter().map(|(speed, _, _)| *speed).collect(),
            cpu_s_per_million: Costs::cpu_s_per_million(&costs, events),
            peak_rss_bytes: Costs::peak_rss_bytes(&costs),
            counted,
        }
    }
}

/// A row of the table: the worker's figures have other names than a peer's.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) role: &'a str,
    pub(super) events_per_s: f64,
    pub(super) cpu_s_per_million: &'a BTreeMap<String, f64>,
    pub(super) peak_rss_bytes: u64,
    pub(super) counted: &'a Counted,
}

impl<'a> From<&'a Beside> for Line<'a> {
    fn from(peer: &'a Beside) -> Self {
        Self {
            name: &peer.name,
            role: ROLE,
            events_per_s: peer.events_per_s,
            cpu_s_per_million: &peer.cpu_s_per_million,
            peak_rss_bytes: peer.peak_rss_bytes,
            counted: &peer.counted,
        }
    }
}

/// Writes the table; nothing where there are no peers.
pub(super) fn write(out: &mut String, worker: Line<'_>, peers: &[Beside]) -> std::fmt::Result {
    if peers.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n  {:<38}{:>10}   CPU s for 1,000,000 events{:>14}", "side by side", "", "peak")?;
    writeln!(
        out,
        "  {:<38}{:>10}{:>9}{:>9}{:>12}{:>9}{:>8}{:>10}{:>14}",
        "", "events/s", "itself", "kafka", "postgres", "MiB", "lost", "repeated", "out of order"
    )?;
    for line in std::iter::once(worker).chain(peers.iter().map(Line::from)) {
        let cpu_s = |role: &str| {
            // A server that isn't on this machine, or wasn't started by this bench.
            line.cpu_s_per_million.get(role).map_or_else(|| "-".to_owned(), |cpu_s| format!("{cpu_s:.2}"))
        };
        let counted = line.counted;
        writeln!(
            out,
            "  {:<38}{:>10.0}{:>9}{:>9}{:>12}{:>9.0}{:>8}{:>10}{:>14}",
            line.name,
            line.events_per_s,
            cpu_s(line.role),
            cpu_s("kafka"),
            cpu_s("postgres"),
            line.peak_rss_bytes as f64 / 1_048_576.0,
            counted.lost,
            counted.repeated,
            counted.out_of_order
        )?;
    }
    Ok(())
}
