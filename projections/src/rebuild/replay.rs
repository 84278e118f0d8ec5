//! One pass over the inputs of a projection: partitions side by side, rows kept in memory and written every few seconds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool_postgres::{Pool, Transaction};
use runtime::kafka::admin::Admin;
use runtime::kafka::partition::{self, Chunk, PartitionReader, Span};
use runtime::kafka::{self, Received, Start};
use schemas::{Decoder, Record};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::fresh::Fresh;
use super::{Progress, Rebuilder, Until};
use crate::checkpoint::{self, Checkpoint, Positions, Ranges};
use crate::decode::{self, DecodeError, Decoded};
use crate::error::{self, Error};
use crate::projection::Input;
use crate::runner;
use crate::status::Board;
use crate::wiring::Wiring;

/// Rows that the partitions of one pass hold in memory together, about.
const ROWS: usize = 160_000;

/// Bytes of records that a partition takes in before it writes, where rows hold what was said: 80,000 of them can be anything.
const BYTES: usize = 32 << 20;

/// One pass.
pub struct Pass {
    wiring: Wiring,
    pool: Pool,
    until: Until,
    until_ms: Option<i64>,
    progress: Arc<Progress>,
    write_every: Duration,
    /// Partitions that are worked on at a time.
    workers: usize,
    records: AtomicU64,
}

impl Pass {
    pub(super) fn new(rebuilder: &Rebuilder, fresh: &Fresh, until: Until) -> Self {
        Self {
            wiring: rebuilder.wiring.clone(),
            write_every: rebuilder.write_every,
            pool: fresh.pool.clone(),
            until,
            until_ms: fresh.until_ms,
            progress: Arc::clone(&rebuilder.progress),
            workers: fresh.workers,
            records: AtomicU64::new(0),
        }
    }

    /// Records that were read so far.
    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Reads one input, all its partitions, to the pass' end.
    pub async fn input<P: Input<R>, R: Record>(self: &Arc<Self>, projection: &Arc<P>) -> Result<(), Error> {
        let topic = self.wiring.config.names().topic(R::TOPIC);
        let admin = Admin::new(&self.wiring.config.kafka)?;
        let log_id: Arc<str> = Arc::from(admin.log_id(&topic).await?);
        let decoder = Decoder::<R>::new(
            Arc::clone(&self.wiring.registry),
            runner::own_schema_id::<R>(&self.wiring.registry).await?,
        );
        let checkpoint = Checkpoint {
            consumer: P::NAME,
            version: P::VERSION,
            log_id: Arc::clone(&log_id),
            pool: self.pool.clone(),
            status: Board::default().entry(P::LOOP),
            positions: Positions::default(),
        };
        self.progress.phase(format!("reading {topic}"));
        let spans = self.spans(&checkpoint, &topic).await?;
        let work = Arc::new(Work { pass: Arc::clone(self), projection: Arc::clone(projection), decoder, log_id });
        let turns = Arc::new(Semaphore::new(self.workers));
        let mut partitions = JoinSet::new();
        for span in spans {
            let (work, turns) = (Arc::clone(&work), Arc::clone(&turns));
            partitions.spawn(async move {
                let _turn = turns.acquire_owned().await;
                work.partition(span).await
            });
        }
        while let Some(ended) = partitions.join_next().await {
            ended.unwrap_or_else(|panic| Err(Error::Panicked(panic.to_string())))?;
        }
        Ok(())
    }

    /// What is left to read of a topic.
    async fn spans(&self, checkpoint: &Checkpoint, topic: &str) -> Result<Vec<Span>, Error> {
        let ends = partition::ends(&self.wiring.config.kafka, topic).await?;
        let places: Vec<(String, i32)> = ends.keys().map(|partition| (topic.to_owned(), *partition)).collect();
        let starts = checkpoint.starts(&places).await?;
        let mut spans = Vec::new();
        for place in places {
            let from = match starts.get(&place) {
                Some(Start::At(offset)) => *offset,
                _ => 0,
            };
            let until = match &self.until {
                Until::End => None,
                Until::Offsets(offsets) => Some(offsets.get(&place).copied().unwrap_or(0)),
            };
            let (first, end) = ends.get(&place.1).copied().unwrap_or_default();
            let left = until.unwrap_or(end) - from.max(first);
            if left > 0 {
                self.progress.expect(left as u64);
                let chunk_records = self.wiring.config.projector.batch_records.max(1);
                spans.push(Span { topic: place.0, partition: place.1, from, until, chunk_records });
            }
        }
        Ok(spans)
    }
}

struct Work<P, R> {
    pass: Arc<Pass>,
    projection: Arc<P>,
    decoder: Decoder<R>,
    log_id: Arc<str>,
}

/// Records that were read and aren't applied.
struct Waiting<R> {
    received: Vec<Received>,
    decoded: Decoded<R>,
    /// Index of the first record that isn't applied, and of the first that was received and isn't.
    next: (usize, usize),
    bytes: usize,
    is_end: bool,
}

impl<P: Input<R>, R: Record> Work<P, R> {
    /// One partition, from where it stands to the pass' end.
    async fn partition(&self, span: Span) -> Result<(), Error> {
        let pass = &self.pass;
        let group = pass.wiring.config.names().group(&format!("rebuild-{}", P::NAME));
        let (topic, number, mut position) = (span.topic.clone(), span.partition, span.from);
        let mut reader = PartitionReader::start(kafka::client_config(&pass.wiring.config.kafka), &group, span)?;
        let mut state = self.projection.state();
        let mut waiting = VecDeque::new();
        let mut is_end = false;
        while !is_end {
            // Nothing is begun before there is something to do.
            if waiting.is_empty() {
                match reader.next().await? {
                    Some(chunk) => waiting.push_back(self.decode(chunk).await?),
                    None => break,
                }
            }
            let mut client = pass.pool.get().await?;
            let transaction = client.transaction().await.map_err(Error::database("beginning a transaction"))?;
            let (first, began, mut bytes) = (position, Instant::now(), 0);
            while let Some(mut chunk) = waiting.pop_front() {
                let is_full = self.apply(&transaction, &mut chunk, &mut state, &mut position).await?;
                if is_full {
                    waiting.push_front(chunk);
                    break;
                }
                is_end = chunk.is_end;
                bytes += chunk.bytes;
                let is_heavy = P::HOLDS_BODIES && bytes >= BYTES;
                let is_much = is_heavy || P::size(&state) >= ROWS / pass.workers || !P::lasts(&state);
                let left = pass.write_every.saturating_sub(began.elapsed());
                if is_end || is_much || left.is_zero() {
                    break;
                }
                // While Kafka is silent, what is done is written: a transaction isn't kept open for it.
                match tokio::time::timeout(left, reader.next()).await {
                    Ok(Ok(Some(chunk))) => waiting.push_back(self.decode(chunk).await?),
                    Ok(Ok(None)) => is_end = true,
                    Ok(Err(failure)) => return Err(failure.into()),
                    Err(_) => {}
                }
            }
            self.write(&transaction, &state, (&topic, number), (first, position)).await?;
            transaction.commit().await.map_err(Error::database("committing"))?;
            P::settle(&mut state);
            if !P::lasts(&state) || P::size(&state) >= ROWS / pass.workers / 2 {
                state = self.projection.state();
            }
        }
        Ok(())
    }

    async fn decode(&self, chunk: Chunk) -> Result<Waiting<R>, Error> {
        let mut received = chunk.records;
        let bytes = received.iter().filter_map(|record| record.value.as_ref()).map(Vec::len).sum();
        self.pass.progress.read(received.len() as u64);
        self.pass.records.fetch_add(received.len() as u64, Ordering::Relaxed);
        if let Some(until_ms) = self.pass.until_ms {
            // Times don't run backwards within a chat, but they do across chats: later ones are left out one by one.
            for record in received.iter_mut().filter(|record| record.timestamp_ms > until_ms) {
                record.value = None;
            }
        }
        let mut decoded = Decoded::with_room(received.len());
        let mut next = 0;
        let skips = self.pass.until_ms.is_some();
        match decode::decode(&self.decoder, &received, &mut decoded, P::NAME, &mut next, skips).await {
            Ok(()) => {
                // Live runners have put it aside.
                for (place, reason) in &decoded.strange {
                    let Received { topic, partition, offset, .. } = &received[*place];
                    let projection = P::NAME;
                    tracing::warn!(projection, %topic, partition, offset, error = %reason, "passed over what is no event");
                }
                Ok(Waiting { received, decoded, next: (0, 0), bytes, is_end: chunk.is_end })
            }
            Err(DecodeError::Poison(failure)) => Err(failure),
            Err(DecodeError::Waits(failure)) => Err(Error::Waits(error::chain(&failure))),
        }
    }

    /// Applies what waits; says whether that was too much to go on, so that the rest has to wait for the next transaction.
    async fn apply(
        &self,
        transaction: &Transaction<'_>,
        chunk: &mut Waiting<R>,
        state: &mut P::State,
        position: &mut i64,
    ) -> Result<bool, Error> {
        let records = &chunk.decoded.records[chunk.next.0..];
        if !records.is_empty() {
            let loading = self.projection.load(transaction, records, state);
            loading.await.map_err(Error::database("loading rows"))?;
        }
        for record in records {
            let place = chunk.decoded.places[chunk.next.0];
            if let Err(refusal) = P::apply(state, record) {
                return Err(decode::poison(P::NAME, &chunk.received[place], refusal));
            }
            chunk.next = (chunk.next.0 + 1, place + 1);
            *position = chunk.received[place].offset + 1;
            if P::is_full(state) {
                return Ok(true);
            }
        }
        if let Some(last) = chunk.received.last() {
            *position = last.offset + 1;
        }
        Ok(false)
    }

    /// Writes the rows that changed, and how far the partition has come.
    async fn write(
        &self,
        transaction: &Transaction<'_>,
        state: &P::State,
        (topic, partition): (&str, i32),
        (first, next): (i64, i64),
    ) -> Result<(), Error> {
        let ranges = Ranges::from([((topic, partition), (first, next))]);
        let advanced = checkpoint::advance::<P>(transaction, &self.log_id, &ranges).await;
        if !advanced.map_err(Error::database("moving offsets"))? {
            return Err(Error::RebuiltElsewhere { projection: P::NAME });
        }
        self.projection.store(transaction, state).await.map_err(Error::database("storing rows"))
    }
}
