//! What `bench persist` says: one JSON object for programs, a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::budget::Budget;
use super::drain::ROLE;
use crate::bench::figures::{median, medians_by_role};
use crate::bench::machine::{self, Disk, Machine};
use crate::bench::telling::{Outcome, mib};

/// The whole outcome.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) scenario: &'static str,
    pub(super) conditions: Conditions,
    pub(super) drains: Vec<Drain>,
}

/// Under which conditions it ran.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    pub(super) machine: Machine,
    pub(super) versions: BTreeMap<String, String>,
    pub(super) disk: Option<Disk>,
    pub(super) content_bytes: usize,
    pub(super) partitions: u16,
    pub(super) batch_commands: usize,
    pub(super) runs: u32,
}

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) commands_per_s: f64,
    pub(super) loader_per_s: f64,
    pub(super) cpu_s_per_million: BTreeMap<String, f64>,
    pub(super) peak_rss_bytes: u64,
    pub(super) budget: Budget,
    pub(super) counted: Counted,
}

/// The rows against what was sent.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Counted {
    pub(super) rows: u64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    /// Missing `seq`s.
    pub(super) gaps: u64,
}

/// A workload: medians of runs, the highest peak, all that was counted.
#[derive(Debug, Serialize)]
pub(super) struct Drain {
    workload: &'static str,
    chats: u64,
    commands: u64,
    commands_per_s: f64,
    loader_per_s: f64,
    of_loader: f64,
    cpu_s_per_million: BTreeMap<String, f64>,
    peak_rss_bytes: u64,
    budget: Budget,
    counted: Counted,
    runs: Vec<Run>,
}

impl Drain {
    pub(super) fn new(workload: &'static str, chats: u64, commands: u64, runs: Vec<Run>) -> Self {
        let commands_per_s = median(runs.iter().map(|run| run.commands_per_s));
        let loader_per_s = median(runs.iter().map(|run| run.loader_per_s));
        let mut counted = Counted::default();
        for run in &runs {
            counted.rows += run.counted.rows;
            counted.lost += run.counted.lost;
            counted.repeated += run.counted.repeated;
            counted.gaps += run.counted.gaps;
        }
        Self {
            workload,
            chats,
            commands,
            commands_per_s,
            loader_per_s,
            of_loader: commands_per_s / loader_per_s,
            cpu_s_per_million: medians_by_role(&runs, |run| &run.cpu_s_per_million),
            peak_rss_bytes: runs.iter().map(|run| run.peak_rss_bytes).max().unwrap_or(0),
            budget: Budget::medians(&runs.iter().map(|run| &run.budget).collect::<Vec<_>>()),
            counted,
            runs,
        }
    }
}

impl Outcome for Report {
    /// Whether each send has one row and each chat is dense.
    fn is_right(&self) -> bool {
        self.drains.iter().all(|drain| drain.counted.lost + drain.counted.repeated + drain.counted.gaps == 0)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let conditions = &self.conditions;
        writeln!(
            out,
            "{} bytes, {} partitions, at most {} commands a transaction, medians of {} runs",
            conditions.content_bytes, conditions.partitions, conditions.batch_commands, conditions.runs
        )?;
        writeln!(out, "{}", machine::line(&conditions.machine, conditions.disk.as_ref(), &conditions.versions))?;
        for drain in &self.drains {
            drain.write(out)?;
        }
        Ok(())
    }
}

impl Drain {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\n{}: {} sends, {} chats: {:.0} commands/s, {:.0} MiB at most",
            self.workload,
            self.commands,
            self.chats,
            self.commands_per_s,
            mib(self.peak_rss_bytes)
        )?;
        let runs: Vec<String> = self.runs.iter().map(|run| format!("{:.0}", run.commands_per_s)).collect();
        writeln!(out, "  runs: {} commands/s", runs.join(", "))?;
        writeln!(
            out,
            "  bare COPY of the same rows: {:.0} rows/s; the persister has {:.0} % of it",
            self.loader_per_s,
            self.of_loader * 100.0
        )?;
        let ours = self.cpu_s_per_million.get(ROLE).copied().unwrap_or_default();
        let others = self.cpu_s_per_million.iter().filter(|(role, _)| *role != ROLE);
        let others: Vec<String> = others.map(|(role, cpu_s)| format!("{role} {cpu_s:.2}")).collect();
        writeln!(out, "  CPU s for 1,000,000 commands: the process {ours:.2}, {}", others.join(", "))?;
        self.budget.write(out, self.commands_per_s)?;
        let Counted { rows, lost, repeated, gaps } = self.counted;
        writeln!(out, "  counted: {rows} rows, lost {lost}, repeated {repeated}, gaps {gaps}")
    }
}
