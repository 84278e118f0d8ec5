//! The loop: from the slot's stream to chunks for the publisher, and from what Kafka has committed back to the slot.
//!
//! ```text
//!   walsender ──▶ ReplicationStream ──▶ pgoutput ──▶ Tracker ──▶ Mapping ──▶ Writer ──▶ chunk ──▶ publisher ──▶ Kafka
//!       ▲                                (decode)   (new or not)  (row → event)  (Avro)                         │
//!       └──── status update ◀──── Progress ◀──────────────────── committed marks ◀────────────────────────────────┘
//! ```
//!
//! *Progress.* A chunk's mark says which row was last and up to where every transaction was seen whole; it becomes the
//! position record in the chunk's own Kafka transaction. Only a committed mark is told to the slot.
//!
//! *Failure.* Nothing is kept over a failure: the session ends, the next one starts from the position in Kafka, and the
//! server sends again what lies after it. A row that can't be published ends the worker for good, after what came before
//! it has been published. While Kafka doesn't take more, reading stops, and reports go on by the timer.
//!
//! *Priorities* of the loop's `select!`: the end of the process or the lease; news from the publisher; the timer; room
//! for the chunk at hand; reading more; the end of what a chunk waits for.

mod faults;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use runtime::retry::Backoff;
use runtime::{RoleHealth, Shutdown};
use schemas::Origin;
use schemas::trace::{TraceContext, WAL_PREFIX};
use tokio::time::MissedTickBehavior;

use crate::error::Error;
use crate::failpoint::Point;
use crate::gathering::Gathering;
use crate::lease::{HEARTBEAT_PREFIX, Held};
use crate::mapping::{Mapping, epoch_ms};
use crate::metrics;
use crate::pgoutput::{self, Message, Tuple};
use crate::progress::{Mark, Progress};
use crate::publisher::{Chunk, Committed, Publisher};
use crate::record::WriteError;
use crate::replication::{Incoming, ReplicationStream};
use crate::resnapshot::Completing;
use crate::sequence::Sequence;
use crate::takeover::{Session, Worker};
use crate::transaction::{Place, Tracker};
use crate::withheld::Withheld;

/// The server has so much more WAL that a Kafka transaction had better wait for what is in it.
const BEHIND_BYTES: u64 = 256 << 10;
/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long a leaving worker waits for Kafka to commit what it was given.
const DRAIN: Duration = Duration::from_secs(5);
/// Most sampled events of one transaction; more are followed no further.
const SAMPLED_EVENTS: usize = 10_000;
/// Kafka hasn't committed anything for so long that it is said aloud.
const STALLED: Duration = Duration::from_secs(5);

/// How a session ended without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is time to stop.
    Shutdown,
    /// Another worker may have the slot now.
    LeaseLost,
    /// The server is shutting down and waits for us to leave.
    ServerStopping,
    /// The history is complete up to where it was to be.
    Completed,
}

/// Streams until something ends it.
pub(crate) async fn stream(
    worker: &Worker,
    session: Session,
    held: &mut Held,
    health: &RoleHealth,
    shutdown: &Shutdown,
    backoff: &mut Backoff,
) -> Result<Ending, Error> {
    let Session { mut stream, mut publisher, mapping, writer, stored, confirmed, sequence, completing, withheld } =
        session;
    let mut state = State {
        worker,
        writer,
        mapping,
        tracker: Tracker::new(stored.place, stored.confirmable),
        // The slot learns of the stored position with the next one: by then what comes up to there has been looked at.
        progress: Progress::new(Mark { confirmable: confirmed, ..stored }, Instant::now()),
        last_place: stored.place,
        gathering: Gathering::default(),
        arrival: ::metrics::histogram!(metrics::ARRIVAL),
        foreign: HashSet::new(),
        sequence,
        completing,
        withheld,
        traces: Vec::new(),
    };
    let outcome = state.turn(&mut stream, &mut publisher, held, health, shutdown, backoff).await;
    // What was read before the end, or before the row that can't be published, still goes out; not so if the lease is
    // lost, or the publisher is, or if rows may be missing between.
    let may_drain = match &outcome {
        Ok(ending) => *ending != Ending::LeaseLost,
        Err(error) => !error.is_transient(),
    } && held.stream_is_fit().is_ok();
    if may_drain {
        state.drain(&mut publisher).await;
        let feedback = state.progress.last_report(state.tracker.received_lsn(), Instant::now());
        if stream.report(feedback.written, feedback.flushed).await.is_ok() {
            stream.close().await;
        }
    }
    outcome
}

struct State<'a> {
    worker: &'a Worker,
    writer: crate::record::Writer,
    mapping: Mapping,
    tracker: Tracker,
    progress: Progress,
    last_place: Place,
    gathering: Gathering,
    /// A handle: finding the metric for each transaction would take longer than telling it.
    arrival: ::metrics::Histogram,
    /// Tables that aren't ours and had a row.
    foreign: HashSet<u32>,
    /// How far the chats are.
    sequence: Sequence,
    /// Set while the history is being completed from the tables.
    completing: Option<Completing>,
    /// Messages that were given up.
    withheld: Withheld,
    /// Of the open transaction: ids of events that are sampled and haven't come yet.
    traces: Vec<(Vec<u8>, TraceContext)>,
}

impl State<'_> {
    async fn turn(
        &mut self,
        stream: &mut ReplicationStream,
        publisher: &mut Publisher,
        held: &mut Held,
        health: &RoleHealth,
        shutdown: &Shutdown,
        backoff: &mut Backoff,
    ) -> Result<Ending, Error> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_news = Instant::now();
        loop {
            self.read_what_is_here(stream)?;
            if let Some(feedback) = self.progress.report(self.tracker.received_lsn(), Instant::now()) {
                stream.report(feedback.written, feedback.flushed).await?;
                self.fail_at(Point::Reported)?;
            }
            let is_behind = held.wal_end().bytes_since(self.tracker.received_lsn()) > BEHIND_BYTES;
            let more_comes = is_behind || self.tracker.open_lsn().is_some();
            let mut has_chunk = self.gathering.is_ripe(more_comes)
                || self.progress.wants_position(self.tracker.complete_lsn(), Instant::now());
            if let Some(completing) = &self.completing {
                if completing.has_come(self.progress.committed().confirmable) {
                    return Ok(Ending::Completed);
                }
                has_chunk |= self.progress.is_idle() && completing.has_come(self.tracker.complete_lsn());
            }
            let has_room = !self.gathering.is_full();
            tokio::select! {
                biased;
                () = shutdown.begun() => return Ok(Ending::Shutdown),
                () = held.lost() => return Ok(Ending::LeaseLost),
                news = publisher.news.next() => {
                    let Committed { number, mark } = news?;
                    self.progress.commit(number, mark);
                    last_news = Instant::now();
                    // What Kafka refuses again and again is tried less and less often.
                    backoff.reset();
                }
                _ = ticks.tick() => {
                    held.stream_is_fit()?;
                    if self.progress.is_server_stopping() {
                        return Ok(Ending::ServerStopping);
                    }
                    if self.progress.is_idle() {
                        last_news = Instant::now();
                    }
                    self.show(health, last_news.elapsed());
                }
                permit = publisher.queue.reserve(), if has_chunk => {
                    let Some(permit) = permit else { return Err(publisher.news.reason().await) };
                    let more_comes = more_comes || self.gathering.is_full() && stream.has_more();
                    permit.send(self.cut(more_comes));
                }
                filled = stream.fill(is_behind), if has_room => filled?,
                () = self.gathering.must_end() => {}
            }
        }
    }

    /// Everything that has arrived, as far as the chunk has room.
    fn read_what_is_here(&mut self, stream: &mut ReplicationStream) -> Result<(), Error> {
        while !self.gathering.is_full() {
            match stream.next_message()? {
                Some(Incoming::Data { wal_start, payload }) => {
                    self.tracker.received(wal_start);
                    self.take(payload)?;
                }
                Some(Incoming::Keepalive { wal_end, asks_reply }) => {
                    self.tracker.keepalive(wal_end);
                    if asks_reply {
                        self.progress.ask(wal_end, Instant::now());
                    }
                }
                None => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, payload: &[u8]) -> Result<(), Error> {
        match pgoutput::decode(payload)? {
            Message::Insert { relation_id, tuple } => self.insert(relation_id, tuple)?,
            Message::Begin { final_lsn, committed_at_us, .. } => {
                self.traces.clear();
                self.tracker.begin(final_lsn).map_err(|source| self.out_of_order(source))?;
                let lag_ms = runtime::clock::now_ms() - epoch_ms(committed_at_us);
                self.arrival.record(lag_ms.max(0) as f64 / 1_000.0);
                self.fail_at(Point::Begun)?;
            }
            Message::Commit { commit_lsn, end_lsn, .. } => {
                self.tracker.commit(commit_lsn, end_lsn).map_err(|source| self.out_of_order(source))?;
            }
            Message::Relation(relation) => {
                let learnt = self.mapping.learn(&relation);
                learnt.map_err(|source| self.unmappable(source))?;
            }
            Message::Logical { is_transactional: false, prefix: HEARTBEAT_PREFIX, content, .. } => {
                let written_ms = std::str::from_utf8(content).ok().and_then(|text| text.parse::<i64>().ok());
                if let Some(written_ms) = written_ms {
                    let lag_ms = runtime::clock::now_ms() - written_ms;
                    self.arrival.record(lag_ms.max(0) as f64 / 1_000.0);
                }
            }
            Message::Logical { is_transactional: true, prefix: WAL_PREFIX, content, .. } => self.note_trace(content),
            Message::Logical { is_transactional: false, .. } => self.fail_at(Point::Message)?,
            Message::Update { relation_id } => return Err(self.not_an_insert("UPDATE", relation_id)),
            Message::Delete { relation_id } => return Err(self.not_an_insert("DELETE", relation_id)),
            Message::Truncate { relation_ids } => {
                return Err(self.not_an_insert("TRUNCATE", relation_ids.first().copied().unwrap_or(0)));
            }
            Message::Origin { .. } | Message::Type { .. } | Message::Logical { .. } => {}
        }
        Ok(())
    }

    fn insert(&mut self, relation_id: u32, tuple: Tuple<'_>) -> Result<(), Error> {
        if self.mapping.table(relation_id).map_err(|source| self.unmappable(source))?.is_none() {
            if self.foreign.insert(relation_id) {
                tracing::warn!(
                    relation_id,
                    publication = self.worker.publication,
                    "the publication has a table that makes no events; its rows are passed over"
                );
            }
            return Ok(());
        }
        let Some(place) = self.tracker.row().map_err(|source| self.out_of_order(source))? else {
            ::metrics::counter!(metrics::REPEATED_ROWS).increment(1);
            return Ok(());
        };
        if self.completing.is_some() {
            let key = self.mapping.key(relation_id, tuple).map_err(|source| self.unmappable(source))?;
            if let Some(completing) = &mut self.completing
                && !completing.is_new(&key)?
            {
                self.last_place = place;
                return Ok(());
            }
        }
        let origin = Origin { shard: 0, commit_lsn: place.commit_lsn.to_bits(), ordinal: place.ordinal };
        let change = match self.withheld.instead_of(&self.mapping, relation_id, tuple, origin) {
            Some(change) => Ok(change),
            None => self.mapping.change(relation_id, tuple, origin),
        };
        let change = change.map_err(|source| self.unmappable_row(relation_id, tuple, source))?;
        if let Some((chat_id, seq)) = change.place_in_chat() {
            self.sequence.follow(chat_id, seq).map_err(|after| self.jumped(chat_id, seq, after))?;
        }
        match self.writer.write(change, self.gathering.records()) {
            Ok(()) => {}
            Err(WriteError::Row(source)) => return Err(self.unmappable_row(relation_id, tuple, source.into())),
            Err(WriteError::Frame(source)) => return Err(source.into()),
        }
        if !self.traces.is_empty() {
            self.trace_last();
        }
        self.last_place = place;
        self.fail_at(Point::Row)
    }

    /// An event of this transaction is sampled.
    fn note_trace(&mut self, content: &[u8]) {
        if let Some((context, event_id)) = TraceContext::from_wal(content)
            && self.traces.len() < SAMPLED_EVENTS
        {
            self.traces.push((event_id.to_vec(), context));
        }
    }

    /// The event that was written last is perhaps one of those that are sampled.
    fn trace_last(&mut self) {
        let records = self.gathering.records();
        let Some(place) = records.last_id().and_then(|id| self.traces.iter().position(|(sampled, _)| *sampled == id))
        else {
            return;
        };
        let (event_id, context) = self.traces.swap_remove(place);
        if let Some(mut span) = self.worker.tracer.follow("cdc", Some(context)) {
            span.note("waltalkie.event_id", String::from_utf8_lossy(&event_id));
            records.trace_last(span);
        }
    }

    fn cut(&mut self, more_comes: bool) -> Chunk {
        let (records, is_followed) = self.gathering.cut(more_comes);
        Chunk {
            number: self.progress.hand(Instant::now()),
            records,
            is_followed,
            mark: Mark { place: self.last_place, confirmable: self.tracker.complete_lsn() },
        }
    }

    /// Gives the publisher what is left and waits until it is committed, or has failed.
    async fn drain(&mut self, publisher: &mut Publisher) {
        let finish = async {
            if self.gathering.is_owed() {
                let Some(permit) = publisher.queue.reserve().await else { return Err(publisher.news.reason().await) };
                permit.send(self.cut(false));
            }
            while !self.progress.is_idle() {
                let Committed { number, mark } = publisher.news.next().await?;
                self.progress.commit(number, mark);
            }
            Ok::<_, Error>(())
        };
        match tokio::time::timeout(DRAIN, finish).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %error.chain(), "the last transaction is left to the next start"),
            Err(_) => tracing::warn!("Kafka didn't commit the last transaction in time; it is left to the next start"),
        }
    }

    fn show(&self, health: &RoleHealth, waiting: Duration) {
        if waiting > STALLED {
            health.not_ready(format!("Kafka has committed nothing for {} s", waiting.as_secs()));
        } else {
            health.ready();
        }
        let unconfirmed = self.tracker.received_lsn().bytes_since(self.progress.committed().confirmable);
        ::metrics::gauge!(metrics::UNCONFIRMED).set(unconfirmed as f64);
    }

    fn fail_at(&self, point: Point) -> Result<(), Error> {
        if self.worker.failpoints.dies_at(point) { Err(Error::PublisherGone) } else { Ok(()) }
    }
}
