//! What `bench cdc` says: one JSON object for programs, a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::ledger::Counted;
use super::on_disk::OnDisk;
use super::side_by_side::{self, Beside, Line};
use super::takeover::Takeovers;
use crate::bench::figures::{Percentiles, median};
use crate::bench::machine::{self, Disk, Machine};
use crate::bench::telling::{self, Outcome, mib};

/// The whole outcome.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) scenario: &'static str,
    pub(super) conditions: Conditions,
    pub(super) drains: Vec<Drain>,
    pub(super) latencies: Vec<Latency>,
    pub(super) on_disk: Vec<OnDisk>,
    pub(super) takeovers: Vec<Takeovers>,
}

/// Under which conditions it ran.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    pub(super) machine: Machine,
    pub(super) versions: BTreeMap<String, String>,
    pub(super) disk: Option<Disk>,
    pub(super) content_bytes: usize,
    pub(super) chats: u64,
    pub(super) partitions: u16,
    pub(super) compression: &'static str,
    pub(super) runs: usize,
}

/// One drain.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Speed {
    pub(super) seconds: f64,
    pub(super) events_per_s: f64,
}

impl Costs {
    /// CPU seconds for 1,000,000 events by role, medians of runs.
    pub(super) fn cpu_s_per_million(runs: &[Self], events: u64) -> BTreeMap<String, f64> {
        let millions = events as f64 / 1_000_000.0;
        let roles = runs.first().map(|run| run.cpu_s.keys()).into_iter().flatten();
        let of_role =
            |role: &String| median(runs.iter().map(|run| run.cpu_s.get(role).copied().unwrap_or(0.0) / millions));
        roles.map(|role| (role.clone(), of_role(role))).collect()
    }

    /// The most of all runs.
    pub(super) fn peak_rss_bytes(runs: &[Self]) -> u64 {
        runs.iter().map(|run| run.peak_rss_bytes).max().unwrap_or(0)
    }
}

/// What others did in the same runs; none where they were left out.
#[derive(Debug, Default)]
pub(super) struct References {
    pub(super) null_reader: Vec<Speed>,
    pub(super) null_reader_in_pieces: Vec<Speed>,
    pub(super) bare_producer: Vec<Speed>,
}

/// What a drain of the worker took.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Costs {
    pub(super) cpu_s: BTreeMap<String, f64>,
    pub(super) peak_rss_bytes: u64,
    pub(super) transactions: u64,
    pub(super) busy_cpu_s: f64,
}

/// A drained backlog.
#[derive(Debug, Serialize)]
pub(super) struct Drain {
    workload: &'static str,
    events: u64,
    /// Median.
    events_per_s: f64,
    runs: Vec<Speed>,
    /// CPU seconds for 1,000,000 events by role, medians.
    cpu_s_per_million: BTreeMap<String, f64>,
    /// The most of all runs.
    peak_rss_bytes: u64,
    /// Kafka transactions, median.
    transactions: f64,
    /// Over all runs.
    counted: Counted,
    /// `logical_decoding_work_mem` of the slot's server, as it writes it.
    decoding_memory: String,
    null_reader_per_s: Option<f64>,
    /// The same with `streaming`, which sends large transactions in pieces while they are open.
    null_reader_in_pieces_per_s: Option<f64>,
    bare_producer_per_s: Option<f64>,
    /// Ours over each reference.
    of_null_reader: Option<f64>,
    of_bare_producer: Option<f64>,
    /// Other programs that drained the same backlog.
    peers: Vec<Beside>,
}

impl Drain {
    pub(super) fn new(
        workload: &'static str,
        events: u64,
        runs: Vec<Speed>,
        costs: &[Costs],
        counted: Counted,
        references: &References,
    ) -> Self {
        let speed = |runs: &[Speed]| median(runs.iter().map(|run| run.events_per_s));
        let events_per_s = speed(&runs);
        let References { null_reader, null_reader_in_pieces, bare_producer } = references;
        let [null_reader_per_s, null_reader_in_pieces_per_s, bare_producer_per_s] =
            [null_reader, null_reader_in_pieces, bare_producer].map(|runs| (!runs.is_empty()).then(|| speed(runs)));
        Self {
            workload,
            events,
            events_per_s,
            runs,
            cpu_s_per_million: Costs::cpu_s_per_million(costs, events),
            peak_rss_bytes: Costs::peak_rss_bytes(costs),
            transactions: median(costs.iter().map(|cost| cost.transactions as f64)),
            counted,
            null_reader_per_s,
            null_reader_in_pieces_per_s,
            bare_producer_per_s,
            of_null_reader: null_reader_per_s.map(|reference| events_per_s / reference),
            of_bare_producer: bare_producer_per_s.map(|reference| events_per_s / reference),
            decoding_memory: String::new(),
            peers: Vec::new(),
        }
    }

    /// With the server's memory for decoding, and peers.
    pub(super) fn with(self, decoding_memory: String, peers: Vec<Beside>) -> Self {
        Self { decoding_memory, peers, ..self }
    }
}

/// From commit to consumer.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) workload: &'static str,
    pub(super) commits_per_s: f64,
    /// Medians of the runs.
    #[serde(flatten)]
    pub(super) figures: Percentiles,
    pub(super) runs: Vec<Percentiles>,
    pub(super) bare_producer: Option<Percentiles>,
    pub(super) cpu_s: Option<BTreeMap<String, f64>>,
}

impl Outcome for Report {
    /// Whether nothing was lost, repeated or out of order, and no peer failed.
    fn is_right(&self) -> bool {
        self.drains.iter().all(|drain| drain.counted.is_right() && drain.peers.iter().all(Beside::is_right))
            && self.takeovers.iter().all(Takeovers::is_right)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let conditions = &self.conditions;
        writeln!(
            out,
            "{} bytes, {} chats, {} partitions, {}, medians of {} runs",
            conditions.content_bytes, conditions.chats, conditions.partitions, conditions.compression, conditions.runs
        )?;
        writeln!(out, "{}", machine::line(&conditions.machine, conditions.disk.as_ref(), &conditions.versions))?;
        for drain in &self.drains {
            drain.write(out)?;
        }
        for latency in &self.latencies {
            let what = format!("{}, {:.0} commits/s", latency.workload, latency.commits_per_s);
            let rows =
                [(&*what, Some(&latency.figures)), ("  bare producer, from due time", latency.bare_producer.as_ref())];
            telling::percentiles(out, "\ncommit to consumer, ms", &rows)?;
        }
        OnDisk::write(&self.on_disk, out)?;
        self.takeovers.iter().try_for_each(|takeovers| takeovers.write(out))
    }
}

impl Drain {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let counted = &self.counted;
        writeln!(
            out,
            "\n{}, {} events: {:.0} events/s, {:.0} Kafka transactions, {:.0} MiB at most; the server decodes in {}",
            self.workload,
            self.events,
            self.events_per_s,
            self.transactions,
            mib(self.peak_rss_bytes),
            self.decoding_memory
        )?;
        let runs: Vec<String> = self.runs.iter().map(|run| format!("{:.0}", run.events_per_s)).collect();
        writeln!(out, "  runs: {} events/s", runs.join(", "))?;
        for (what, reference, ratio) in [
            ("null reader", self.null_reader_per_s, self.of_null_reader),
            (
                "null reader, open transactions in pieces",
                self.null_reader_in_pieces_per_s,
                self.null_reader_in_pieces_per_s.map(|reference| self.events_per_s / reference),
            ),
            ("bare producer", self.bare_producer_per_s, self.of_bare_producer),
        ] {
            if let (Some(reference), Some(ratio)) = (reference, ratio) {
                writeln!(out, "  {what}: {reference:.0} events/s; the worker has {:.0} % of it", ratio * 100.0)?;
            }
        }
        let costs: Vec<String> =
            self.cpu_s_per_million.iter().map(|(role, cpu_s)| format!("{role} {cpu_s:.2}")).collect();
        writeln!(out, "  CPU s for 1,000,000 events: {}", costs.join(", "))?;
        writeln!(
            out,
            "  read back: {} events, lost {}, repeated {}, out of order {}",
            counted.events, counted.lost, counted.repeated, counted.out_of_order
        )?;
        let worker = Line {
            name: "waltalkie run cdc",
            role: "cdc worker",
            events_per_s: Some(self.events_per_s),
            cpu_s_per_million: &self.cpu_s_per_million,
            peak_rss_bytes: self.peak_rss_bytes,
            counted,
        };
        side_by_side::write(out, worker, &self.peers)
    }
}
