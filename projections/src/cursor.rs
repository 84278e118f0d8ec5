//! Projection `cursor`: how far each member has come, the maximum of all marks.
//!
//! Marks of one device may come late and by another node, so `chat.marks` isn't in order. Here they are merged by
//! maximum, and each cursor that moved goes to `chat.cursors`, which is compacted and so must never go back: marks are
//! keyed by chat, so one runner owns a cursor, and Kafka refuses the transaction of a runner that doesn't any more.
//! The order is Kafka first, then Postgres: a crash in between merges the same marks again, and writes the same
//! cursors again.
//!
//! What was read was delivered. `updated_at` moves only with a value, to the time of the mark that moved it.

mod replay;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Transaction;
use schemas::{Cursor, Mark, timestamp};
use tokio_postgres::Error;

use crate::cursor_writer::{CursorWriter, PublishError};
use crate::metrics;
use crate::projection::{Applied, Fence, Input, Projection, Refusal};
use crate::rows::Rows;

pub use replay::CursorReplay;

const LOAD: &str = "
    SELECT c.chat_id, c.user_id, c.delivered_seq, c.read_seq, c.updated_at FROM chat_cursor c
      JOIN unnest($1::text[], $2::text[]) AS k (chat_id, user_id) ON c.chat_id = k.chat_id AND c.user_id = k.user_id";
const STORE: &str = "
    INSERT INTO chat_cursor (chat_id, user_id, delivered_seq, read_seq, updated_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[])
    ON CONFLICT (chat_id, user_id) DO UPDATE
       SET delivered_seq = excluded.delivered_seq, read_seq = excluded.read_seq, updated_at = excluded.updated_at";

/// The projection.
pub struct CursorProjection {
    writer: CursorWriter,
}

impl CursorProjection {
    /// A projection that publishes through `writer`.
    pub fn new(writer: CursorWriter) -> Self {
        Self { writer }
    }
}

/// By chat and person.
pub type Cursors = Rows<(String, String), Reached>;

/// How far a member has come. Nobody has come before 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reached {
    /// Everything up to here reached a device; at least `read_seq`.
    pub delivered_seq: i64,
    /// Everything up to here was read.
    pub read_seq: i64,
    /// Time of the mark that last moved a value, in milliseconds.
    pub updated_at: i64,
}

impl Reached {
    /// With a mark taken in.
    fn merged(self, mark: &Mark) -> Self {
        let read_seq = self.read_seq.max(mark.read_seq.unwrap_or(0));
        let delivered_seq = self.delivered_seq.max(mark.delivered_seq.unwrap_or(0)).max(read_seq);
        let has_moved = (delivered_seq, read_seq) != (self.delivered_seq, self.read_seq);
        let updated_at = if has_moved { self.updated_at.max(mark.marked_at) } else { self.updated_at };
        Self { delivered_seq, read_seq, updated_at }
    }
}

impl Projection for CursorProjection {
    const NAME: &'static str = "cursor";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["chat_cursor"];
}

impl Input<Mark> for CursorProjection {
    const LOOP: &'static str = "cursor";
    const LAG_METRIC: &'static str = metrics::CURSOR_LAG;
    const EVERY: Duration = Duration::from_millis(500);
    type State = Cursors;

    fn state(&self) -> Self::State {
        Rows::default()
    }

    async fn load(&self, transaction: &Transaction<'_>, marks: &[Mark], state: &mut Self::State) -> Result<(), Error> {
        load(transaction, marks.iter().map(|mark| (&mark.chat_id, &mark.user_id)), state).await
    }

    fn apply(state: &mut Self::State, mark: &Mark) -> Result<Applied, Refusal> {
        let key = (mark.chat_id.clone(), mark.user_id.clone());
        let before = state.get(&key).copied().unwrap_or_default();
        let after = before.merged(mark);
        if after != before {
            state.set(key, after);
        }
        Ok(Applied::Understood)
    }

    async fn store(&self, transaction: &Transaction<'_>, state: &Self::State) -> Result<(), Error> {
        store(transaction, state).await
    }

    fn size(state: &Self::State) -> usize {
        state.len()
    }

    fn settle(state: &mut Self::State) {
        state.settle();
    }

    async fn publish(&self, state: &Self::State, fence: &Arc<Fence>) -> Result<(), PublishError> {
        let cursors: Vec<Cursor> = state
            .changed()
            .into_iter()
            .map(|((chat_id, user_id), reached)| Cursor {
                chat_id: chat_id.clone(),
                user_id: user_id.clone(),
                delivered_seq: reached.delivered_seq,
                read_seq: reached.read_seq,
                updated_at: reached.updated_at,
            })
            .collect();
        if cursors.is_empty() { Ok(()) } else { self.writer.write(&cursors, fence).await }
    }
}

async fn load<'a>(
    transaction: &Transaction<'_>,
    keys: impl Iterator<Item = (&'a String, &'a String)>,
    state: &mut Cursors,
) -> Result<(), Error> {
    let unknown = keys.filter(|(chat, user)| state.get(&((*chat).clone(), (*user).clone())).is_none());
    let (chats, users): (Vec<&str>, Vec<&str>) = unknown.map(|(chat, user)| (chat.as_str(), user.as_str())).unzip();
    if chats.is_empty() {
        return Ok(());
    }
    let statement = transaction.prepare_cached(LOAD).await?;
    for row in transaction.query(&statement, &[&chats, &users]).await? {
        let reached = Reached {
            delivered_seq: row.try_get(2)?,
            read_seq: row.try_get(3)?,
            updated_at: timestamp::from_offset(row.try_get(4)?),
        };
        state.loaded((row.try_get(0)?, row.try_get(1)?), reached);
    }
    Ok(())
}

async fn store(transaction: &Transaction<'_>, state: &Cursors) -> Result<(), Error> {
    let changed = state.changed();
    if changed.is_empty() {
        return Ok(());
    }
    let chats: Vec<&str> = changed.iter().map(|((chat, _), _)| chat.as_str()).collect();
    let users: Vec<&str> = changed.iter().map(|((_, user), _)| user.as_str()).collect();
    let delivered: Vec<i64> = changed.iter().map(|(_, reached)| reached.delivered_seq).collect();
    let read: Vec<i64> = changed.iter().map(|(_, reached)| reached.read_seq).collect();
    let times: Vec<_> = changed.iter().map(|(_, reached)| timestamp::to_offset(reached.updated_at)).collect();
    let statement = transaction.prepare_cached(STORE).await?;
    transaction.execute(&statement, &[&chats, &users, &delivered, &read, &times]).await?;
    Ok(())
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
