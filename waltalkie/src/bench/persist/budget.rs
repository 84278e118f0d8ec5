//! A command's budget: what each phase of the persister's batches took, by its own metrics, in microseconds a command.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bench::figures::{median, round};
use crate::bench::program::Program;

/// Phases in their order, as the metric's label has them, and what they are.
const PHASES: [(&str, &str); 7] = [
    ("decode", "records into commands, beside the batch before"),
    ("begin", "a connection, BEGIN"),
    ("lock", "the chats' counters, in one order"),
    ("lookup", "settings, members, keys: asked for with the lock"),
    ("decide", "the sequencer, without I/O"),
    ("insert", "keys, rows, results, offsets: one round trip"),
    ("commit", "COMMIT: the log on disk"),
];

/// Sums of the persister's metrics at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    phases_s: BTreeMap<&'static str, f64>,
    commands: f64,
    transactions: f64,
}

/// What it took to decide one command. Transactions run side by side, so that phases may add up to more than the time that
/// passed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Budget {
    pub(super) us_per_command: BTreeMap<&'static str, f64>,
    pub(super) commands_per_transaction: f64,
}

impl Sums {
    /// What a program with the persister's role shows just now.
    pub(super) async fn of_program(program: &Program) -> Result<Self> {
        let url = program.line_after("ops listening on ").context("the persister doesn't say where its metrics are")?;
        Ok(Self::of(&reqwest::get(format!("{url}/metrics")).await?.text().await?))
    }

    fn of(metrics: &str) -> Self {
        let value = |name: &str| -> f64 {
            let lines = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            lines.filter_map(|value| value.parse::<f64>().ok()).sum()
        };
        let seconds = |phase: &str| value(&format!("waltalkie_persister_phase_seconds_sum{{phase=\"{phase}\"}}"));
        Self {
            phases_s: PHASES.into_iter().map(|(phase, _)| (phase, seconds(phase))).collect(),
            commands: value("waltalkie_persister_commands_total"),
            transactions: value("waltalkie_persister_batch_records_count"),
        }
    }

    /// The budget of what was decided since an earlier moment.
    pub(super) fn since(&self, earlier: &Self) -> Budget {
        let commands = self.commands - earlier.commands;
        let us = |(phase, seconds): (&&'static str, &f64)| {
            let seconds = seconds - earlier.phases_s.get(phase).copied().unwrap_or_default();
            (*phase, round(seconds * 1_000_000.0 / commands.max(1.0)))
        };
        Budget {
            us_per_command: self.phases_s.iter().map(us).collect(),
            commands_per_transaction: round(commands / (self.transactions - earlier.transactions).max(1.0)),
        }
    }
}

impl Budget {
    /// The median of each figure.
    pub(super) fn medians(runs: &[&Self]) -> Self {
        let of_phase = |phase| median(runs.iter().filter_map(|run| run.us_per_command.get(phase).copied()));
        Self {
            us_per_command: PHASES.into_iter().map(|(phase, _)| (phase, of_phase(phase))).collect(),
            commands_per_transaction: median(runs.iter().map(|run| run.commands_per_transaction)),
        }
    }

    pub(super) fn write(&self, out: &mut String, commands_per_s: f64) -> std::fmt::Result {
        writeln!(
            out,
            "  budget: {:.1} µs a command, {:.0} commands a transaction, up to two transactions side by side",
            1_000_000.0 / commands_per_s.max(1.0),
            self.commands_per_transaction
        )?;
        for (phase, what) in PHASES {
            let us = self.us_per_command.get(phase).copied().unwrap_or_default();
            writeln!(out, "    {phase:<8}{us:>8.1} µs  {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_of_the_span_and_of_each_phase() {
        let at = |lock_s: f64, commit_s: f64, commands: u32, transactions: u32| {
            Sums::of(&format!(
                "# TYPE waltalkie_persister_phase_seconds histogram\n\
                 waltalkie_persister_phase_seconds_sum{{phase=\"lock\"}} {lock_s}\n\
                 waltalkie_persister_phase_seconds_count{{phase=\"lock\"}} 7\n\
                 waltalkie_persister_phase_seconds_sum{{phase=\"commit\"}} {commit_s}\n\
                 waltalkie_persister_commands_total {commands}\n\
                 waltalkie_persister_batch_records_sum 5\n\
                 waltalkie_persister_batch_records_count {transactions}\n"
            ))
        };
        let budget = at(1.5, 3.0, 30_000, 200).since(&at(0.5, 1.0, 10_000, 100));
        assert_eq!(format!("{} {}", budget.us_per_command["lock"], budget.us_per_command["commit"]), "50 100");
        assert_eq!(format!("{} {}", budget.us_per_command["decide"], budget.commands_per_transaction), "0 200");
        let mut text = String::new();
        budget.write(&mut text, 20_000.0).unwrap();
        assert!(text.contains("50.0 µs a command") && text.lines().count() == 1 + PHASES.len(), "{text}");
    }
}
