//! What `bench storm` says: one JSON object for programs, a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::reads::Reads;
use crate::bench::figures::{Percentiles, median, medians_by_role, peaks_by_role, round};
use crate::bench::machine::{self, Disk, Machine};
use crate::bench::readers;
use crate::bench::telling::{self, Outcome, mib};

/// The whole outcome.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    scenario: &'static str,
    conditions: Conditions,
    #[serde(flatten)]
    figures: Figures,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runs: Vec<Figures>,
    /// The same crowd between two servers that only serve from memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<Returned>,
}

/// Under which conditions it ran.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    pub(super) machine: Machine,
    pub(super) versions: BTreeMap<String, String>,
    pub(super) disk: Option<Disk>,
    pub(super) clients: usize,
    pub(super) chats_each: usize,
    pub(super) members_per_chat: usize,
    pub(super) missed_each: usize,
    pub(super) others: usize,
    pub(super) rate_per_s: f64,
}

/// How the crowd came back. Times count from the kill.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Returned {
    pub(super) half_resumed_s: f64,
    pub(super) all_resumed_s: f64,
    pub(super) refused_handshakes: u64,
    /// Of what they missed.
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) out_of_order: u64,
    /// The one to the killed node included.
    pub(super) closed_connections: u64,
}

impl Returned {
    /// What became of the messages that were missed.
    pub(super) fn add(&mut self, outcome: &readers::Outcome, expected: u64) {
        self.lost = expected.saturating_sub(outcome.received);
        self.repeated = outcome.repeated;
        self.out_of_order = outcome.out_of_order;
        self.closed_connections = outcome.closed_connections;
    }

    fn medians(runs: &[&Self]) -> Self {
        let sum = |count: fn(&Self) -> u64| runs.iter().map(|run| count(run)).sum();
        Self {
            half_resumed_s: round(median(runs.iter().map(|run| run.half_resumed_s))),
            all_resumed_s: round(median(runs.iter().map(|run| run.all_resumed_s))),
            refused_handshakes: sum(|run| run.refused_handshakes),
            lost: sum(|run| run.lost),
            repeated: sum(|run| run.repeated),
            out_of_order: sum(|run| run.out_of_order),
            closed_connections: sum(|run| run.closed_connections),
        }
    }
}

/// What a storm came to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    #[serde(flatten)]
    pub(super) returned: Returned,
    /// The others' messages before.
    pub(super) others_calm: Percentiles,
    /// Those that were due between the kill and the last one's return.
    pub(super) others_meanwhile: Percentiles,
    pub(super) others_lost: u64,
    pub(super) others_repeated: u64,
    pub(super) others_out_of_order: u64,
    /// What Postgres was asked for from the kill on, until all of it had been told.
    pub(super) reads: Reads,
    /// Seconds that `reads` goes on after the last one's return.
    pub(super) reads_s: f64,
    /// What it is asked for anyway.
    pub(super) quiet_reads: Reads,
    pub(super) quiet_s: f64,
    /// From the kill to the last one's return.
    pub(super) cpu_s: BTreeMap<String, f64>,
    pub(super) peak_rss_bytes: BTreeMap<String, u64>,
    pub(super) stolen_cpu_s: f64,
    pub(super) busy_cpu_s: f64,
}

impl Figures {
    /// The median of each figure; faults are added up, since each of them counts.
    fn medians(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| round(median(runs.iter().map(figure)));
        let sum = |count: fn(&Self) -> u64| runs.iter().map(count).sum();
        let percentiles = |of: fn(&Self) -> Percentiles| Percentiles::medians(&runs.iter().map(of).collect::<Vec<_>>());
        let reads = |of: fn(&Self) -> Reads| {
            let median = |count: fn(Reads) -> i64| median(runs.iter().map(|run| count(of(run)) as f64)) as i64;
            Reads {
                transactions: median(|reads| reads.transactions),
                rows_returned: median(|reads| reads.rows_returned),
                rows_fetched: median(|reads| reads.rows_fetched),
                pages: median(|reads| reads.pages),
            }
        };
        Self {
            returned: Returned::medians(&runs.iter().map(|run| &run.returned).collect::<Vec<_>>()),
            others_calm: percentiles(|run| run.others_calm),
            others_meanwhile: percentiles(|run| run.others_meanwhile),
            others_lost: sum(|run| run.others_lost),
            others_repeated: sum(|run| run.others_repeated),
            others_out_of_order: sum(|run| run.others_out_of_order),
            reads: reads(|run| run.reads),
            reads_s: of(|run| run.reads_s),
            quiet_reads: reads(|run| run.quiet_reads),
            quiet_s: of(|run| run.quiet_s),
            cpu_s: medians_by_role(runs, |run| &run.cpu_s),
            peak_rss_bytes: peaks_by_role(runs, |run| &run.peak_rss_bytes),
            stolen_cpu_s: of(|run| run.stolen_cpu_s),
            busy_cpu_s: of(|run| run.busy_cpu_s),
        }
    }
}

impl Report {
    pub(super) fn new(conditions: Conditions, runs: Vec<Figures>, floors: &[Returned]) -> Self {
        Self {
            scenario: "storm",
            conditions,
            figures: Figures::medians(&runs),
            runs: if runs.len() > 1 { runs } else { Vec::new() },
            floor: (!floors.is_empty()).then(|| Returned::medians(&floors.iter().collect::<Vec<_>>())),
        }
    }
}

impl Outcome for Report {
    /// Whether everybody got everything once and in order.
    fn is_right(&self) -> bool {
        let Figures { returned, others_lost, others_repeated, others_out_of_order, .. } = &self.figures;
        let faults = returned.lost + returned.repeated + returned.out_of_order;
        faults + others_lost + others_repeated + others_out_of_order == 0
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let (conditions, figures) = (&self.conditions, &self.figures);
        writeln!(
            out,
            "{} clients in {} chats each of {} people, {} missed messages a chat; {} others with {} messages/s",
            conditions.clients,
            conditions.chats_each,
            conditions.members_per_chat,
            conditions.missed_each,
            conditions.others,
            conditions.rate_per_s
        )?;
        writeln!(out, "{}\n", machine::line(&conditions.machine, conditions.disk.as_ref(), &conditions.versions))?;
        if let Some(all) = telling::each(&self.runs, |run| format!("{:.2}", run.returned.all_resumed_s)) {
            writeln!(out, "medians of {} runs (all resumed after {all} s)", self.runs.len())?;
        }
        for (name, returned) in [("resumed", Some(&figures.returned)), ("floor: resumed", self.floor.as_ref())] {
            let Some(returned) = returned else { continue };
            writeln!(
                out,
                "{name}: half after {:.2} s, all after {:.2} s; lost {}, repeated {}, out of order {}; handshakes refused {}",
                returned.half_resumed_s,
                returned.all_resumed_s,
                returned.lost,
                returned.repeated,
                returned.out_of_order,
                returned.refused_handshakes
            )?;
        }
        let rows = [("before", Some(&figures.others_calm)), ("meanwhile", Some(&figures.others_meanwhile))];
        telling::percentiles(out, "\nthe others, from due time, ms", &rows)?;
        writeln!(
            out,
            "lost {}, repeated {}, out of order {}\n",
            figures.others_lost, figures.others_repeated, figures.others_out_of_order
        )?;
        writeln!(
            out,
            "{:<34}{:>14}{:>14}{:>14}{:>12}",
            "Postgres", "transactions", "rows by index", "rows scanned", "pages"
        )?;
        let quiet = format!("{:.0} s of nothing", figures.quiet_s);
        let storm = format!("the storm and {:.0} s", figures.reads_s);
        for (name, reads) in [(storm, figures.reads), (quiet, figures.quiet_reads)] {
            writeln!(
                out,
                "{name:<34}{:>14}{:>14}{:>14}{:>12}",
                reads.transactions, reads.rows_fetched, reads.rows_returned, reads.pages
            )?;
        }
        writeln!(out, "\n{:<34}{:>10}{:>12}", "until all were back", "CPU s", "peak MiB")?;
        for (role, cpu_s) in &figures.cpu_s {
            let peak = mib(figures.peak_rss_bytes.get(role).copied().unwrap_or(0));
            writeln!(out, "{role:<34}{cpu_s:>10.2}{peak:>12.0}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_medians_and_losses_add_up() {
        let run = |all_resumed_s, received| {
            let mut returned = Returned { all_resumed_s, ..Returned::default() };
            returned.add(&readers::Outcome { received, ..readers::Outcome::default() }, 100);
            returned
        };
        let medians = Returned::medians(&[&run(3.0, 100), &run(1.0, 99), &run(2.0, 98)]);
        assert_eq!((medians.all_resumed_s.to_string().as_str(), medians.lost), ("2", 3));
    }
}
