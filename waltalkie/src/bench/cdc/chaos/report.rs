//! What became of the runs.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use cdc_worker::audit::Verdict;
use serde::Serialize;

use super::Extent;
use super::cast::Hit;
use crate::bench::machine::{self, Machine};
use crate::bench::telling::Outcome;

/// One run.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) hits: Vec<Hit>,
    /// Faults that nobody came to.
    pub(super) missed: u32,
    /// Transactions that were committed in Postgres.
    pub(super) transactions: u64,
    /// Workers that ended by themselves.
    pub(super) ended: Vec<String>,
    pub(super) verdict: Verdict,
    /// Events of this run alone.
    pub(super) events: usize,
    pub(super) aborted_records: usize,
    pub(super) aborted_transactions: usize,
    pub(super) drain_s: f64,
    pub(super) seconds: f64,
}

impl Run {
    pub(super) fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.ended.is_empty() && !self.hits.is_empty()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hits: Vec<&str> = self.hits.iter().map(|hit| hit.what.as_str()).collect();
        let is_clean = if self.is_clean() { "clean" } else { "NOT CLEAN" };
        write!(
            out,
            "{is_clean} after {:.1} s; {}; {} transactions; {}; {} records of {} transactions aborted; drained in {:.1} s",
            self.seconds,
            hits.join(", "),
            self.transactions,
            self.verdict,
            self.aborted_records,
            self.aborted_transactions,
            self.drain_s
        )?;
        self.ended.iter().try_for_each(|why| write!(out, "; {why}"))
    }
}

/// All runs; as JSON, the contract's object.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    scenario: &'static str,
    conditions: Conditions,
    runs: u32,
    clean_runs: u32,
    /// Faults that hit, by kind.
    hits: BTreeMap<&'static str, u32>,
    missed_faults: u32,
    transactions: u64,
    events: usize,
    aborted_records: usize,
    /// Kafka transactions that had come to their position when they were aborted.
    aborted_transactions: usize,
    longest_drain_s: f64,
    seconds: f64,
    /// What was wrong, run by run.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Conditions {
    machine: Machine,
    versions: BTreeMap<String, String>,
    seed: u64,
    most_faults_a_run: u32,
    chats: u16,
    writers: u16,
}

impl Report {
    pub(super) fn new(extent: Extent, machine: Machine, versions: BTreeMap<String, String>) -> Self {
        let Extent { faults, writers, chats, seed, .. } = extent;
        Self {
            scenario: "cdc-chaos",
            conditions: Conditions { machine, versions, seed, most_faults_a_run: faults, chats, writers },
            runs: 0,
            clean_runs: 0,
            hits: BTreeMap::new(),
            missed_faults: 0,
            transactions: 0,
            events: 0,
            aborted_records: 0,
            aborted_transactions: 0,
            longest_drain_s: 0.0,
            seconds: 0.0,
            problems: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, run: &Run) {
        self.runs += 1;
        if run.is_clean() {
            self.clean_runs += 1;
        } else {
            self.problems.push(format!("run {}: {run}", self.runs));
        }
        for hit in &run.hits {
            *self.hits.entry(hit.kind).or_default() += 1;
        }
        self.missed_faults += run.missed;
        self.transactions += run.transactions;
        self.events += run.events;
        self.aborted_records += run.aborted_records;
        self.aborted_transactions += run.aborted_transactions;
        self.longest_drain_s = self.longest_drain_s.max(run.drain_s);
        self.seconds += run.seconds;
    }
}

impl Outcome for Report {
    fn is_right(&self) -> bool {
        self.clean_runs == self.runs
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let Conditions { machine, versions, .. } = &self.conditions;
        writeln!(out, "{}", machine::line(machine, None, versions))?;
        writeln!(
            out,
            "seed {}: {} of {} runs clean in {:.0} s",
            self.conditions.seed, self.clean_runs, self.runs, self.seconds
        )?;
        let hits: Vec<String> = self.hits.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        writeln!(out, "faults that hit: {}; missed: {}", hits.join(", "), self.missed_faults)?;
        writeln!(
            out,
            "{} transactions made {} events; {} records of {} Kafka transactions were aborted; longest drain {:.1} s",
            self.transactions, self.events, self.aborted_records, self.aborted_transactions, self.longest_drain_s
        )?;
        self.problems.iter().try_for_each(|problem| writeln!(out, "{problem}"))
    }
}
