//! How a bench tells what came out: one JSON object for programs, a table for people.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::figures::Percentiles;

/// A whole outcome; as JSON, the contract's object.
pub(crate) trait Outcome: Serialize {
    fn is_right(&self) -> bool;

    /// The table.
    fn write(&self, out: &mut String) -> fmt::Result;

    /// Prints it; an outcome that isn't right fails the command.
    fn tell(&self, as_json: bool) -> Result<ExitCode> {
        if as_json {
            println!("{}", serde_json::to_string_pretty(self)?);
        } else {
            let mut text = String::new();
            self.write(&mut text)?;
            print!("{text}");
        }
        Ok(if self.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Rows of percentiles under a heading.
pub(crate) fn percentiles(out: &mut String, heading: &str, rows: &[(&str, Option<&Percentiles>)]) -> fmt::Result {
    writeln!(out, "{heading:<44}{:>10}{:>10}{:>10}{:>10}", "p50", "p95", "p99", "max")?;
    for (name, row) in rows {
        let Some(Percentiles { p50_ms, p95_ms, p99_ms, max_ms }) = row else { continue };
        writeln!(out, "{name:<44}{p50_ms:>10.1}{p95_ms:>10.1}{p99_ms:>10.1}{max_ms:>10.1}")?;
    }
    Ok(())
}

/// What was read from Postgres though it should have come by itself; nothing where nothing was counted.
pub(crate) fn read_again(out: &mut String, counts: &BTreeMap<&'static str, u64>) -> fmt::Result {
    if counts.is_empty() {
        return Ok(());
    }
    let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    writeln!(out, "read again from Postgres: {}", counts.join(", "))
}

/// The figure of each run, where there are several.
pub(crate) fn each<T>(runs: &[T], figure: impl Fn(&T) -> String) -> Option<String> {
    (runs.len() > 1).then(|| runs.iter().map(figure).collect::<Vec<_>>().join(", "))
}

/// Bytes in MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
