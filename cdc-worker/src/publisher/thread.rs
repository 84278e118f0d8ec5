//! The thread's loop: gather, publish, report.

use std::time::Instant;

use runtime::trace::Span;
use schemas::Position;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, watch};

use super::ends::Ends;
use super::fenced::{Fenced, append_position, topic_of};
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
    under_way: Option<UnderWay>,
}

/// A transaction whose commit was asked for.
struct UnderWay {
    committed: Committed,
    began: Instant,
    rows: usize,
    largest: Largest,
    /// Of sampled events.
    spans: Vec<Span>,
}

/// Why the thread ends.
enum Stop {
    /// The worker has been dropped, or a failpoint said to die: no commit, no abort.
    Dropped,
    /// Something failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Loop {
    pub(super) fn new(mut task: Task, reports: watch::Sender<Committed>) -> Self {
        let ends = Ends::of(std::mem::take(&mut task.ends));
        let headers = HeaderMaker::new(std::mem::take(&mut task.source));
        Self { task, reports, ends, headers, under_way: None }
    }

    /// Publishes until the channel is dropped or something fails; blocks.
    pub(super) fn run(mut self, mut chunks: mpsc::Receiver<Chunk>) -> Result<(), Error> {
        let stop = loop {
            if let Err(stop) = self.publish(&mut chunks) {
                break stop;
            }
        };
        let Stop::Failed(error) = stop else { return Ok(()) };
        ::metrics::counter!(metrics::FAILED_TRANSACTIONS).increment(1);
        self.give_up(&error);
        Err(error)
    }

    /// One Kafka transaction: a chunk, and what arrives while it is being sent. Ends when its commit has been asked for.
    fn publish(&mut self, chunks: &mut mpsc::Receiver<Chunk>) -> Result<(), Stop> {
        let mut next = self.next_chunk(chunks, true)?;
        let began = Instant::now();
        let mut largest = Largest::default();
        let (mut rows, mut bytes, mut spans) = (0, 0, Vec::new());
        let mut committed = Committed { number: 0, mark: self.task.stored };
        while let Some(mut chunk) = next {
            committed = Committed { number: chunk.number, mark: chunk.mark };
            rows += chunk.records.len();
            bytes += chunk.records.bytes();
            let mut traced = chunk.records.take_traced().into_iter().peekable();
            for (place, record) in chunk.records.iter().enumerate() {
                largest.see(&record);
                match traced.next_if(|(sampled, _)| *sampled == place) {
                    None => self.send(&record, &largest)?,
                    Some((_, span)) => {
                        self.send_traced(&record, &largest, &span)?;
                        spans.push(span);
                    }
                }
            }
            let has_room = rows < TRANSACTION_ROWS && bytes < TRANSACTION_BYTES;
            next = if has_room { self.next_chunk(chunks, chunk.is_followed)? } else { None };
        }
        self.send_position(committed.mark, &largest)?;
        self.task.fenced.producer().flush().map_err(|source| self.refused(source, "sending records", &largest))?;
        if self.task.failpoints.dies_at(Point::Produced) {
            return Err(Stop::Dropped);
        }
        self.note_ends();
        self.finish_commit()?;
        self.task
            .fenced
            .start_commit()
            .map_err(|source| self.refused(source, "asking for the commit of a transaction", &largest))?;
        self.under_way = Some(UnderWay { committed, began, rows, largest, spans });
        Ok(())
    }

    /// The chunk that is here, if any; one that surely comes is waited for. Where none is, the commit under way is finished
    /// first, so that it is told at once; what came meanwhile belongs to this transaction too.
    fn next_chunk(&mut self, chunks: &mut mpsc::Receiver<Chunk>, surely_comes: bool) -> Result<Option<Chunk>, Stop> {
        if let Ok(chunk) = chunks.try_recv() {
            return Ok(Some(chunk));
        }
        self.finish_commit()?;
        if surely_comes {
            return chunks.blocking_recv().map(Some).ok_or(Stop::Dropped);
        }
        match chunks.try_recv() {
            Ok(chunk) => Ok(Some(chunk)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Stop::Dropped),
        }
    }

    /// Waits for the commit under way, if there is one, and tells of it.
    fn finish_commit(&mut self) -> Result<(), Stop> {
        let Some(UnderWay { committed, began, rows, largest, spans }) = self.under_way.take() else { return Ok(()) };
        self.task
            .fenced
            .finish_commit()
            .map_err(|source| self.refused(source, "committing a transaction", &largest))?;
        if self.task.failpoints.dies_at(Point::Committed) {
            return Err(Stop::Dropped);
        }
        self.reports.send_replace(committed);
        spans.into_iter().for_each(Span::end);
        ::metrics::histogram!(metrics::PUBLISH).record(began.elapsed().as_secs_f64());
        ::metrics::histogram!(metrics::BATCH).record(rows as f64);
        ::metrics::counter!(metrics::ROWS).increment(rows as u64);
        ::metrics::counter!(metrics::TRANSACTIONS).increment(1);
        Ok(())
    }

    fn send(&mut self, record: &Outgoing<'_>, largest: &Largest) -> Result<(), Error> {
        let headers = self.headers.make(record);
        let sent = append(&mut self.task.fenced, record, &headers);
        sent.map_err(|source| self.refused(source, "sending records", largest))
    }

    fn send_traced(&mut self, record: &Outgoing<'_>, largest: &Largest, span: &Span) -> Result<(), Error> {
        let traceparent = span.context().to_text();
        let headers = self.headers.make_traced(record, &traceparent);
        let sent = append(&mut self.task.fenced, record, &headers);
        sent.map_err(|source| self.refused(source, "sending records", largest))
    }

    /// Where the partitions will end after the commit that is asked for next.
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
            topics: identity.topics.clone(),
            resnapshot_until_lsn: identity.resnapshot_until.map(Lsn::to_bits),
            handed_over_at: None,
            left_out_at: None,
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

fn append(fenced: &mut Fenced, record: &Outgoing<'_>, headers: &[(&str, &[u8])]) -> Result<(), ProduceError> {
    let Outgoing { destination, key, value, timestamp_ms, .. } = *record;
    fenced.producer().append(topic_of(destination), None, &Record { key, value, timestamp_ms, headers })
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
