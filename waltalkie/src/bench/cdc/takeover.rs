//! How long a standby takes to go on where a worker was killed or stopped, from the fault itself.
//!
//! ```text
//!   writer ──▶ Postgres ──▶ worker    SIGKILL or SIGSTOP, at a random moment
//!                    └────▶ standby   fault ──▶ reads its first transaction ──▶ has committed its first one in Kafka
//! ```
//!
//! Two workers as processes of their own, under orders to tell of the two points (`cdc_worker::victim`); each is in turn the
//! one that streams. One that was stopped is killed once its standby was measured: what it does when it goes on is asked by
//! `--chaos`. In the end the committed history must be the tables.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cdc_worker::audit::{self, Verdict};
use faults::Victim;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runtime::{Config, Shutdown, clock};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::CdcArgs;
use super::chaos::start_worker;
use super::site::{Installation, Site};
use crate::bench::figures::Percentiles;
use crate::bench::ledger::{Latencies, latencies, record};
use crate::bench::progress;
use crate::bench::telling;

/// Between two commits.
const WRITE_EVERY: Duration = Duration::from_millis(5);
/// Milliseconds of quiet before a fault, some of them drawn: it shall meet the lease at any age.
const QUIET_MS: std::ops::Range<u64> = 500..1_500;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What a standby tells of.
const POINTS: [&str; 2] = ["begun", "committed"];

/// What is done to the worker that streams.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Stop,
}

/// Takeovers after faults of one kind.
#[derive(Debug, Serialize)]
struct Took {
    fault: &'static str,
    takeovers: u64,
    first_read: Percentiles,
    first_commit: Percentiles,
}

/// All of them.
#[derive(Debug, Serialize)]
pub(super) struct Takeovers {
    faults: Vec<Took>,
    /// Takeovers before the fault that was to cause them: the lease wasn't renewed in time. They aren't counted.
    unprovoked: u64,
    /// The committed history against the tables.
    history: Verdict,
}

/// Times since the fault.
#[derive(Debug, Clone, Copy)]
struct Times {
    read_ms: i64,
    committed_ms: i64,
}

/// Two workers.
struct Workers<'a> {
    config: &'a Config,
    logs: PathBuf,
    started: u32,
    /// The one that streams, then the one that stands by.
    pair: [Victim; 2],
}

/// Makes an installation and measures on it.
pub(super) async fn run(args: &CdcArgs, site: Site) -> Result<Takeovers> {
    let installation = site.install(0).await?;
    let logs = tempfile::Builder::new().prefix("waltalkie-takeover-").tempdir().context("a folder for logs")?;
    let outcome = measure(args, &site, &installation, logs.path()).await;
    if outcome.is_err() {
        eprintln!("the workers' logs are in {}", logs.keep().display());
    }
    site.remove(&installation).await?;
    site.unmake().await?;
    outcome
}

async fn measure(args: &CdcArgs, site: &Site, installation: &Installation, logs: &Path) -> Result<Takeovers> {
    let client = site.connect().await?;
    let mut config = installation.config.clone();
    if !config.postgres.replication_url.is_empty() {
        // Workers under orders know of one URL.
        config.postgres.truth_url = config.postgres.replication_url.clone();
    }
    let mut workers = Workers::start(&config, logs, &client, &installation.slot).await?;
    let (stop, mut writing) = (Shutdown::new(), JoinSet::new());
    writing.spawn(write(site.connect().await?, stop.clone()));
    let mut random = StdRng::seed_from_u64(1);
    let (mut faults, mut unprovoked) = (Vec::new(), 0);
    let bar = progress(2 * u64::from(args.takeovers), "taking over");
    for fault in [Fault::Kill, Fault::Stop] {
        let (mut read, mut committed) = (latencies(), latencies());
        while read.len() < u64::from(args.takeovers) {
            let times = workers.suffer(fault, &mut random).await?;
            if times.read_ms < 0 {
                unprovoked += 1;
                continue;
            }
            note(&mut read, times.read_ms);
            note(&mut committed, times.committed_ms);
            bar.inc(1);
        }
        faults.push(Took {
            fault: fault.name(),
            takeovers: read.len(),
            first_read: Percentiles::of_latencies(&read),
            first_commit: Percentiles::of_latencies(&committed),
        });
    }
    bar.finish_and_clear();
    stop.begin();
    while let Some(ended) = writing.join_next().await {
        ended??;
    }
    let history = compare(&Arc::new(installation.config.clone())).await?;
    workers.end().await?;
    Ok(Takeovers { faults, unprovoked, history })
}

fn note(latencies: &mut Latencies, ms: i64) {
    record(latencies, u64::try_from(ms).unwrap_or(0) * 1_000);
}

/// One row a transaction until it is told to stop.
async fn write(client: Client, stop: Shutdown) -> Result<()> {
    let insert = client
        .prepare(
            "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
             VALUES (gen_random_uuid(), 'takeover', 'alice', 'text', $1, clock_timestamp())",
        )
        .await?;
    for seq in 1_i64.. {
        client.execute(&insert, &[&seq]).await.context("writing a row")?;
        if !stop.pause(WRITE_EVERY).await {
            break;
        }
    }
    Ok(())
}

/// The history against the tables, once all of it has come.
async fn compare(config: &Arc<Config>) -> Result<Verdict> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let verdict = audit::audit(config).await?;
        if !verdict.is_late() || Instant::now() > deadline {
            return Ok(verdict);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl<'a> Workers<'a> {
    /// One that streams, then one that stands by.
    async fn start(config: &'a Config, logs: &Path, client: &Client, slot: &str) -> Result<Self> {
        let first = start_worker(config, &logs.join("1.log"))?;
        streams(client, slot, &first).await?;
        let standby = start_worker(config, &logs.join("2.log"))?;
        stands_by(&standby).await?;
        Ok(Self { config, logs: logs.to_owned(), started: 2, pair: [first, standby] })
    }

    /// Kills or stops the one that streams; the other one has its place in the end, and a new one stands by.
    async fn suffer(&mut self, fault: Fault, random: &mut StdRng) -> Result<Times> {
        let [streams, standby] = &mut self.pair;
        let before = standby.reports().len();
        for point in POINTS {
            let order = format!("{point}:1:tell");
            standby.tell(&format!("at {order}"))?;
            told(standby, before, |report| report["report"] == "armed" && report["order"] == order.as_str()).await?;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(QUIET_MS))).await;
        let since_ms = clock::now_ms();
        match fault {
            Fault::Kill => streams.kill().await?,
            Fault::Stop => streams.freeze().await?,
        }
        let mut times = [0; 2];
        for (time, point) in times.iter_mut().zip(POINTS) {
            let is_it = |report: &Value| report["report"] == "reached" && report["point"] == point;
            let report = told(standby, before, is_it).await?;
            *time = report["at_ms"].as_i64().context("a report without its time")? - since_ms;
        }
        if matches!(fault, Fault::Stop) {
            streams.kill().await?;
        }
        self.pair.swap(0, 1);
        self.started += 1;
        self.pair[1] = start_worker(self.config, &self.logs.join(format!("{}.log", self.started)))?;
        stands_by(&self.pair[1]).await?;
        let [read_ms, committed_ms] = times;
        Ok(Times { read_ms, committed_ms })
    }

    async fn end(mut self) -> Result<()> {
        for worker in &mut self.pair {
            worker.tell("end")?;
            let status = worker.ended().await?;
            ensure!(status.success(), "a worker ended badly: {status}\n{}", worker.log_end());
        }
        Ok(())
    }
}

/// Waits until a worker has the slot.
async fn streams(client: &Client, slot: &str, worker: &Victim) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let active = "SELECT active FROM pg_replication_slots WHERE slot_name = $1";
    while !client.query_one(active, &[&slot]).await?.get::<_, bool>(0) {
        ensure!(Instant::now() < deadline, "a worker doesn't stream\n{}", worker.log_end());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn stands_by(worker: &Victim) -> Result<()> {
    told(worker, 0, |report| report["report"] == "health" && report["is_ready"] == true).await.map(drop)
}

/// Waits for a report that isn't among the first ones.
async fn told(worker: &Victim, before: usize, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = worker.reports().into_iter().skip(before).find(|report| is_it(report)) {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "a worker doesn't come to its point\n{}", worker.log_end());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Stop => "SIGSTOP",
        }
    }
}

impl Takeovers {
    pub(super) fn is_right(&self) -> bool {
        self.history.is_clean()
    }

    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        for Took { fault, takeovers, first_read, first_commit } in &self.faults {
            let heading = format!("\n{takeovers} takeovers after {fault}, ms from it");
            let rows = [("standby reads", Some(first_read)), ("standby has committed to Kafka", Some(first_commit))];
            telling::percentiles(out, &heading, &rows)?;
        }
        writeln!(out, "  history: {}; takeovers without a fault: {}", self.history, self.unprovoked)
    }
}
