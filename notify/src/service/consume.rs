//! Reading topics with offsets in the read database, which move in the transaction of what a batch leads to.
//!
//! ```text
//!   Reader ──▶ Work::prepare (reads) ──▶ ┌ Postgres transaction ────────────────────┐
//!     ▲                                  │ advance offsets ─▶ Work::apply (writes)   │──▶ commit ──▶ Work::done
//!     └────── reload ◀── offset moved ───┴───────────────────────────────────────────┘
//! ```
//!
//! *Progress.* As the projector has it: of two that believe to own a partition, the second finds the offset moved and reads
//! again. What `apply` writes to Kafka is there before the commit: a crash between the two writes it again, and its readers
//! know it by its identity.
//!
//! *Failure.* What passes is tried again with backoff, and said in the role's health.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Transaction;
use runtime::Shutdown;
use runtime::kafka::admin::Admin;
use runtime::kafka::reader::{Loading, Place, Reader, Settings};
use runtime::kafka::{self, OffsetStore, Received, Start};
use runtime::retry::Backoff;
use schemas::topics::Topic;
use tokio_postgres::types::ToSql;

use super::Notifier;
use super::error::{Error, chain};
use super::metrics;
use super::transaction::begin;

/// An idle loop turns at least this often.
const TURN: Duration = Duration::from_secs(1);

const MAKE: &str = "
    INSERT INTO consumer_offset (consumer, topic, partition, next_offset, log_id)
    SELECT $1, $2, p.partition, p.next_offset, $5 FROM unnest($3::int[], $4::bigint[]) AS p (partition, next_offset)
    ON CONFLICT DO NOTHING";
const LOAD: &str = "
    SELECT o.topic, o.partition, o.next_offset FROM consumer_offset o
      JOIN unnest($2::text[], $3::int[]) AS p (topic, partition) ON o.topic = p.topic AND o.partition = p.partition
     WHERE o.consumer = $1";
const OTHER_LOG: &str =
    "SELECT log_id FROM consumer_offset WHERE consumer = $1 AND topic = $2 AND log_id <> $3 LIMIT 1";
const ADVANCE: &str = "
    UPDATE consumer_offset o SET next_offset = p.next_offset
      FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS p (topic, partition, first_offset, next_offset)
     WHERE o.consumer = $1 AND o.topic = p.topic AND o.partition = p.partition AND o.next_offset <= p.first_offset";

/// What is done with batches of some topics.
pub(crate) trait Work: Sync {
    /// Consumer in the table of offsets, and end of the group's name.
    const NAME: &'static str;
    /// Metric that takes the records not yet read.
    const LAG: &'static str;
    /// Topics.
    const TOPICS: &'static [Topic];
    /// Whether a first start begins at the topics' ends: what was before tells nobody.
    const FROM_END: bool;
    /// Most records in a batch.
    const BATCH: usize;
    /// What a batch leads to.
    type Plan: Send + Sync;

    /// Reads what a batch needs and decides; says of how many of its records, of the first one at least: the rest comes next.
    fn prepare(&self, records: &[Received]) -> impl Future<Output = Result<(Self::Plan, usize), Error>> + Send;

    /// Writes what was decided.
    fn apply(&self, transaction: &Transaction<'_>, plan: &Self::Plan)
    -> impl Future<Output = Result<(), Error>> + Send;

    /// So many of the records are committed, from the first one on.
    fn done(&self, _records: &[Received]) {}
}

/// Works until it is time to stop.
pub(crate) async fn run<W: Work>(work: &W, notifier: &Notifier, shutdown: &Shutdown) -> Result<(), Error> {
    let mut backoff = Backoff::default();
    while let Err(failure) = make_offsets::<W>(notifier).await {
        if !failure.is_transient() {
            return Err(failure);
        }
        notifier.board.not_ready(W::NAME, chain(&failure));
        if !shutdown.pause(backoff.next_pause()).await {
            return Ok(());
        }
    }
    let names = notifier.config.names();
    let group = names.group(W::NAME);
    let settings = Settings {
        client: kafka::client_config(&notifier.config.kafka),
        group: group.clone(),
        topics: W::TOPICS.iter().map(|&topic| names.topic(topic)).collect(),
        batch_records: W::BATCH,
        gather: Duration::ZERO,
        lag_metric: W::LAG,
    };
    let store = Offsets { consumer: W::NAME, pool: notifier.read.clone() };
    let mut reader = Reader::start(settings, Arc::new(store), shutdown)?;
    loop {
        let batch = match tokio::time::timeout(TURN, reader.next()).await {
            // A group that hasn't taken it in yet may refuse to.
            Err(_) if !reader.has_joined() => {
                notifier.board.not_ready(W::NAME, "starting");
                continue;
            }
            Err(_) => {
                notifier.board.ready(W::NAME);
                continue;
            }
            Ok(Ok(Some(batch))) => batch,
            Ok(Ok(None)) if shutdown.has_begun() => return Ok(()),
            Ok(Ok(None)) => return Err(Error::Ended(group)),
            Ok(Err(error)) => return Err(error.into()),
        };
        let (mut backoff, mut rest) = (Backoff::default(), &batch.records[..]);
        while !rest.is_empty() {
            match Box::pin(turn(work, notifier, rest)).await {
                Ok(Some(taken)) => {
                    notifier.board.ready(W::NAME);
                    let (done, left) = rest.split_at(taken);
                    work.done(done);
                    rest = left;
                    if shutdown.has_begun() {
                        return Ok(());
                    }
                }
                Ok(None) => {
                    ::metrics::counter!(metrics::MISMATCHES).increment(1);
                    reader.reload();
                    break;
                }
                Err(failure) if failure.is_transient() => {
                    ::metrics::counter!(metrics::RETRIES, "part" => W::NAME).increment(1);
                    tracing::warn!(part = W::NAME, error = %chain(&failure), "trying a batch again");
                    notifier.board.not_ready(W::NAME, chain(&failure));
                    if !shutdown.pause(backoff.next_pause()).await {
                        return Ok(());
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// One attempt; how many records are done, `None` if somebody else has come further already.
async fn turn<W: Work>(work: &W, notifier: &Notifier, records: &[Received]) -> Result<Option<usize>, Error> {
    let (plan, taken) = work.prepare(records).await?;
    let records = &records[..taken.clamp(1, records.len())];
    let mut client = notifier.read.get().await?;
    let transaction = begin(&mut client).await?;
    if !advance(&transaction, W::NAME, records).await? {
        transaction.rollback().await.map_err(Error::database("rolling back"))?;
        return Ok(None);
    }
    work.apply(&transaction, &plan).await?;
    transaction.commit().await.map_err(Error::database("committing"))?;
    Ok(Some(records.len()))
}

async fn advance(transaction: &Transaction<'_>, consumer: &str, records: &[Received]) -> Result<bool, Error> {
    let mut ranges: HashMap<(&str, i32), (i64, i64)> = HashMap::new();
    for record in records {
        let next = record.offset + 1;
        ranges
            .entry((&*record.topic, record.partition))
            .and_modify(|range| range.1 = next)
            .or_insert((record.offset, next));
    }
    // One order for all, so that no two wait for each other.
    let mut ranges: Vec<_> = ranges.into_iter().collect();
    ranges.sort_unstable();
    let topics: Vec<&str> = ranges.iter().map(|((topic, _), _)| *topic).collect();
    let partitions: Vec<i32> = ranges.iter().map(|((_, partition), _)| *partition).collect();
    let firsts: Vec<i64> = ranges.iter().map(|(_, (first, _))| *first).collect();
    let nexts: Vec<i64> = ranges.iter().map(|(_, (_, next))| *next).collect();
    let advancing = async {
        let statement = transaction.prepare_cached(ADVANCE).await?;
        let values: [&(dyn ToSql + Sync); 5] = [&consumer, &topics, &partitions, &firsts, &nexts];
        transaction.execute(&statement, &values).await
    };
    let moved = advancing.await.map_err(Error::database("moving offsets"))?;
    Ok(moved == ranges.len() as u64)
}

/// Makes the rows of all partitions that have none, so that a first start begins where the topics end now.
async fn make_offsets<W: Work>(notifier: &Notifier) -> Result<(), Error> {
    let admin = Admin::new(&notifier.config.kafka)?;
    let names = notifier.config.names();
    let client = notifier.read.get().await?;
    for &topic in W::TOPICS {
        let topic = names.topic(topic);
        let log_id = admin.log_id(&topic).await?;
        let ends = admin.ends(&topic).await?;
        let failed = Error::database("reading offsets");
        if let Some(row) = client.query_opt(OTHER_LOG, &[&W::NAME, &topic, &log_id]).await.map_err(failed)? {
            return Err(Error::OtherLog { consumer: W::NAME, topic, recorded: row.get(0), found: log_id });
        }
        let partitions: Vec<i32> = ends.keys().copied().collect();
        let starts: Vec<i64> = ends.values().map(|(_, end)| if W::FROM_END { *end } else { 0 }).collect();
        let made = client.execute(MAKE, &[&W::NAME, &topic, &partitions, &starts, &log_id]).await;
        made.map_err(Error::database("making offsets"))?;
    }
    Ok(())
}

struct Offsets {
    consumer: &'static str,
    pool: deadpool_postgres::Pool,
}

impl OffsetStore for Offsets {
    fn load<'a>(&'a self, places: &'a [Place]) -> Loading<'a> {
        Box::pin(async move {
            let topics: Vec<&str> = places.iter().map(|(topic, _)| topic.as_str()).collect();
            let partitions: Vec<i32> = places.iter().map(|(_, partition)| *partition).collect();
            let client = self.pool.get().await.map_err(|error| chain(&error))?;
            let rows = client.query(LOAD, &[&self.consumer, &topics, &partitions]).await;
            let rows = rows.map_err(|error| chain(&error))?;
            let start = |offset| if offset == 0 { Start::Beginning } else { Start::At(offset) };
            Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), start(row.get(2)))).collect())
        })
    }
}
