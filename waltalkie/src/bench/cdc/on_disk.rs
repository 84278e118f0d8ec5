//! How many bytes an event takes on disk, by compression: in full batches, and at a steady rate, where each Kafka transaction
//! adds a marker to every partition that it wrote to.

use anyhow::Result;
use runtime::Config;
use runtime::config::Compression;
use runtime::kafka::admin::Admin;
use schemas::topics::Topic;
use serde::Serialize;

use super::site::{Installation, Site};
use super::{CdcArgs, Workload, backlog, drain, latency};

/// One compression.
#[derive(Debug, Serialize)]
pub(super) struct OnDisk {
    compression: &'static str,
    /// A backlog of transactions of 100 rows.
    full_batches: Taken,
    /// Commits at `--rate`.
    steady: Taken,
    commits_per_s: u64,
}

/// What the history takes.
#[derive(Debug, Clone, Copy, Serialize)]
struct Taken {
    events: u64,
    /// Bytes of one copy of the log.
    bytes: u64,
    bytes_an_event: f64,
    /// Records that transactions' ends have left.
    markers: u64,
}

/// Both of one compression.
pub(super) async fn run(args: &CdcArgs, config: &Config, servers: &[(String, u32)]) -> Result<OnDisk> {
    let site = Site::make(config.clone(), servers).await?;
    let installation = site.install(0).await?;
    let client = site.connect().await?;
    let last_rows = backlog::write(&client, args, Workload::A).await?;
    drop(client);
    drain::one(args, &installation, &site, last_rows).await?;
    let full_batches = taken(&installation, args.events).await?;
    site.remove(&installation).await?;
    site.unmake().await?;

    let site = Site::make(config.clone(), servers).await?;
    let installation = site.install(0).await?;
    let events = latency::at_a_steady_rate(args, &site, &installation).await?;
    let steady = taken(&installation, events).await?;
    site.remove(&installation).await?;
    site.unmake().await?;
    Ok(OnDisk { compression: config.cdc.compression.name(), full_batches, steady, commits_per_s: args.rate })
}

/// Those that are asked for, or all that are worth it.
pub(super) fn compressions(args: &CdcArgs) -> Vec<Compression> {
    match args.compression {
        Some(one) => vec![one],
        None => vec![Compression::None, Compression::Lz4, Compression::Zstd],
    }
}

async fn taken(installation: &Installation, events: u64) -> Result<Taken> {
    let (kafka, topic) = (installation.config.kafka.clone(), installation.config.names().topic(Topic::ChatEvents));
    let ends = Admin::new(&kafka)?.ends(&topic).await?;
    let records: i64 = ends.values().map(|(first, end)| end - first).sum();
    let bytes = tokio::task::spawn_blocking(move || cdc_worker::producer::log_bytes(&kafka, &topic)).await??;
    let markers = (records as u64).saturating_sub(events);
    Ok(Taken { events, bytes, bytes_an_event: bytes as f64 / events.max(1) as f64, markers })
}

impl OnDisk {
    pub(super) fn write(all: &[Self], out: &mut String) -> std::fmt::Result {
        use std::fmt::Write as _;
        if all.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nbytes an event on disk, markers included")?;
        writeln!(out, "  {:<12} {:>14} {:>10}   {:>14} {:>10}", "", "full batches", "markers", "steady", "markers")?;
        for OnDisk { compression, full_batches, steady, commits_per_s } in all {
            let rate = format!("at {commits_per_s}/s");
            writeln!(
                out,
                "  {compression:<12} {:>14.1} {:>10}   {:>14.1} {:>10}   {rate}",
                full_batches.bytes_an_event, full_batches.markers, steady.bytes_an_event, steady.markers
            )?;
        }
        Ok(())
    }
}
