//! `waltalkie rebuild` as operators run it, and COPY of the rows that it made.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use projections::rebuild::{Progress, Rebuilder};
use projections::{Shipped, Wiring};
use runtime::{Config, postgres};
use serde_json::Value;
use tokio_postgres::Client;

use super::process::{Taken, to_its_end};
use super::report::{Copy, OWN, Run};
use crate::bench::program::Program;

/// A table whose rows are taken and put back.
const SCRATCH: &str = "bench_copy";

/// One rebuild, in a process of its own.
pub(super) async fn rebuild(name: &str, config: &Config, servers: &[(String, u32)]) -> Result<Run> {
    let program = Program::ours(&["rebuild", name, "--json"], config, &[])?;
    let Taken { program, cpu_s, peak_rss_bytes, .. } =
        to_its_end(program, OWN, servers).await.with_context(|| format!("rebuilding {name}"))?;
    let line = program.line_after("{").with_context(|| format!("it told nothing: {}", program.said()))?;
    let told: Value = serde_json::from_str(&format!("{{{line}"))?;
    let records = told["records"].as_u64().context("no records")?;
    let millions = records as f64 / 1e6;
    Ok(Run {
        records,
        records_per_s: told["records_per_s"].as_f64().context("no rate")?,
        cpu_s_per_million: cpu_s.into_iter().map(|(role, cpu_s)| (role, cpu_s / millions)).collect(),
        peak_rss_bytes,
    })
}

/// COPY of a projection's rows out of its tables, and into empty ones of the same shape.
pub(super) async fn copy(name: &str, config: &Config) -> Result<Copy> {
    let client = postgres::connect(&postgres::parse(&config.postgres.read_url, "postgres.read_url")?).await?;
    let (mut rows, mut took) = (0, Duration::ZERO);
    for table in Shipped::named(name)?.tables() {
        let (copied, time) = copy_table(&client, table).await.with_context(|| format!("copying {table}"))?;
        rows += copied;
        took += time;
    }
    Ok(Copy { rows, seconds: took.as_secs_f64() })
}

async fn copy_table(client: &Client, table: &str) -> Result<(u64, Duration)> {
    let chunks: Vec<_> =
        client.copy_out(&format!("COPY {table} TO STDOUT (FORMAT binary)")).await?.try_collect().await?;
    client.batch_execute(&format!("CREATE TABLE {SCRATCH} (LIKE {table} INCLUDING ALL)")).await?;
    let began = Instant::now();
    let sink = client.copy_in(&format!("COPY {SCRATCH} FROM STDIN (FORMAT binary)")).await?;
    let mut sink = std::pin::pin!(sink);
    for chunk in chunks {
        futures_util::SinkExt::feed(&mut sink, chunk).await?;
    }
    let rows = sink.finish().await?;
    let took = began.elapsed();
    client.batch_execute(&format!("DROP TABLE {SCRATCH}")).await?;
    Ok((rows, took))
}

/// Whether the rows are those of the history, row for row.
pub(super) async fn is_right(name: &str, config: &Config) -> Result<bool> {
    let wiring = Wiring::new(std::sync::Arc::new(config.clone()))?;
    let rebuilder = Rebuilder::new(wiring, std::sync::Arc::new(Progress::default()));
    let verdict = Shipped::named(name)?.verify(&rebuilder).await?;
    Ok(verdict.is_equal() && verdict.tables.iter().any(|(_, live, _)| live.rows > 0))
}
