//! Events that are read again from the tables: for gaps, and for people who come back.
//!
//! Whoever wants a range that waits to be read already shares its answer, and ranges of many chats go into one query: a node
//! that takes over another's thousands of people reads each chat once, not once a person. An answer is always read after it
//! was asked for, and none is kept: a body that was deleted meanwhile isn't in the tables any more, so it can't come back.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deadpool_postgres::Pool;
use futures_util::TryStreamExt;
use runtime::Shutdown;
use schemas::history::{self, RANGES_SQL, Range};
use tokio::sync::oneshot;

use super::chat::Item;
use super::load::{Failure, client, failure};
use crate::metrics;

/// Events in one query, unless one range alone has more.
const EVENTS: i64 = 1_000;

/// Events in order, for all who asked.
pub(crate) type Answer = Result<Arc<Vec<Item>>, Failure>;

/// A chat, the first `seq` and the last.
type Wanted = (Arc<str>, i64, i64);
type Batch = Vec<(Wanted, Vec<oneshot::Sender<Answer>>)>;

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
    order: VecDeque<Wanted>,
    waiting: HashMap<Wanted, Vec<oneshot::Sender<Answer>>>,
    running: usize,
}

impl State {
    /// The ranges that have waited longest, as many as fit into a query.
    fn take(&mut self) -> Batch {
        let mut batch = Batch::new();
        let mut events = 0;
        while let Some((_, from, to)) = self.order.front() {
            events += to - from + 1;
            if events > EVENTS && !batch.is_empty() {
                break;
            }
            let Some(wanted) = self.order.pop_front() else { break };
            let waiting = self.waiting.remove(&wanted).unwrap_or_default();
            batch.push((wanted, waiting));
        }
        batch
    }
}

impl Reads {
    pub(crate) fn new(pool: Pool, at_once: usize, shutdown: &Shutdown) -> Self {
        Self { pool, at_once, shutdown: shutdown.clone(), state: Arc::default() }
    }

    /// Events `from ..= to` of a chat, at most `limit` of them, as the tables have them now.
    pub(crate) async fn range(&self, chat_id: &Arc<str>, from: i64, to: i64, limit: i64) -> Answer {
        let wanted: Wanted = (Arc::clone(chat_id), from, to.min(from + limit - 1));
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.state();
            if let Some(waiting) = state.waiting.get_mut(&wanted) {
                waiting.push(answer);
            } else {
                state.order.push_back(wanted.clone());
                state.waiting.insert(wanted, vec![answer]);
            }
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
                let batch = state.take();
                if batch.is_empty() {
                    state.running -= 1;
                    return;
                }
                batch
            };
            let outcome = self.read(&batch).await;
            for (place, (_, waiting)) in batch.into_iter().enumerate() {
                let answer = outcome.as_ref().map(|found| Arc::clone(&found[place])).map_err(Clone::clone);
                for asked in waiting {
                    // Who asked may have gone.
                    let _ = asked.send(answer.clone());
                }
            }
        }
    }

    async fn read(&self, batch: &Batch) -> Result<Vec<Arc<Vec<Item>>>, Failure> {
        ::metrics::counter!(metrics::RANGE_QUERIES).increment(1);
        let client = client(&self.pool).await?;
        let statement = client.prepare_cached(RANGES_SQL).await.map_err(failure)?;
        let range = |(chat_id, from_seq, to_seq): &Wanted| Range {
            chat_id: chat_id.to_string(),
            from_seq: *from_seq,
            to_seq: *to_seq,
        };
        let ranges: Vec<Range> = batch.iter().map(|(wanted, _)| range(wanted)).collect();
        let unreadable = |error: history::HistoryError| error.to_string();
        let mut rows = pin!(history::read_ranges(&**client, &statement, &ranges).await.map_err(unreadable)?);
        let mut found: Vec<Vec<Item>> = ranges.iter().map(|_| Vec::new()).collect();
        while let Some(row) = rows.try_next().await.map_err(failure)? {
            let (place, event) = history::event_in(&row).map_err(unreadable)?;
            found[place].push(Item { event, way: None, span: None });
        }
        Ok(found.into_iter().map(Arc::new).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_waiting_come_first_as_many_as_fit() {
        let mut state = State::default();
        let chat: Arc<str> = "c".into();
        for (from, to) in [(1, 600), (1, 400), (1, 2), (1, 5_000), (7, 7)] {
            state.order.push_back((Arc::clone(&chat), from, to));
        }
        let mut sizes = std::iter::from_fn(|| Some(state.take().len()).filter(|size| *size > 0));
        assert_eq!(sizes.by_ref().collect::<Vec<_>>(), [2, 1, 1, 1]);
    }
}
