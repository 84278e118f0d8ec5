//! The thread's loop: gather, publish, report.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use runtime::kafka;
use schemas::{PartitionEnd, Position};
use tokio::sync::{mpsc, watch};

use super::headers::HeaderMaker;
use super::producer::{CALL, Ends, TopicEnds, is_retriable};
use super::{Chunk, Committed, Task};
use crate::error::Error;
use crate::failpoint::Point;
use crate::lsn::Lsn;
use crate::metrics;
use crate::progress::Mark;
use crate::record::{Destination, Outgoing};

/// Most rows in one Kafka transaction, give or take a chunk. Each costs the brokers a marker a partition, so few large ones
/// are cheaper than many small ones.
const TRANSACTION_ROWS: usize = 20_000;
/// Most bytes in one Kafka transaction, give or take a chunk.
const TRANSACTION_BYTES: usize = 16 << 20;

/// The thread's own state.
pub(super) struct Loop {
    task: Task,
    reports: watch::Sender<Committed>,
    ends: TopicEnds,
    headers: HeaderMaker,
}

impl Loop {
    pub(super) fn new(mut task: Task, reports: watch::Sender<Committed>) -> Self {
        let ends = std::mem::take(&mut task.ends).into_iter().fold(TopicEnds::new(), |mut ends, end| {
            ends.entry(end.topic_name).or_default().insert(end.partition_number, end.last_offset);
            ends
        });
        let headers = HeaderMaker::new(std::mem::take(&mut task.source));
        Self { task, reports, ends, headers }
    }

    /// Publishes until the channel is dropped or something fails; blocks.
    pub(super) fn run(mut self, mut chunks: mpsc::Receiver<Chunk>) -> Result<(), Error> {
        while let Some(first) = chunks.blocking_recv() {
            let started = Instant::now();
            let rows = match self.publish(first, &mut chunks) {
                Ok(Some(rows)) => rows,
                Ok(None) => return Ok(()),
                Err(error) => {
                    ::metrics::counter!(metrics::FAILED_TRANSACTIONS).increment(1);
                    self.try_abort(&error);
                    return Err(error);
                }
            };
            ::metrics::histogram!(metrics::PUBLISH).record(started.elapsed().as_secs_f64());
            ::metrics::histogram!(metrics::BATCH).record(rows as f64);
            ::metrics::counter!(metrics::ROWS).increment(rows as u64);
            ::metrics::counter!(metrics::TRANSACTIONS).increment(1);
        }
        Ok(())
    }

    /// One Kafka transaction: a chunk, and what arrives while it is being sent. Returns its number of rows; `None` if the
    /// worker has been dropped or a failpoint said to die.
    fn publish(&mut self, first: Chunk, chunks: &mut mpsc::Receiver<Chunk>) -> Result<Option<usize>, Error> {
        self.producer().begin_transaction().map_err(Error::kafka("beginning a transaction"))?;
        let mut largest = Largest::default();
        let (mut rows, mut bytes) = (0, 0);
        let mut next = Some(first);
        let (mut number, mut mark) = (0, self.task.stored);
        while let Some(chunk) = next {
            (number, mark) = (chunk.number, chunk.mark);
            rows += chunk.records.len();
            bytes += chunk.records.bytes();
            for record in chunk.records.iter() {
                largest.see(&record);
                self.send(record, &largest)?;
            }
            let has_room = rows < TRANSACTION_ROWS && bytes < TRANSACTION_BYTES;
            next = match (has_room, chunk.is_followed) {
                (false, _) => None,
                (true, false) => chunks.try_recv().ok(),
                (true, true) => match chunks.blocking_recv() {
                    Some(chunk) => Some(chunk),
                    None => return Ok(None),
                },
            };
        }
        self.send_position(mark)?;
        if self.task.failpoints.is_armed() {
            kafka::flush(self.producer().client(), CALL);
            if self.task.failpoints.dies_at(Point::Produced) {
                return Ok(None);
            }
        }
        if !self.commit(chunks, &largest)? {
            return Ok(None);
        }
        if self.task.failpoints.dies_at(Point::Committed) {
            return Ok(None);
        }
        let delivered = std::mem::take(&mut *self.context().delivered.lock().unwrap_or_else(PoisonError::into_inner));
        for (topic, ends) in delivered {
            if topic != self.task.topics.positions {
                self.ends.entry(topic).or_default().extend(ends);
            }
        }
        self.task.fenced.take_turns();
        self.reports.send_replace(Committed { number, mark });
        Ok(Some(rows))
    }

    fn send(&mut self, record: Outgoing<'_>, largest: &Largest) -> Result<(), Error> {
        let headers = self.headers.make(&record);
        let topic = self.task.topics.of(record.destination);
        let mut base = BaseRecord::to(topic).key(record.key).timestamp(record.timestamp_ms).headers(headers);
        base.payload = record.value;
        loop {
            match self.producer().send(base) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    base = back;
                    self.producer().poll(Duration::from_millis(10));
                    if let Some(source) = self.first_failure() {
                        return Err(self.refused(source, "sending a record", largest));
                    }
                }
                Err((source, _)) => return Err(self.refused(source, "sending a record", largest)),
            }
        }
    }

    fn send_position(&self, mark: Mark) -> Result<(), Error> {
        let identity = &self.task.identity;
        let position = Position {
            slot: identity.slot.clone(),
            system_identifier: identity.system_identifier.clone(),
            timeline: identity.timeline,
            commit_lsn: mark.place.commit_lsn.to_bits(),
            ordinal: mark.place.ordinal,
            confirmable_lsn: mark.confirmable.to_bits(),
            cluster_id: identity.cluster_id.clone(),
            partitions: self.partition_ends(),
            resnapshot_until_lsn: identity.resnapshot_until.map(Lsn::to_bits),
            handed_over_at: None,
            written_at: runtime::clock::now_ms(),
        };
        let value = self.task.positions.encode(&position)?;
        let topic = &self.task.topics.positions;
        self.producer()
            .send(BaseRecord::to(topic).partition(0).key(&identity.slot).payload(&value))
            .map_err(|(source, _)| Error::Kafka { what: format!("sending to {topic}"), source })
    }

    fn partition_ends(&self) -> Vec<PartitionEnd> {
        let ids = &self.task.identity.topic_ids;
        let end = |topic: &String, (partition, offset): (&i32, &i64)| PartitionEnd {
            topic_name: topic.clone(),
            topic_uuid: ids.get(topic).cloned().unwrap_or_default(),
            partition_number: *partition,
            last_offset: *offset,
        };
        self.ends.iter().flat_map(|(topic, ends)| ends.iter().map(move |place| end(topic, place))).collect()
    }

    /// Commits, asking again while Kafka says that it may be; `false` if the worker has been dropped meanwhile.
    fn commit(&self, chunks: &mpsc::Receiver<Chunk>, largest: &Largest) -> Result<bool, Error> {
        loop {
            // If it takes longer, the commit says so.
            kafka::flush(self.producer().client(), CALL);
            match self.producer().commit_transaction(CALL) {
                Ok(()) => return Ok(true),
                Err(error) if is_retriable(&error) => {
                    if chunks.is_closed() {
                        return Ok(false);
                    }
                    tracing::warn!(error = %error, "Kafka is slow to commit; asking again");
                }
                // The record that wasn't taken says more than the transaction that failed for it.
                Err(error) => {
                    let source = self.first_failure().unwrap_or(error);
                    return Err(self.refused(source, "committing a transaction", largest));
                }
            }
        }
    }

    fn first_failure(&self) -> Option<KafkaError> {
        self.context().failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refused(&self, source: KafkaError, what: &str, largest: &Largest) -> Error {
        match source.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => Error::TooLarge {
                topic: self.task.topics.of(largest.destination).to_owned(),
                key: largest.key.clone(),
                bytes: largest.bytes,
            },
            _ => Error::Kafka { what: what.to_owned(), source },
        }
    }

    /// Frees the topics' readers now instead of when the next producer takes over, where Kafka still listens to us.
    fn try_abort(&self, error: &Error) {
        if let Error::Kafka { source: KafkaError::Transaction(error), .. } = error
            && (error.is_fatal() || !error.txn_requires_abort())
        {
            return;
        }
        if let Err(error) = self.producer().abort_transaction(Duration::from_secs(1)) {
            tracing::debug!(error = %error, "a transaction is left for the next producer to abort");
        }
    }

    const fn producer(&self) -> &ThreadedProducer<Ends> {
        self.task.fenced.producer()
    }

    fn context(&self) -> &Ends {
        self.producer().client().context()
    }
}

/// The largest record of a transaction, to name when Kafka finds one too large.
struct Largest {
    destination: Destination,
    key: String,
    bytes: usize,
}

impl Default for Largest {
    fn default() -> Self {
        Self { destination: Destination::Events, key: String::new(), bytes: 0 }
    }
}

impl Largest {
    fn see(&mut self, record: &Outgoing<'_>) {
        if record.bytes() > self.bytes {
            let key = String::from_utf8_lossy(record.key).into_owned();
            *self = Self { destination: record.destination, key, bytes: record.bytes() };
        }
    }
}
