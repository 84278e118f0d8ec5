//! `waltalkie verify`: live read models against rebuilt ones, or the history against the tables.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cdc_worker::audit;
use clap::{Args, builder::PossibleValuesParser};
use projections::Shipped;
use projections::rebuild::{Difference, Verdict};
use runtime::Config;
use serde_json::{Value, json};

use super::{Job, chat_events};

/// What is verified beside projections.
const HISTORY: &str = "history";

/// What was written a moment ago may still be on its way to the history.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Projections, or `history`
    #[arg(required = true, value_parser = PossibleValuesParser::new(Shipped::ALL.map(Shipped::name).into_iter().chain([HISTORY])))]
    what: Vec<String>,
    /// One JSON object for each
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(config: Config, args: VerifyArgs) -> Result<ExitCode> {
    let (history, named): (Vec<String>, Vec<String>) = args.what.into_iter().partition(|what| what == HISTORY);
    let mut outcome = ExitCode::SUCCESS;
    if !history.is_empty() {
        outcome = verify_history(&config, args.json).await?;
    }
    let compared = projections(&config, &named, args.json).await?;
    Ok(if compared == ExitCode::SUCCESS { outcome } else { compared })
}

/// Compares each of these projections.
pub(super) async fn projections(config: &Config, names: &[String], as_json: bool) -> Result<ExitCode> {
    let mut outcome = ExitCode::SUCCESS;
    for name in names {
        let job = Job::new(config, name, false)?;
        let verdict = job.watched(job.verify()).await?;
        let events = chat_events::of_differences(config, &verdict.differences).await;
        let events = events.inspect_err(|error| tracing::warn!(error = %format!("{error:#}"), "the chats' events"));
        let events = events.unwrap_or_default();
        if as_json {
            println!("{}", line_of(name, &verdict, &events));
        } else {
            println!("{}", text_of(name, &verdict, &events));
        }
        if !verdict.is_equal() {
            outcome = ExitCode::FAILURE;
        }
    }
    Ok(outcome)
}

/// Each `seq` of a chat once and in order, and what its row in the tables says.
async fn verify_history(config: &Config, as_json: bool) -> Result<ExitCode> {
    let verdict = audit::audit_running(&Arc::new(config.clone()), PATIENCE).await.context("the history")?;
    if as_json {
        println!("{}", json!({ "verified": HISTORY, "is_equal": verdict.is_clean(), "found": verdict }));
    } else if verdict.is_clean() {
        println!("history: {} events, each once, dense in its chat, and as the tables have it", verdict.events);
    } else {
        println!("history: DIFFERENT from the tables: {verdict}");
        println!(
            "  docs/operators.md, \"When the history isn't whole\", says what each means; `waltalkie cdc status` what is wrong"
        );
    }
    Ok(if verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line_of(name: &str, verdict: &Verdict, events: &[(String, Vec<Value>)]) -> Value {
    let side = |side: &projections::rebuild::Side| json!({ "rows": side.rows, "hash": side.hash });
    let tables = verdict.tables.iter().map(|(table, live, rebuilt)| {
        json!({ "table": table, "live": side(live), "rebuilt": side(rebuilt), "is_equal": live == rebuilt })
    });
    let offsets = verdict
        .offsets
        .iter()
        .map(|(topic, partition, next)| json!({ "topic": topic, "partition": partition, "next_offset": next }));
    let differences = verdict.differences.iter().map(|difference| {
        let Difference { table, is_live, row, chat_id } = difference;
        let row: Value = serde_json::from_str(row).unwrap_or_default();
        json!({ "table": table, "side": side_name(*is_live), "row": row, "chat_id": chat_id })
    });
    json!({
        "verified": name,
        "is_equal": verdict.is_equal(),
        "tables": tables.collect::<Vec<_>>(),
        "offsets": offsets.collect::<Vec<_>>(),
        "differences": differences.collect::<Vec<_>>(),
        "events": events.iter().map(|(chat_id, events)| json!({ "chat_id": chat_id, "newest": events })).collect::<Vec<_>>(),
    })
}

fn text_of(name: &str, verdict: &Verdict, events: &[(String, Vec<Value>)]) -> String {
    let mut lines = Vec::new();
    for (table, live, rebuilt) in &verdict.tables {
        lines.push(if live == rebuilt {
            format!("{name}: {table} is equal, {} rows, {}", live.rows, live.hash)
        } else {
            format!(
                "{name}: {table} is DIFFERENT: live {} rows, {}; rebuilt {} rows, {}",
                live.rows, live.hash, rebuilt.rows, rebuilt.hash
            )
        });
    }
    for Difference { table, is_live, row, .. } in &verdict.differences {
        lines.push(format!("  only {} {table}: {row}", if *is_live { "in the live" } else { "in the rebuilt" }));
    }
    lines.extend(chat_events::lines_of(events));
    if !verdict.is_equal() {
        lines.push(format!("  `waltalkie rebuild {name}` takes the rebuilt rows"));
    }
    lines.join("\n")
}

const fn side_name(is_live: bool) -> &'static str {
    if is_live { "live" } else { "rebuilt" }
}
