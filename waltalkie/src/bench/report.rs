//! What a bench says: one JSON object for programs, a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::figures::Figures;
use super::machine::{Disk, Machine};
use super::stages::Stage;
use super::telling::{self, Outcome, mib};

/// The whole outcome of `bench chat`; as JSON, the contract's object.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) conditions: Conditions,
    /// The run's figures, or the medians of several.
    #[serde(flatten)]
    pub(crate) figures: Figures,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) runs: Vec<Figures>,
    /// The same clients and messages against a server that only echoes from memory, in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor: Option<Figures>,
    /// p95 over the floor's p95.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p95_over_floor: Option<f64>,
    /// What was measured, that is; the floor's faults are its own.
    #[serde(skip)]
    pub(crate) is_right: bool,
}

/// Under which conditions it ran.
#[derive(Debug, Serialize)]
pub(crate) struct Conditions {
    pub(crate) machine: Machine,
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) disk: Option<Disk>,
    /// Share of the machine's CPU time that others took while it ran.
    pub(crate) stolen_cpu_percent: f64,
    /// Share that processes of this machine took which aren't among those watched; only with some that are.
    pub(crate) other_cpu_percent: Option<f64>,
    pub(crate) connections: usize,
    pub(crate) chats: usize,
    pub(crate) members_per_chat: usize,
    pub(crate) content_bytes: usize,
    pub(crate) rate_per_s: f64,
    pub(crate) warmup_s: f64,
    pub(crate) seconds: f64,
    pub(crate) receipts: String,
    pub(crate) client_threads: usize,
    /// Handshakes that were refused before everybody was in.
    pub(crate) refused_handshakes: u64,
}

impl Outcome for Report {
    fn is_right(&self) -> bool {
        self.is_right
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let (conditions, figures) = (&self.conditions, &self.figures);
        let machine = &conditions.machine;
        writeln!(
            out,
            "{} connections, {} chats of {}, {} bytes, {} messages/s for {} s after {} s, receipts: {}",
            conditions.connections,
            conditions.chats,
            conditions.members_per_chat,
            conditions.content_bytes,
            conditions.rate_per_s,
            conditions.seconds,
            conditions.warmup_s,
            conditions.receipts,
        )?;
        write!(out, "{} cores {}, Linux {}", machine.cores, machine.cpu, machine.kernel)?;
        if let Some(disk) = &conditions.disk {
            write!(out, "; fdatasync {:.2} ms on {}", disk.fdatasync_ms, disk.folder.display())?;
        }
        write!(out, "; {:.1} % of the CPU stolen by other machines", conditions.stolen_cpu_percent)?;
        if let Some(percent) = conditions.other_cpu_percent {
            write!(out, ", {percent:.1} % taken by other programs")?;
        }
        writeln!(out)?;
        let versions: Vec<String> =
            conditions.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(out, "{}\n", versions.join(", "))?;
        if let Some(p95s) = telling::each(&self.runs, |run| format!("{:.1}", run.screen.p95_ms)) {
            writeln!(out, "medians of {} runs (p95 of each: {p95s} ms)\n", self.runs.len())?;
        }
        let rows = [
            ("to the other screens", Some(&figures.screen)),
            ("to accepted", Some(&figures.accepted)),
            ("to persisted", Some(&figures.persisted)),
            ("to the client (the bench itself)", Some(&figures.handed)),
            ("floor: an echo from memory", self.floor.as_ref().map(|floor| &floor.screen)),
        ];
        telling::percentiles(out, "from due time, ms", &rows)?;
        telling::percentiles(out, "from the first ack, ms", &[("to persisted", Some(&figures.accepted_to_persisted))])?;
        if let Some(ratio) = self.p95_over_floor {
            writeln!(out, "p95 is {ratio:.1} times the floor's")?;
        }
        writeln!(
            out,
            "\n{:.0} messages/s persisted of {:.0} offered, {:.0} deliveries/s; the last came {:.2} s after the last send",
            figures.persisted_per_s, figures.offered_per_s, figures.deliveries_per_s, figures.drain_s
        )?;
        let faults = [
            ("lost", figures.lost),
            ("repeated", figures.repeated),
            ("out of order", figures.out_of_order),
            ("altered", figures.altered),
            ("without answer", figures.unanswered),
            ("refused", figures.refused),
            ("postponed", figures.postponed),
            ("gaps mended", figures.gaps),
            ("connections closed", figures.closed_connections),
        ];
        let faults: Vec<String> = faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(out, "{}\n", faults.join(", "))?;
        if !figures.stages.is_empty() {
            writeln!(out, "{:<40}{:>10}", "what the time went into", "mean ms")?;
            for Stage { stage, mean_ms } in &figures.stages {
                writeln!(out, "{stage:<40}{mean_ms:>10.1}")?;
            }
            writeln!(out)?;
        }
        telling::read_again(out, &figures.read_again)?;
        writeln!(out, "{:<34}{:>10}{:>14}{:>12}", "", "CPU s", "of one core", "peak MiB")?;
        let span_s = (figures.seconds + figures.drain_s).max(0.001);
        for (role, cpu_s) in &figures.cpu_s {
            let memory = figures.peak_rss_bytes.get(role).map(|bytes| format!("{:.0}", mib(*bytes)));
            let share = 100.0 * cpu_s / span_s;
            writeln!(out, "{role:<34}{cpu_s:>10.2}{share:>12.0} %{:>12}", memory.unwrap_or_default())?;
        }
        writeln!(
            out,
            "{:<34}{:>10.2}{:>12.0} %",
            "the whole machine",
            figures.busy_cpu_s,
            100.0 * figures.busy_cpu_s / span_s
        )
    }
}
