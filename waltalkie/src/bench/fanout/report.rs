//! What `bench fanout` says: one JSON object for programs, a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::run::Loads;
use crate::bench::bare;
use crate::bench::figures::{Percentiles, median, medians_by_role, peaks_by_role, round};
use crate::bench::machine::{self, Disk, Machine};
use crate::bench::node;
use crate::bench::processes::Usage;
use crate::bench::readers;
use crate::bench::telling::{self, Outcome, mib};

/// The whole outcome.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) scenario: &'static str,
    pub(super) conditions: Conditions,
    /// By rate.
    pub(super) loads: Vec<Load>,
}

/// Under which conditions it ran.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    pub(super) machine: Machine,
    pub(super) versions: BTreeMap<String, String>,
    pub(super) disk: Option<Disk>,
    pub(super) connections: usize,
    pub(super) chats: usize,
    pub(super) members_per_chat: usize,
    pub(super) nodes: usize,
    pub(super) stalled_percent: u8,
    pub(super) content_bytes: usize,
    pub(super) warmup_s: f64,
    pub(super) seconds: f64,
}

/// One rate: medians of its runs, faults added up, and the floor's.
#[derive(Debug, Serialize)]
pub(super) struct Load {
    #[serde(flatten)]
    figures: Figures,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runs: Vec<Figures>,
    /// The same frames at the same times to the same clients from a server that has them in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<Figures>,
    /// The node's CPU time for a delivery over the floor's.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_over_floor: Option<f64>,
}

/// What a run came to.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Figures {
    /// Due → read by the client's socket.
    #[serde(flatten)]
    latency: Percentiles,
    /// Due → taken by Redis: the bench's own delay, part of the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    handed: Option<Percentiles>,
    offered_deliveries_per_s: f64,
    /// Over the measured part, the wait for the last one included.
    deliveries_per_s: f64,
    deliveries: u64,
    frame_bytes: u64,
    lost: u64,
    repeated: u64,
    out_of_order: u64,
    closed_connections: u64,
    seconds: f64,
    drain_s: f64,
    /// Microseconds of CPU time for a delivery, by role.
    cpu_us_per_delivery: BTreeMap<String, f64>,
    cpu_s: BTreeMap<String, f64>,
    peak_rss_bytes: BTreeMap<String, u64>,
    stolen_cpu_s: f64,
    busy_cpu_s: f64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    read_again: BTreeMap<&'static str, u64>,
}

/// What a run took, beside what readers know.
pub(super) struct Ran {
    pub(super) measured_s: f64,
    pub(super) drain_s: f64,
    pub(super) usage: Usage,
    pub(super) handed: Option<Percentiles>,
    pub(super) read_again: BTreeMap<&'static str, u64>,
}

impl Figures {
    pub(super) fn new(offered_deliveries_per_s: f64, expected: u64, outcome: &readers::Outcome, ran: Ran) -> Self {
        let Usage { cpu_s, peak_rss_bytes, stolen_cpu_s, busy_cpu_s, .. } = ran.usage;
        let of_one = |cpu_s: f64| round(cpu_s * 1_000_000.0 / outcome.measured.max(1) as f64);
        Self {
            latency: outcome.latency,
            handed: ran.handed,
            offered_deliveries_per_s,
            deliveries_per_s: round(outcome.measured as f64 / (ran.measured_s + ran.drain_s).max(0.001)),
            deliveries: outcome.measured,
            frame_bytes: outcome.frame_bytes,
            lost: expected.saturating_sub(outcome.received),
            repeated: outcome.repeated,
            out_of_order: outcome.out_of_order,
            closed_connections: outcome.closed_connections,
            seconds: round(ran.measured_s),
            drain_s: round(ran.drain_s),
            cpu_us_per_delivery: cpu_s.iter().map(|(role, cpu_s)| (role.clone(), of_one(*cpu_s))).collect(),
            cpu_s,
            peak_rss_bytes,
            stolen_cpu_s,
            busy_cpu_s,
            read_again: ran.read_again,
        }
    }

    /// The median of each figure; faults are added up, since each of them counts.
    fn medians(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(runs.iter().map(figure));
        let sum = |count: fn(&Self) -> u64| runs.iter().map(count).sum();
        let percentiles = |of: fn(&Self) -> Option<Percentiles>| -> Option<Percentiles> {
            let runs: Option<Vec<Percentiles>> = runs.iter().map(of).collect();
            runs.map(|runs| Percentiles::medians(&runs))
        };
        let mut read_again: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (what, count) in runs.iter().flat_map(|run| &run.read_again) {
            *read_again.entry(what).or_default() += count;
        }
        Self {
            latency: percentiles(|run| Some(run.latency)).unwrap_or_default(),
            handed: percentiles(|run| run.handed),
            offered_deliveries_per_s: of(|run| run.offered_deliveries_per_s),
            deliveries_per_s: of(|run| run.deliveries_per_s),
            deliveries: sum(|run| run.deliveries),
            frame_bytes: runs.first().map_or(0, |run| run.frame_bytes),
            lost: sum(|run| run.lost),
            repeated: sum(|run| run.repeated),
            out_of_order: sum(|run| run.out_of_order),
            closed_connections: sum(|run| run.closed_connections),
            seconds: of(|run| run.seconds),
            drain_s: of(|run| run.drain_s),
            cpu_us_per_delivery: medians_by_role(runs, |run| &run.cpu_us_per_delivery),
            cpu_s: medians_by_role(runs, |run| &run.cpu_s),
            peak_rss_bytes: peaks_by_role(runs, |run| &run.peak_rss_bytes),
            stolen_cpu_s: of(|run| run.stolen_cpu_s),
            busy_cpu_s: of(|run| run.busy_cpu_s),
            read_again,
        }
    }
}

/// Rates with their floors, which are those of the same rates or none.
pub(super) fn loads(measured: Loads, floors: &[Vec<Figures>]) -> Vec<Load> {
    let floors = floors.iter().map(|runs| Some(Figures::medians(runs))).chain(std::iter::repeat(None));
    measured.into_iter().zip(floors).map(|(runs, floor)| Load::new(runs, floor)).collect()
}

impl Load {
    fn new(runs: Vec<Figures>, floor: Option<Figures>) -> Self {
        let figures = Figures::medians(&runs);
        let of_role = |figures: &Figures, role| figures.cpu_us_per_delivery.get(role).copied();
        let bare = floor.as_ref().and_then(|floor| of_role(floor, bare::ROLE)).filter(|cpu_us| *cpu_us > 0.0);
        let cpu_over_floor = bare.zip(of_role(&figures, node::ROLE)).map(|(bare, ours)| round(ours / bare));
        Self { figures, runs: if runs.len() > 1 { runs } else { Vec::new() }, floor, cpu_over_floor }
    }
}

impl Outcome for Report {
    /// Whether each event reached each member once and in order. How the floor fared is its own matter.
    fn is_right(&self) -> bool {
        self.loads.iter().all(|Load { figures, .. }| figures.lost + figures.repeated + figures.out_of_order == 0)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let conditions = &self.conditions;
        writeln!(
            out,
            "{} connections to {} node(s), {} % of them stalled, {} chats of {}, {} bytes, {} s after {} s",
            conditions.connections,
            conditions.nodes,
            conditions.stalled_percent,
            conditions.chats,
            conditions.members_per_chat,
            conditions.content_bytes,
            conditions.seconds,
            conditions.warmup_s
        )?;
        writeln!(out, "{}", machine::line(&conditions.machine, conditions.disk.as_ref(), &conditions.versions))?;
        for load in &self.loads {
            load.write(out)?;
        }
        Ok(())
    }
}

impl Load {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let figures = &self.figures;
        writeln!(
            out,
            "\n{:.0} deliveries/s offered, {:.0}/s made, frames of {} bytes; the last came {:.2} s after the last event",
            figures.offered_deliveries_per_s, figures.deliveries_per_s, figures.frame_bytes, figures.drain_s
        )?;
        if let Some(p99s) = telling::each(&self.runs, |run| format!("{:.1}", run.latency.p99_ms)) {
            writeln!(out, "medians of {} runs (p99 of each: {p99s} ms)", self.runs.len())?;
        }
        let rows = [
            ("to the clients' sockets", Some(&figures.latency)),
            ("to Redis (the bench itself)", figures.handed.as_ref()),
            ("floor: from memory", self.floor.as_ref().map(|floor| &floor.latency)),
        ];
        telling::percentiles(out, "from due time, ms", &rows)?;
        writeln!(out, "{:<34}{:>14}{:>12}{:>12}", "", "µs a delivery", "CPU s", "peak MiB")?;
        let floor = self.floor.iter().flat_map(|floor| floor.rows().filter(|(role, ..)| *role == bare::ROLE));
        for (role, cpu_us, cpu_s, peak) in figures.rows().chain(floor) {
            writeln!(out, "{role:<34}{cpu_us:>14.2}{cpu_s:>12.2}{:>12.0}", mib(peak))?;
        }
        if let Some(ratio) = self.cpu_over_floor {
            writeln!(out, "the node's CPU time for a delivery is {ratio:.2} times the floor's")?;
        }
        writeln!(
            out,
            "lost {}, repeated {}, out of order {}, connections closed {}",
            figures.lost, figures.repeated, figures.out_of_order, figures.closed_connections
        )?;
        telling::read_again(out, &figures.read_again)
    }
}

impl Figures {
    fn rows(&self) -> impl Iterator<Item = (&str, f64, f64, u64)> {
        self.cpu_s.iter().map(|(role, cpu_s)| {
            let cpu_us = self.cpu_us_per_delivery.get(role).copied().unwrap_or(0.0);
            (role.as_str(), cpu_us, *cpu_s, self.peak_rss_bytes.get(role).copied().unwrap_or(0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(role: &str, cpu_s: f64, received: u64) -> Figures {
        let usage = Usage { cpu_s: BTreeMap::from([(role.to_owned(), cpu_s)]), ..Usage::default() };
        let outcome = readers::Outcome { received, measured: 1_000_000, ..readers::Outcome::default() };
        let ran = Ran { measured_s: 10.0, drain_s: 0.0, usage, handed: None, read_again: BTreeMap::new() };
        Figures::new(100_000.0, 1_200_000, &outcome, ran)
    }

    #[test]
    fn what_a_delivery_costs_is_told_beside_the_floor() {
        let loads = loads(
            vec![vec![figures(node::ROLE, 4.0, 1_200_000), figures(node::ROLE, 5.0, 1_199_990)]],
            &[vec![figures(bare::ROLE, 3.0, 1_200_000)]],
        );
        let load = &loads[0];
        assert_eq!((load.figures.cpu_us_per_delivery[node::ROLE], load.cpu_over_floor), (4.5, Some(1.5)));
        assert_eq!((load.figures.lost, load.figures.deliveries, load.runs.len()), (10, 2_000_000, 2));
    }
}
