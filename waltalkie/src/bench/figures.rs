//! A run in numbers, and the medians of several.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::ledger::{Faults, Latencies, Ledger};
use super::pacer::Ran;
use super::stages::Stage;

/// Percentiles, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_field_names, reason = "the contract's own field names")]
pub(crate) struct Percentiles {
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Percentiles {
    fn of(latencies: &Mutex<Latencies>) -> Self {
        Self::of_latencies(&latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn of_latencies(latencies: &Latencies) -> Self {
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
        Self { p50_ms: at(0.50), p95_ms: at(0.95), p99_ms: at(0.99), max_ms: latencies.max() as f64 / 1_000.0 }
    }

    /// The median of each figure.
    pub(crate) fn medians(runs: &[Self]) -> Self {
        let mut medians = Self::default();
        for (place, part) in medians.parts().into_iter().enumerate() {
            *part = median(runs.iter().map(|run| *run.clone().parts()[place]));
        }
        medians
    }

    fn parts(&mut self) -> [&mut f64; 4] {
        [&mut self.p50_ms, &mut self.p95_ms, &mut self.p99_ms, &mut self.max_ms]
    }
}

/// What a run came to.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figures {
    /// Due → on another member's screen.
    #[serde(flatten)]
    pub(crate) screen: Percentiles,
    /// Due → first ack.
    pub(crate) accepted: Percentiles,
    /// Due → second ack.
    pub(crate) persisted: Percentiles,
    /// First ack → second ack.
    pub(crate) accepted_to_persisted: Percentiles,
    /// Due → handed to the client's task: the bench's own delay, part of all others.
    pub(crate) handed: Percentiles,
    pub(crate) offered_per_s: f64,
    /// Messages persisted a second, from the first one due to the last one persisted.
    pub(crate) persisted_per_s: f64,
    pub(crate) deliveries_per_s: f64,
    pub(crate) sent: u64,
    pub(crate) persisted_messages: u64,
    pub(crate) deliveries: u64,
    pub(crate) refused: u64,
    pub(crate) postponed: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) out_of_order: u64,
    pub(crate) altered: u64,
    pub(crate) unanswered: u64,
    /// Jumps of `seq` that clients mended by a resume.
    pub(crate) gaps: u64,
    pub(crate) closed_connections: u64,
    /// Length of the measured part, without the wait for the last deliveries.
    pub(crate) seconds: f64,
    pub(crate) drain_s: f64,
    /// By role, over the measured part and the wait.
    pub(crate) cpu_s: BTreeMap<String, f64>,
    pub(crate) peak_rss_bytes: BTreeMap<String, u64>,
    pub(crate) stolen_cpu_s: f64,
    pub(crate) busy_cpu_s: f64,
    /// Means of the stages of a message's way, in its order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) stages: Vec<Stage>,
    /// Reads of events that the usual way didn't bring.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) read_again: BTreeMap<&'static str, u64>,
}

impl Figures {
    pub(crate) fn of(ledger: &Ledger, number: usize, rate_per_s: f64, ran: Ran) -> (Self, Faults) {
        let (run, faults) = (ledger.run(number), ledger.faults(number));
        let persisted = run.persisted_count.load(Relaxed);
        let took_s = run.last_persisted_us.load(Relaxed) as f64 / 1_000_000.0;
        let planned_s = ledger.plan.sizes.messages_per_run as f64 / rate_per_s;
        let per_s = |count: u64| round(count as f64 / took_s.max(planned_s).max(0.001));
        let deliveries = run.shown_count.load(Relaxed);
        let figures = Self {
            screen: Percentiles::of(&run.screen),
            accepted: Percentiles::of(&run.accepted),
            persisted: Percentiles::of(&run.persisted),
            accepted_to_persisted: Percentiles::of(&run.accepted_to_persisted),
            handed: Percentiles::of(&run.handed),
            offered_per_s: rate_per_s,
            persisted_per_s: per_s(persisted),
            deliveries_per_s: per_s(deliveries),
            sent: run.sent_count.load(Relaxed),
            persisted_messages: persisted,
            deliveries,
            refused: run.refused_count.load(Relaxed),
            postponed: run.postponed_count.load(Relaxed),
            lost: faults.lost,
            repeated: faults.repeated,
            out_of_order: faults.out_of_order,
            altered: faults.altered,
            unanswered: faults.unanswered,
            gaps: run.gap_count.load(Relaxed),
            closed_connections: run.closed_count.load(Relaxed),
            seconds: round(ran.measured.as_secs_f64()),
            drain_s: round(ran.drained.as_secs_f64()),
            cpu_s: ran.usage.cpu_s,
            peak_rss_bytes: ran.usage.peak_rss_bytes,
            stolen_cpu_s: ran.usage.stolen_cpu_s,
            busy_cpu_s: ran.usage.busy_cpu_s,
            stages: ran.usage.stages,
            read_again: ran.usage.read_again,
        };
        (figures, faults)
    }

    /// The median of each figure; faults are added up, since each of them counts.
    pub(crate) fn medians(runs: &[Self]) -> Self {
        let Some(first) = runs.first() else { return Self::default() };
        let mut medians = first.clone();
        let percentiles: [fn(&mut Self) -> &mut Percentiles; 5] = [
            |run| &mut run.screen,
            |run| &mut run.accepted,
            |run| &mut run.persisted,
            |run| &mut run.accepted_to_persisted,
            |run| &mut run.handed,
        ];
        for of in percentiles {
            let of_runs: Vec<Percentiles> = runs.iter().map(|run| *of(&mut run.clone())).collect();
            *of(&mut medians) = Percentiles::medians(&of_runs);
        }
        let numbers: [fn(&mut Self) -> &mut f64; 6] = [
            |run| &mut run.persisted_per_s,
            |run| &mut run.deliveries_per_s,
            |run| &mut run.seconds,
            |run| &mut run.drain_s,
            |run| &mut run.stolen_cpu_s,
            |run| &mut run.busy_cpu_s,
        ];
        for of in numbers {
            *of(&mut medians) = median(runs.iter().map(|run| *of(&mut run.clone())));
        }
        let sums: [fn(&mut Self) -> &mut u64; 12] = [
            |run| &mut run.sent,
            |run| &mut run.persisted_messages,
            |run| &mut run.deliveries,
            |run| &mut run.refused,
            |run| &mut run.postponed,
            |run| &mut run.lost,
            |run| &mut run.repeated,
            |run| &mut run.out_of_order,
            |run| &mut run.altered,
            |run| &mut run.unanswered,
            |run| &mut run.gaps,
            |run| &mut run.closed_connections,
        ];
        for of in sums {
            *of(&mut medians) = runs.iter().map(|run| *of(&mut run.clone())).sum();
        }
        medians.cpu_s = medians_by_role(runs, |run| &run.cpu_s);
        medians.peak_rss_bytes = peaks_by_role(runs, |run| &run.peak_rss_bytes);
        for Stage { stage, mean_ms } in &mut medians.stages {
            let same = runs.iter().flat_map(|run| &run.stages).filter(|other| other.stage == *stage);
            *mean_ms = median(same.map(|other| other.mean_ms));
        }
        for (what, count) in &mut medians.read_again {
            *count = runs.iter().filter_map(|run| run.read_again.get(what)).sum();
        }
        medians
    }
}

/// The median of each role's.
pub(super) fn medians_by_role<T>(runs: &[T], of: fn(&T) -> &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let roles: BTreeSet<&String> = runs.iter().flat_map(|run| of(run).keys()).collect();
    let of_role = |role: &String| median(runs.iter().filter_map(|run| of(run).get(role).copied()));
    roles.into_iter().map(|role| (role.clone(), of_role(role))).collect()
}

/// The highest of each role's.
pub(super) fn peaks_by_role<T>(runs: &[T], of: fn(&T) -> &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut peaks = BTreeMap::new();
    for (role, bytes) in runs.iter().flat_map(of) {
        let peak = peaks.entry(role.clone()).or_insert(*bytes);
        *peak = (*peak).max(*bytes);
    }
    peaks
}

/// The median; 0 of nothing.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => round(f64::midpoint(values[count / 2 - 1], values[count / 2])),
    }
}

pub(super) fn round(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_per_figure_and_faults_add_up() {
        let run = |p95_ms, lost, cpu| Figures {
            screen: Percentiles { p95_ms, ..Percentiles::default() },
            accepted_to_persisted: Percentiles { p50_ms: p95_ms / 10.0, ..Percentiles::default() },
            lost,
            cpu_s: BTreeMap::from([("redis".to_owned(), cpu)]),
            ..Figures::default()
        };
        let medians = Figures::medians(&[run(30.0, 1, 3.0), run(10.0, 0, 1.0), run(20.0, 4, 2.0)]);
        let seen = format!("{} {} {}", medians.screen.p95_ms, medians.lost, medians.cpu_s["redis"]);
        assert_eq!(seen, "20 5 2");
        assert!((medians.accepted_to_persisted.p50_ms - 2.0).abs() < 1e-9);
        let between = Figures::medians(&[run(10.0, 0, 0.0), run(20.0, 0, 0.0)]).screen.p95_ms;
        assert!((between - 15.0).abs() < 1e-9);
    }
}
