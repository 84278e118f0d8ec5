//! The worker and its peers in one table.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use crate::bench::telling::mib;

use super::ledger::Counted;
use super::peer::ROLE;
use super::report::{Costs, Speed};
use crate::bench::figures::median;

/// What a peer took for a backlog. As for the worker: medians, peaks of all runs, what was read back over all runs.
#[derive(Debug, Serialize)]
pub(super) struct Beside {
    name: String,
    /// Why it wasn't run to the end; the figures are those of the runs before.
    failure: Option<String>,
    events_per_s: Option<f64>,
    runs: Vec<Speed>,
    cpu_s_per_million: BTreeMap<String, f64>,
    peak_rss_bytes: u64,
    counted: Counted,
    #[serde(skip)]
    costs: Vec<Costs>,
}

impl Beside {
    /// Before its first run.
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            failure: None,
            events_per_s: None,
            runs: Vec::new(),
            cpu_s_per_million: BTreeMap::new(),
            peak_rss_bytes: 0,
            counted: Counted::default(),
            costs: Vec::new(),
        }
    }

    /// With one more run. One that failed doesn't cost the others their figures.
    pub(super) fn add(&mut self, run: Result<(Speed, Costs, Counted)>, events: u64) {
        let (speed, costs, counted) = match run {
            Ok(run) => run,
            Err(error) => {
                eprintln!("{error:#}");
                self.failure = Some(format!("{error:#}"));
                return;
            }
        };
        self.runs.push(speed);
        self.costs.push(costs);
        self.counted.add(&counted);
        self.events_per_s = Some(median(self.runs.iter().map(|speed| speed.events_per_s)));
        self.cpu_s_per_million = Costs::cpu_s_per_million(&self.costs, events);
        self.peak_rss_bytes = Costs::peak_rss_bytes(&self.costs);
    }

    pub(super) const fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether it drained all, once and in order, in each run.
    pub(super) const fn is_right(&self) -> bool {
        !self.has_failed() && self.counted.is_right()
    }
}

/// A row of the table: the worker's figures have other names than a peer's.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) role: &'a str,
    pub(super) events_per_s: Option<f64>,
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
            "  {:<38}{:>10}{:>9}{:>9}{:>12}{:>9.0}{:>8}{:>10}{:>14}",
            line.name,
            line.events_per_s.map_or_else(|| "-".to_owned(), |events_per_s| format!("{events_per_s:.0}")),
            cpu_s(line.role),
            cpu_s("kafka"),
            cpu_s("postgres"),
            mib(line.peak_rss_bytes),
            counted.lost,
            counted.repeated,
            counted.out_of_order
        )?;
    }
    for peer in peers {
        if let Some(failure) = &peer.failure {
            writeln!(out, "  {} failed after {} runs: {failure}", peer.name, peer.runs.len())?;
        }
    }
    Ok(())
}
