//! What `bench idle` says: one JSON object for programs, a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::bench::figures::{median, medians_by_role, peaks_by_role, round};
use crate::bench::machine::{self, Machine};
use crate::bench::processes::Usage;
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
    /// A bare echo with as many connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chats_on_node: Option<Followed>,
}

/// Under which conditions it ran.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    pub(super) machine: Machine,
    pub(super) versions: BTreeMap<String, String>,
    pub(super) connections: usize,
    pub(super) chats_each: usize,
    pub(super) members_per_chat: usize,
    pub(super) heartbeat_ms: u64,
    pub(super) settle_s: f64,
    pub(super) seconds: f64,
}

/// What connections that stay came to.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Figures {
    /// With the first few connections.
    rss_before_bytes: u64,
    rss_after_bytes: u64,
    /// Connections that made the difference.
    added_connections: u64,
    bytes_per_connection: f64,
    connecting_s: f64,
    /// Connections that were in step at the end.
    standing: u64,
    /// Of the idle part.
    cpu_s: BTreeMap<String, f64>,
    peak_rss_bytes: BTreeMap<String, u64>,
}

impl Figures {
    pub(super) fn new(
        (rss_before_bytes, rss_after_bytes): (u64, u64),
        added: usize,
        connecting_s: f64,
        usage: Usage,
        standing: usize,
    ) -> Self {
        Self {
            rss_before_bytes,
            rss_after_bytes,
            added_connections: added as u64,
            bytes_per_connection: each(rss_before_bytes, rss_after_bytes, added),
            connecting_s: round(connecting_s),
            standing: standing as u64,
            cpu_s: usage.cpu_s,
            peak_rss_bytes: usage.peak_rss_bytes,
        }
    }

    fn medians(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(runs.iter().map(figure));
        Self {
            rss_before_bytes: of(|run| run.rss_before_bytes as f64) as u64,
            rss_after_bytes: of(|run| run.rss_after_bytes as f64) as u64,
            added_connections: runs.first().map_or(0, |run| run.added_connections),
            bytes_per_connection: of(|run| run.bytes_per_connection),
            connecting_s: of(|run| run.connecting_s),
            // One that didn't stay counts, in whichever run.
            standing: runs.iter().map(|run| run.standing).min().unwrap_or(0),
            cpu_s: medians_by_role(runs, |run| &run.cpu_s),
            peak_rss_bytes: peaks_by_role(runs, |run| &run.peak_rss_bytes),
        }
    }
}

/// What one of so many took.
fn each(before_bytes: u64, after_bytes: u64, count: usize) -> f64 {
    round(after_bytes.saturating_sub(before_bytes) as f64 / count.max(1) as f64)
}

/// A node that follows many chats.
#[derive(Debug, Serialize)]
pub(super) struct Followed {
    chats: usize,
    connections: usize,
    rss_before_bytes: u64,
    rss_after_bytes: u64,
    bytes_per_chat: f64,
    following_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart: Option<Restart>,
}

/// What a restart of Redis came to. Times count from its first answer.
#[derive(Debug, Serialize)]
pub(super) struct Restart {
    pub(super) missed: usize,
    pub(super) away_s: f64,
    pub(super) resubscribed_s: f64,
    pub(super) healed_s: f64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) out_of_order: u64,
    pub(super) closed_connections: u64,
    /// Of the node, in the end.
    pub(super) rss_bytes: u64,
}

impl Followed {
    pub(super) fn new(
        chats: usize,
        connections: usize,
        (rss_before_bytes, rss_after_bytes): (u64, u64),
        following_s: f64,
        restart: Option<Restart>,
    ) -> Self {
        Self {
            chats,
            connections,
            rss_before_bytes,
            rss_after_bytes,
            bytes_per_chat: each(rss_before_bytes, rss_after_bytes, chats),
            following_s: round(following_s),
            restart,
        }
    }
}

impl Report {
    pub(super) fn new(
        conditions: Conditions,
        runs: Vec<Figures>,
        floors: &[Figures],
        chats_on_node: Option<Followed>,
    ) -> Self {
        Self {
            scenario: "idle",
            conditions,
            figures: Figures::medians(&runs),
            runs: if runs.len() > 1 { runs } else { Vec::new() },
            floor: (!floors.is_empty()).then(|| Figures::medians(floors)),
            chats_on_node,
        }
    }
}

impl Outcome for Report {
    /// Whether everybody stayed, and nothing was lost, repeated or out of order.
    fn is_right(&self) -> bool {
        let restart = self.chats_on_node.as_ref().and_then(|followed| followed.restart.as_ref());
        self.figures.standing == self.conditions.connections as u64
            && restart.is_none_or(|restart| restart.lost + restart.repeated + restart.out_of_order == 0)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let conditions = &self.conditions;
        writeln!(
            out,
            "{} connections in {} chats each, {} people a chat, a heartbeat every {} ms",
            conditions.connections, conditions.chats_each, conditions.members_per_chat, conditions.heartbeat_ms
        )?;
        writeln!(out, "{}\n", machine::line(&conditions.machine, None, &conditions.versions))?;
        if let Some(each) = telling::each(&self.runs, |run| format!("{:.0}", run.bytes_per_connection)) {
            writeln!(out, "medians of {} runs ({each} bytes a connection)", self.runs.len())?;
        }
        writeln!(out, "{:<24}{:>14}{:>14}{:>16}{:>12}", "", "MiB before", "MiB after", "KiB a connection", "in step")?;
        for (name, figures) in [("gateway", Some(&self.figures)), ("floor: a bare echo", self.floor.as_ref())] {
            let Some(figures) = figures else { continue };
            writeln!(
                out,
                "{name:<24}{:>14.1}{:>14.1}{:>16.2}{:>12}",
                mib(figures.rss_before_bytes),
                mib(figures.rss_after_bytes),
                figures.bytes_per_connection / 1_024.0,
                figures.standing
            )?;
        }
        let cpu: Vec<String> = self.figures.cpu_s.iter().map(|(role, cpu_s)| format!("{role} {cpu_s:.2}")).collect();
        writeln!(out, "CPU s in {} s of doing nothing: {}", conditions.seconds, cpu.join(", "))?;
        self.chats_on_node.as_ref().map_or(Ok(()), |followed| followed.write(out))
    }
}

impl Followed {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\n{} chats on one node, {} connections: {:.1} MiB before, {:.1} after, {:.0} bytes a chat; followed after {:.1} s",
            self.chats,
            self.connections,
            mib(self.rss_before_bytes),
            mib(self.rss_after_bytes),
            self.bytes_per_chat,
            self.following_s
        )?;
        let Some(restart) = &self.restart else {
            return writeln!(out, "Redis wasn't restarted: it is with --own-stack");
        };
        writeln!(
            out,
            "Redis away for {} s, {} chats with something missed: all subscribed {:.2} s and all healed {:.2} s after it was back",
            restart.away_s, restart.missed, restart.resubscribed_s, restart.healed_s
        )?;
        writeln!(
            out,
            "lost {}, repeated {}, out of order {}, connections closed {}; {:.1} MiB in the end",
            restart.lost,
            restart.repeated,
            restart.out_of_order,
            restart.closed_connections,
            mib(restart.rss_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_costs_is_the_difference_and_who_left_counts() {
        let run = |after, standing| Figures::new((1_000_000, after), 100, 1.0, Usage::default(), standing);
        let figures = Figures::medians(&[run(1_900_000, 200), run(2_000_000, 199), run(1_700_000, 200)]);
        assert!((figures.bytes_per_connection - 9_000.0).abs() < 1e-9);
        assert_eq!(figures.standing, 199);
    }
}
