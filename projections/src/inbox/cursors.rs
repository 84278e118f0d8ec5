//! Input `chat.cursors`: how far each member has come, which rows that delivers.

use std::time::Duration;

use deadpool_postgres::Transaction;
use schemas::Cursor;
use tokio_postgres::Error;

use super::Inbox;
use crate::metrics;
use crate::projection::{Applied, Input, Refusal};
use crate::rows::Rows;

const LOAD: &str = "
    SELECT c.chat_id, c.user_id, c.delivered_seq FROM inbox_cursor c
      JOIN unnest($1::text[], $2::text[]) AS k (chat_id, user_id) ON c.chat_id = k.chat_id AND c.user_id = k.user_id";
const STORE: &str = "
    INSERT INTO inbox_cursor (chat_id, user_id, delivered_seq)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
    ON CONFLICT (chat_id, user_id) DO UPDATE SET delivered_seq = excluded.delivered_seq";
const MARK_DELIVERED: &str = "
    UPDATE inbox i SET is_delivered = true
      FROM unnest($1::text[], $2::text[], $3::bigint[]) AS k (chat_id, user_id, delivered_seq)
     WHERE i.user_id = k.user_id AND i.chat_id = k.chat_id AND i.sequence_number <= k.delivered_seq
       AND NOT i.is_delivered";

/// Delivered up to, by chat and person.
pub type CursorState = Rows<(String, String), i64>;

impl Input<Cursor> for Inbox {
    const LOOP: &'static str = "inbox-cursors";
    const LAG_METRIC: &'static str = metrics::INBOX_CURSORS_LAG;
    const EVERY: Duration = Duration::from_secs(1);
    type State = CursorState;

    fn state(&self) -> CursorState {
        CursorState::default()
    }

    async fn load(
        &self,
        transaction: &Transaction<'_>,
        cursors: &[Cursor],
        state: &mut CursorState,
    ) -> Result<(), Error> {
        let is_unknown = |cursor: &&Cursor| state.get(&(cursor.chat_id.clone(), cursor.user_id.clone())).is_none();
        let unknown: Vec<&Cursor> = cursors.iter().filter(is_unknown).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let chats: Vec<&str> = unknown.iter().map(|cursor| cursor.chat_id.as_str()).collect();
        let users: Vec<&str> = unknown.iter().map(|cursor| cursor.user_id.as_str()).collect();
        let statement = transaction.prepare_cached(LOAD).await?;
        for row in transaction.query(&statement, &[&chats, &users]).await? {
            state.loaded((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
        }
        Ok(())
    }

    fn apply(state: &mut CursorState, cursor: &Cursor) -> Result<Applied, Refusal> {
        let key = (cursor.chat_id.clone(), cursor.user_id.clone());
        if cursor.delivered_seq > state.get(&key).copied().unwrap_or(0) {
            state.set(key, cursor.delivered_seq);
        }
        Ok(Applied::Understood)
    }

    async fn store(&self, transaction: &Transaction<'_>, state: &CursorState) -> Result<(), Error> {
        let changed = state.changed();
        if changed.is_empty() {
            return Ok(());
        }
        let chats: Vec<&str> = changed.iter().map(|((chat, _), _)| chat.as_str()).collect();
        let users: Vec<&str> = changed.iter().map(|((_, user), _)| user.as_str()).collect();
        let seqs: Vec<i64> = changed.iter().map(|(_, seq)| **seq).collect();
        let statement = transaction.prepare_cached(STORE).await?;
        transaction.execute(&statement, &[&chats, &users, &seqs]).await?;
        let statement = transaction.prepare_cached(MARK_DELIVERED).await?;
        transaction.execute(&statement, &[&chats, &users, &seqs]).await?;
        Ok(())
    }

    fn size(state: &CursorState) -> usize {
        state.len()
    }

    fn settle(state: &mut CursorState) {
        state.settle();
    }
}
