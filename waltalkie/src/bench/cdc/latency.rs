//! From a commit to a consumer of committed records, and a bare transactional producer's way to the same consumer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cdc_worker::record::Outgoing;
use rand::{SeedableRng, rngs::StdRng};
use rdkafka::Offset;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use schemas::topics::Topic;

use super::ledger::{consumer, place};
use super::reference::{self, Bare};
use super::report::Latency;
use super::site::{Installation, Site};
use super::worker::Worker;
use super::{CdcArgs, Workload, backlog};
use crate::bench::figures::{Percentiles, median};
use crate::bench::processes::Watch;
use crate::bench::progress;
use crate::bench::text::body;

/// Connections that commit.
const WRITERS: u64 = 16;
/// Commits a second of an idle run, and the time between them.
const IDLE_COMMITS_PER_S: u64 = 4;
const IDLE_EVERY: Duration = Duration::from_millis(250);
/// Rows that records for the bare producer are made from.
const SAMPLE: u64 = 1_000;
/// Different bodies of each writer, so that none is in a batch twice.
const BODIES: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// What is sent when.
#[derive(Debug, Clone, Copy)]
struct Load {
    writers: u64,
    every: Duration,
    commits: u64,
    /// Of the first of them nothing is told.
    warmup: u64,
}

impl Load {
    fn of(args: &CdcArgs, workload: Workload) -> Self {
        if workload == Workload::Idle {
            let commits = IDLE_COMMITS_PER_S * args.seconds + 8;
            return Self { writers: 1, every: IDLE_EVERY, commits, warmup: 8 };
        }
        let warmup = args.rate * args.seconds.div_ceil(3);
        let commits = args.rate * args.seconds + warmup;
        Self { writers: WRITERS, every: Duration::from_secs_f64(1.0 / args.rate as f64), commits, warmup }
    }
}

/// Times by number of the commit, in microseconds since a common beginning; 0 is not yet.
struct Times(Vec<AtomicU64>);

impl Times {
    fn new(commits: u64) -> Self {
        Self((0..commits).map(|_| AtomicU64::new(0)).collect())
    }

    fn note(&self, number: u64, began: Instant) {
        if let Some(time) = self.0.get(number as usize) {
            time.store(began.elapsed().as_micros() as u64, Ordering::Release);
        }
    }
}

/// All runs of one of the two workloads, each in a database of its own: a slot would show the rows of earlier ones.
pub(super) async fn run(
    args: &CdcArgs,
    workload: Workload,
    new_site: impl AsyncFn() -> Result<Site>,
) -> Result<Latency> {
    let load = Load::of(args, workload);
    let (mut ours, mut bare, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.runs() {
        let site = new_site().await?;
        let installation = site.install(0).await?;
        let (percentiles, cpu_s) = through_the_worker(args, &site, &installation, load).await?;
        ours.push(percentiles);
        costs.push(cpu_s);
        site.remove(&installation).await?;
        site.unmake().await?;
        if !args.no_reference {
            let site = new_site().await?;
            let installation = site.install(0).await?;
            bare.push(from_memory(args, &site, &installation, load).await?);
            site.remove(&installation).await?;
            site.unmake().await?;
        }
    }
    Ok(Latency {
        workload: workload.name(),
        commits_per_s: 1.0 / load.every.as_secs_f64(),
        figures: Percentiles::medians(&ours),
        runs: ours,
        bare_producer: (!bare.is_empty()).then(|| Percentiles::medians(&bare)),
        cpu_s: costs
            .first()
            .map(|first| first.keys().map(|role| (role.clone(), median(costs.iter().map(|run| run[role])))).collect()),
    })
}

/// One run of commits at `--rate` alone; returns how many there were.
pub(super) async fn at_a_steady_rate(args: &CdcArgs, site: &Site, installation: &Installation) -> Result<u64> {
    let load = Load::of(args, Workload::Latency);
    through_the_worker(args, site, installation, load).await?;
    Ok(load.commits)
}

type Cpu = std::collections::BTreeMap<String, f64>;

async fn through_the_worker(
    args: &CdcArgs,
    site: &Site,
    installation: &Installation,
    load: Load,
) -> Result<(Percentiles, Cpu)> {
    let client = site.connect().await?;
    let worker = Worker::start(installation, &client).await?;
    let began = Instant::now();
    let (committed, seen) = (Arc::new(Times::new(load.commits)), Arc::new(Times::new(load.commits)));
    let (prefix, writers) = (installation.config.names.prefix.clone(), load.writers);
    let number_in_id = move |message: &BorrowedMessage<'_>| number_in_id(message, &prefix, writers);
    let reader = Reader::start(installation, load, began, Arc::clone(&seen), number_in_id)?;
    let mut roles = site.servers.clone();
    roles.push(("cdc worker".to_owned(), worker.pid().context("the worker has no process")?));
    let mut watch = Watch::new(roles, None);
    let bar = progress(load.commits, "committing");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..load.writers {
        let (client, committed, bar) = (site.connect().await?, Arc::clone(&committed), bar.clone());
        let mut random = StdRng::seed_from_u64(writer);
        let contents: Vec<String> = (0..BODIES).map(|_| body(&mut random, args.content_bytes)).collect();
        let prefix = installation.config.names.prefix.clone();
        writers.spawn(async move {
            let insert = client
                .prepare(
                    "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
                     VALUES (gen_random_uuid(), $1, 'alice', $2, $3, clock_timestamp())",
                )
                .await?;
            let chat = format!("{prefix}{writer}");
            for number in (writer..load.commits).step_by(load.writers as usize) {
                tokio::time::sleep_until((began + load.every * number as u32).into()).await;
                let content = &contents[(number / load.writers) as usize % BODIES];
                client.execute(&insert, &[&chat, content, &((number / load.writers) as i64 + 1)]).await?;
                committed.note(number, began);
                bar.inc(1);
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(outcome) = writers.join_next().await {
        outcome??;
    }
    bar.finish_and_clear();
    reader.finish().await?;
    let cpu_s = watch.end().cpu_s;
    worker.stop().await?;
    Ok((percentiles(&committed.0, &seen.0, load.warmup), cpu_s))
}

/// The same load as records that are there already, each from its due time on.
async fn from_memory(args: &CdcArgs, site: &Site, installation: &Installation, load: Load) -> Result<Percentiles> {
    let client = site.connect().await?;
    let sample = CdcArgs { events: SAMPLE, ..args.clone() };
    backlog::write(&client, &sample, Workload::A).await?;
    let records = reference::capture(installation, SAMPLE).await?;
    let began = Instant::now();
    let (due, seen) = (Arc::new(Times::new(load.commits)), Arc::new(Times::new(load.commits)));
    let reader = Reader::start(installation, load, began, Arc::clone(&seen), number_in_key)?;
    let mut bare = Bare::new(installation)?;
    let (sender, receiver) = mpsc::sync_channel::<u64>(100_000);
    let producing = tokio::task::spawn_blocking(move || {
        let mut numbers = Vec::new();
        while let Ok(first) = receiver.recv() {
            numbers.clear();
            numbers.push(first);
            numbers.extend(receiver.try_iter().take(SAMPLE as usize - 1));
            let keys: Vec<String> = numbers.iter().map(u64::to_string).collect();
            let numbered = records.iter().zip(&keys).map(|(record, key)| Outgoing { key: key.as_bytes(), ..record });
            bare.publish(numbered)?;
        }
        Ok::<_, anyhow::Error>(())
    });
    for number in 0..load.commits {
        tokio::time::sleep_until((began + load.every * number as u32).into()).await;
        due.note(number, began);
        sender.send(number).context("the bare producer has ended")?;
    }
    drop(sender);
    producing.await??;
    reader.finish().await?;
    Ok(percentiles(&due.0, &seen.0, load.warmup))
}

/// Of the times between two moments of each commit, without the first of them. What was seen before its commit was told to
/// the one who committed counts as 0.
fn percentiles(from: &[AtomicU64], to: &[AtomicU64], warmup: u64) -> Percentiles {
    let pairs = from.iter().zip(to).skip(warmup as usize);
    let mut times: Vec<u64> =
        pairs.map(|(from, to)| to.load(Ordering::Acquire).saturating_sub(from.load(Ordering::Acquire))).collect();
    times.sort_unstable();
    let at = |share: f64| {
        let place = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1)) - 1;
        times.get(place).copied().unwrap_or(0) as f64 / 1_000.0
    };
    Percentiles { p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99), max_ms: at(1.0) }
}

/// The consumer of committed records, on a thread of its own.
struct Reader(tokio::task::JoinHandle<Result<()>>);

impl Reader {
    /// Starts it; it stands at the end of the topic when this returns.
    fn start(
        installation: &Installation,
        load: Load,
        began: Instant,
        seen: Arc<Times>,
        number_of: impl Fn(&BorrowedMessage<'_>) -> Option<u64> + Send + 'static,
    ) -> Result<Self> {
        let config = &installation.config;
        let topic = config.names().topic(Topic::ChatEvents);
        let consumer = consumer(config, &topic, config.kafka.partitions, Offset::Beginning)?;
        Ok(Self(tokio::task::spawn_blocking(move || {
            let mut rest = load.commits;
            let mut last_sign = Instant::now();
            while rest > 0 {
                match consumer.poll(Duration::from_millis(100)) {
                    Some(Ok(message)) => {
                        seen.note(number_of(&message).context("a record without a number")?, began);
                        rest -= 1;
                        last_sign = Instant::now();
                    }
                    Some(Err(KafkaError::PartitionEOF(_))) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => ensure!(last_sign.elapsed() < PATIENCE, "{rest} events don't arrive"),
                }
            }
            Ok(())
        })))
    }

    async fn finish(self) -> Result<()> {
        self.0.await?
    }
}

/// Each writer has a chat of its own, in which its commits are dense from 1.
fn number_in_id(message: &BorrowedMessage<'_>, prefix: &str, writers: u64) -> Option<u64> {
    let (chat, seq) = place(message)?;
    let writer: u64 = chat.strip_prefix(prefix)?.parse().ok()?;
    Some(seq.checked_sub(1)? * writers + writer)
}

fn number_in_key(message: &BorrowedMessage<'_>) -> Option<u64> {
    std::str::from_utf8(message.key()?).ok()?.parse().ok()
}
