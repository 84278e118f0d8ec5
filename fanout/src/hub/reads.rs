//! Events that are read again from the tables: for gaps, and for people who come back.
//!
//! Whoever wants a range that waits to be read already shares its answer, whichever part of it they lack, and ranges of many
//! chats go into one query ([`super::ranges`]): a node that takes over another's thousands of people reads each chat once, not
//! once a person. An answer is always read after it was asked for, and none is kept: a body that was deleted meanwhile isn't
//! in the tables any more, so it can't come back.

use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use deadpool_postgres::Pool;
use futures_util::TryStreamExt;
use runtime::Shutdown;
use schemas::ChatEvent;
use schemas::history::{self, RANGES_SQL, Range};
use schemas::wire::server;
use tokio::sync::oneshot;

use super::chat::Item;
use super::load::{Failure, client, failure};
use super::ranges::{Ranges, Span, Waiter};
use crate::metrics;
use crate::websocket::Frame;

/// An event as it was read, and the frame of it that everybody gets who asked for it and may see it.
#[derive(Debug)]
pub(crate) struct ReadEvent {
    event: ChatEvent,
    frame: OnceLock<Frame>,
}

impl ReadEvent {
    pub(super) const fn event(&self) -> &ChatEvent {
        &self.event
    }

    pub(super) fn frame(&self) -> Frame {
        self.frame.get_or_init(|| server::event_frame(&self.event, None).into()).clone()
    }

    /// To be delivered.
    pub(super) fn item(&self) -> Item {
        Item { event: self.event.clone(), way: None, span: None }
    }
}

/// The events that somebody asked for, in order, among those that were read for others too.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    read: Arc<Vec<ReadEvent>>,
    first: usize,
    end: usize,
}

impl Events {
    fn among(read: &Arc<Vec<ReadEvent>>, from: i64, to: i64) -> Self {
        let place = |seq: i64| read.partition_point(|read| read.event.seq < seq);
        Self { read: Arc::clone(read), first: place(from), end: place(to + 1) }
    }
}

impl Deref for Events {
    type Target = [ReadEvent];

    fn deref(&self) -> &[ReadEvent] {
        &self.read[self.first..self.end]
    }
}

pub(crate) type Answer = Result<Events, Failure>;

type Batch = Vec<Span<oneshot::Sender<Answer>>>;

/// A bounded number of reads at a time. Clones share it.
#[derive(Clone)]
pub(crate) struct Reads {
    pool: Pool,
    at_once: usize,
    shutdown: Shutdown,
    state: Arc<Mutex<State>>,
}

/// As many ranges wait as there are people and gaps that want them, each of which waits for its answer.
#[derive(Default)]
struct State {
    ranges: Ranges<oneshot::Sender<Answer>>,
    running: usize,
}

impl Reads {
    pub(crate) fn new(pool: Pool, at_once: usize, shutdown: &Shutdown) -> Self {
        Self { pool, at_once, shutdown: shutdown.clone(), state: Arc::default() }
    }

    /// Events `from ..= to` of a chat, as the tables have them now.
    pub(crate) async fn range(&self, chat_id: &Arc<str>, from: i64, to: i64) -> Answer {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.state();
            state.ranges.push(chat_id, Waiter { from, to, answer });
            if state.running < self.at_once {
                state.running += 1;
                let reads = self.clone();
                self.shutdown.spawn(async move { reads.work().await });
            }
        }
        answered.await.unwrap_or_else(|_| Err("the read was given up".to_owned()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until nothing waits.
    async fn work(&self) {
        loop {
            let batch = {
                let mut state = self.state();
                let batch = state.ranges.take();
                if batch.is_empty() {
                    state.running -= 1;
                    return;
                }
                batch
            };
            let outcome = self.read(&batch).await;
            for (place, span) in batch.into_iter().enumerate() {
                for Waiter { from, to, answer } in span.waiters {
                    let events = outcome.as_ref().map(|found| Events::among(&found[place], from, to));
                    // Who asked may have gone.
                    let _ = answer.send(events.map_err(Clone::clone));
                }
            }
        }
    }

    async fn read(&self, batch: &Batch) -> Result<Vec<Arc<Vec<ReadEvent>>>, Failure> {
        ::metrics::counter!(metrics::RANGE_QUERIES).increment(1);
        let client = client(&self.pool).await?;
        let statement = client.prepare_cached(RANGES_SQL).await.map_err(failure)?;
        let range = |span: &Span<_>| Range { chat_id: span.chat_id.to_string(), from_seq: span.from, to_seq: span.to };
        let ranges: Vec<Range> = batch.iter().map(range).collect();
        let unreadable = |error: history::HistoryError| error.to_string();
        let mut rows = pin!(history::read_ranges(&**client, &statement, &ranges).await.map_err(unreadable)?);
        let mut found: Vec<Vec<ReadEvent>> = ranges.iter().map(|_| Vec::new()).collect();
        while let Some(row) = rows.try_next().await.map_err(failure)? {
            let (place, event) = history::event_in(&row).map_err(unreadable)?;
            found[place].push(ReadEvent { event, frame: OnceLock::new() });
        }
        Ok(found.into_iter().map(Arc::new).collect())
    }
}
