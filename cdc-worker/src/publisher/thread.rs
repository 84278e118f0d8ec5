//! The thread's loop: gather, publish, report.

use std::time::Instant;

use schemas::Position;
use tokio::sync::{mpsc, watch};

use super::ends::Ends;
use super::fenced::{append_position, topic_of};
use super::headers::HeaderMaker;
use super::{Chunk, Committed, Task};
use crate::error::Error;
use crate::failpoint::Point;
use crate::lsn::Lsn;
use crate::metrics;
use crate::producer::{ProduceError, Record};
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
    ends: Ends,
    headers: HeaderMaker,
}

impl Loop {
    pub(super) fn new(mut task: Task, reports: watch::Sender<Committed>) -> Self {
        let ends = Ends::of(std::mem::take(&mut task.ends));
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
                    self.give_up(&error);
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
                self.send(&record, &largest)?;
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
        self.send_position(mark, &largest)?;
        if self.task.failpoints.is_armed() {
            self.task.fenced.producer().flush().map_err(|source| self.refused(source, "sending records", &largest))?;
            if self.task.failpoints.dies_at(Point::Produced) {
                return Ok(None);
            }
        }
        self.task
            .fenced
            .producer()
            .commit()
            .map_err(|source| self.refused(source, "committing a transaction", &largest))?;
        if self.task.failpoints.dies_at(Point::Committed) {
            return Ok(None);
        }
        self.note_ends();
        self.task.fenced.take_turns();
        self.reports.send_replace(Committed { number, mark });
        Ok(Some(rows))
    }

    fn send(&mut self, record: &Outgoing<'_>, largest: &Largest) -> Result<(), Error> {
        let headers = self.headers.make(record);
        let whole =
            Record { key: record.key, value: record.value, timestamp_ms: record.timestamp_ms, headers: &headers };
        let sent = self.task.fenced.producer().append(topic_of(record.destination), None, &whole);
        sent.map_err(|source| self.refused(source, "sending records", largest))
    }

    /// Where the partitions end after a commit.
    fn note_ends(&mut self) {
        let names = [&self.task.topics.events, &self.task.topics.users];
        for (topic, partition, offset) in self.task.fenced.producer().last_offsets() {
            // Positions don't tell of themselves.
            let Some(name) = names.get(topic) else { continue };
            self.ends.note(name, partition, offset);
        }
    }

    fn send_position(&mut self, mark: Mark, largest: &Largest) -> Result<(), Error> {
        let identity = &self.task.identity;
        let position = Position {
            slot: identity.slot.clone(),
            system_identifier: identity.system_identifier.clone(),
            timeline: identity.timeline,
            commit_lsn: mark.place.commit_lsn.to_bits(),
            ordinal: mark.place.ordinal,
            confirmable_lsn: mark.confirmable.to_bits(),
            cluster_id: identity.cluster_id.clone(),
            partitions: self.ends.list(&identity.topic_ids),
            resnapshot_until_lsn: identity.resnapshot_until.map(Lsn::to_bits),
            handed_over_at: None,
            written_at: runtime::clock::now_ms(),
        };
        let value = self.task.positions.encode(&position)?;
        let sent = append_position(self.task.fenced.producer(), &position, &value);
        sent.map_err(|source| self.refused(source, "sending the position", largest))
    }

    fn refused(&self, source: ProduceError, what: &str, largest: &Largest) -> Error {
        if source.is_too_large() {
            return Error::TooLarge {
                topic: self.task.topics.of(largest.destination).to_owned(),
                key: largest.key.clone(),
                bytes: largest.bytes,
            };
        }
        Error::Publish { what: what.to_owned(), source }
    }

    /// Frees the topics' readers now instead of when the next producer takes over, where Kafka still listens to us.
    fn give_up(self, error: &Error) {
        let may_listen = match error {
            Error::Publish { source, .. } => source.refusal().is_some(),
            _ => true,
        };
        if may_listen && let Err(error) = self.task.fenced.abort() {
            tracing::debug!(error = %error, "a transaction is left for the next producer to abort");
        }
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
