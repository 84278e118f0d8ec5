//! What `bench rebuild` says: one JSON object for programs, a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::bench::figures::{median, medians_by_role};
use crate::bench::machine::{self, Disk, Machine};
use crate::bench::telling::{Outcome, mib};

/// The measured process among the roles.
pub(super) const OWN: &str = "rebuild";
/// The projection that peers do the same as.
const SAME: &str = "chat_activity";

/// The whole outcome.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) scenario: &'static str,
    pub(super) conditions: Conditions,
    /// librdkafka's consumer, which drops everything.
    pub(super) bare: Pass,
    /// Decoded, and applied to `chat_head` without a table.
    pub(super) in_memory: Pass,
    /// Of the bare consumer's events a second.
    pub(super) of_bare: f64,
    pub(super) rebuilds: Vec<Rebuild>,
    pub(super) peers: Vec<Beside>,
}

/// Under which conditions it ran.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    pub(super) machine: Machine,
    pub(super) versions: BTreeMap<String, String>,
    pub(super) disk: Option<Disk>,
    pub(super) events: u64,
    pub(super) chats: u64,
    pub(super) members: u64,
    pub(super) content_bytes: usize,
    pub(super) partitions: u16,
    /// Key and value, uncompressed.
    pub(super) bytes_an_event: f64,
    pub(super) runs: u32,
}

/// One pass over the history.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Pass {
    pub(super) events_per_s: f64,
    pub(super) cpu_s_per_million: f64,
}

impl Pass {
    /// The median of several.
    pub(super) fn new(runs: &[Self]) -> Self {
        Self {
            events_per_s: median(runs.iter().map(|run| run.events_per_s)),
            cpu_s_per_million: median(runs.iter().map(|run| run.cpu_s_per_million)),
        }
    }
}

/// One rebuild.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) records: u64,
    pub(super) records_per_s: f64,
    /// Of the command's process, and of the servers.
    pub(super) cpu_s_per_million: BTreeMap<String, f64>,
    pub(super) peak_rss_bytes: u64,
}

/// The same rows by COPY.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Copy {
    pub(super) rows: u64,
    pub(super) seconds: f64,
}

/// A projection: medians of runs, the highest peak.
#[derive(Debug, Serialize)]
pub(super) struct Rebuild {
    projection: String,
    records: u64,
    records_per_s: f64,
    cpu_s_per_million: BTreeMap<String, f64>,
    peak_rss_bytes: u64,
    copy: Copy,
    /// How many times as long as COPY of its rows it takes.
    of_copy: f64,
    is_right: bool,
    runs: Vec<Run>,
}

impl Rebuild {
    pub(super) fn new(projection: String, runs: Vec<Run>, copy: Copy, is_right: bool) -> Self {
        let records = runs.first().map_or(0, |run| run.records);
        let records_per_s = median(runs.iter().map(|run| run.records_per_s));
        Self {
            projection,
            records,
            records_per_s,
            cpu_s_per_million: medians_by_role(&runs, |run| &run.cpu_s_per_million),
            peak_rss_bytes: runs.iter().map(|run| run.peak_rss_bytes).max().unwrap_or(0),
            copy,
            of_copy: records as f64 / records_per_s / copy.seconds.max(0.001),
            is_right,
            runs,
        }
    }
}

/// A peer: medians of runs, the highest peak.
#[derive(Debug, Serialize)]
pub(super) struct Beside {
    name: String,
    records_per_s: f64,
    cpu_s_per_million: BTreeMap<String, f64>,
    peak_rss_bytes: u64,
    runs: Vec<Run>,
}

impl Beside {
    pub(super) fn new(name: String, runs: Vec<Run>) -> Self {
        Self {
            name,
            records_per_s: median(runs.iter().map(|run| run.records_per_s)),
            cpu_s_per_million: medians_by_role(&runs, |run| &run.cpu_s_per_million),
            peak_rss_bytes: runs.iter().map(|run| run.peak_rss_bytes).max().unwrap_or(0),
            runs,
        }
    }

    /// `ours` is the rebuild of the same, if there was one.
    fn write(&self, out: &mut String, ours: Option<&Rebuild>) -> std::fmt::Result {
        let cpu_s = |cpu: &BTreeMap<String, f64>, role: &str| cpu.get(role).copied().unwrap_or_default();
        let own = cpu_s(&self.cpu_s_per_million, OWN);
        writeln!(
            out,
            "{:<34}{:>10.0} records/s{own:>7.2} CPU s a million, {:.0} MiB at most",
            self.name,
            self.records_per_s,
            mib(self.peak_rss_bytes)
        )?;
        let runs: Vec<String> = self.runs.iter().map(|run| format!("{:.0}", run.records_per_s)).collect();
        write!(out, "  runs {}; kafka {:.2}", runs.join(", "), cpu_s(&self.cpu_s_per_million, "kafka"))?;
        let Some(ours) = ours else { return writeln!(out) };
        let alone = cpu_s(&ours.cpu_s_per_million, OWN);
        let with_database = alone + cpu_s(&ours.cpu_s_per_million, "postgres");
        writeln!(
            out,
            "; our {SAME} has {:.1} times as many for a CPU second, {:.1} times with PostgreSQL's",
            own / alone,
            own / with_database
        )
    }
}

impl Outcome for Report {
    fn is_right(&self) -> bool {
        self.rebuilds.iter().all(|rebuild| rebuild.is_right)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Conditions { events, chats, members, content_bytes, partitions, bytes_an_event, runs, .. } =
            &self.conditions;
        writeln!(
            out,
            "{events} events of {bytes_an_event:.0} bytes (text {content_bytes}), {chats} chats of {members}, {partitions} \
             partitions, medians of {runs} runs"
        )?;
        let Conditions { machine, disk, versions, .. } = &self.conditions;
        writeln!(out, "{}\n", machine::line(machine, disk.as_ref(), versions))?;
        let pass = |out: &mut String, name: &str, pass: &Pass| {
            writeln!(
                out,
                "{name:<34}{:>10.0} events/s{:>8.2} CPU s a million",
                pass.events_per_s, pass.cpu_s_per_million
            )
        };
        pass(out, "bare consumer", &self.bare)?;
        pass(out, "decoded, chat_head in memory", &self.in_memory)?;
        writeln!(out, "  {:.2} of the bare consumer's", self.of_bare)?;
        self.rebuilds.iter().try_for_each(|rebuild| rebuild.write(out))?;
        let ours = self.rebuilds.iter().find(|rebuild| rebuild.projection == SAME);
        self.peers.iter().try_for_each(|peer| peer.write(out, ours))
    }
}

impl Rebuild {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let name = format!("rebuild {}", self.projection);
        let own = self.cpu_s_per_million.get(OWN).copied().unwrap_or_default();
        writeln!(
            out,
            "{name:<34}{:>10.0} records/s{own:>7.2} CPU s a million, {:.0} MiB at most",
            self.records_per_s,
            mib(self.peak_rss_bytes)
        )?;
        let runs: Vec<String> = self.runs.iter().map(|run| format!("{:.0}", run.records_per_s)).collect();
        let others = self.cpu_s_per_million.iter().filter(|(role, _)| *role != OWN);
        let others: Vec<String> = others.map(|(role, cpu_s)| format!("{role} {cpu_s:.2}")).collect();
        writeln!(out, "  runs {}; servers' CPU s a million: {}", runs.join(", "), others.join(", "))?;
        writeln!(
            out,
            "  {} rows, which COPY writes in {:.1} s; the rebuild takes {:.1} times as long{}",
            self.copy.rows,
            self.copy.seconds,
            self.of_copy,
            if self.is_right { "" } else { "; ROWS DIFFER from the history" }
        )
    }
}
