//! Projection `chat_head`: the newest event of each chat, and the newest message.
//!
//! `head_seq` and `last_activity_at` follow every event, also those of types that this program doesn't know: they have
//! a `seq` like all others. `message` is the newest message that was *sent*, in its latest state: an edit or delete of
//! it replaces it, one of an older message doesn't. An event at or below `head_seq` is old and changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use schemas::{ChatEvent, MessageState, event_type, timestamp};
use tokio_postgres::Error;
use tokio_postgres::types::Json;

use crate::metrics;
use crate::projection::{Applied, Input, Projection, Refusal, message_of};
use crate::rebuild::{Pass, Replay};
use crate::rows::Rows;

const LOAD: &str = "SELECT chat_id, head_seq, last_activity_at, message_seq FROM chat_head WHERE chat_id = ANY($1)";
const STORE: &str = "
    INSERT INTO chat_head AS h (chat_id, head_seq, last_activity_at, message_seq, message)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::timestamptz[], $4::bigint[], $5::jsonb[])
    ON CONFLICT (chat_id) DO UPDATE
       SET head_seq = excluded.head_seq, last_activity_at = excluded.last_activity_at,
           message_seq = excluded.message_seq, message = coalesce(excluded.message, h.message)";

/// The projection.
#[derive(Debug, Clone, Copy)]
pub struct ChatHead;

/// A chat's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `seq` of the newest event.
    pub head_seq: i64,
    /// When it occurred, in milliseconds.
    pub last_activity_at: i64,
    /// `seq` of the newest message that was sent.
    pub message_seq: Option<i64>,
    /// Its state, if it changed; `None` leaves what the table has.
    pub message: Option<MessageState>,
}

impl Projection for ChatHead {
    const NAME: &'static str = "chat_head";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["chat_head"];
}

impl Input<ChatEvent> for ChatHead {
    const LOOP: &'static str = "chat_head";
    const LAG_METRIC: &'static str = metrics::CHAT_HEAD_LAG;
    type State = Rows<String, Head>;

    fn state(&self) -> Self::State {
        Rows::default()
    }

    async fn load(
        &self,
        transaction: &Transaction<'_>,
        events: &[ChatEvent],
        state: &mut Self::State,
    ) -> Result<(), Error> {
        let chats = events.iter().map(|event| event.chat_id.as_str()).filter(|chat| state.get(*chat).is_none());
        let chats: Vec<&str> = chats.collect::<BTreeSet<&str>>().into_iter().collect();
        if chats.is_empty() {
            return Ok(());
        }
        let statement = transaction.prepare_cached(LOAD).await?;
        for row in transaction.query(&statement, &[&chats]).await? {
            let head = Head {
                head_seq: row.try_get(1)?,
                last_activity_at: timestamp::from_offset(row.try_get(2)?),
                message_seq: row.try_get(3)?,
                message: None,
            };
            state.loaded(row.try_get(0)?, head);
        }
        Ok(())
    }

    fn apply(state: &mut Self::State, event: &ChatEvent) -> Result<Applied, Refusal> {
        let before = state.get(event.chat_id.as_str());
        if before.is_some_and(|head| event.seq <= head.head_seq) {
            return Ok(Applied::of(event));
        }
        let mut head = Head {
            head_seq: event.seq,
            last_activity_at: event.occurred_at,
            message_seq: before.and_then(|head| head.message_seq),
            message: before.and_then(|head| head.message.clone()),
        };
        if let Some(message) = message_of(event)? {
            let is_send = event.event_type == event_type::MESSAGE_PERSISTED;
            if is_send || head.message_seq == Some(message.message_seq) {
                head.message_seq = Some(message.message_seq);
                head.message = Some(message.clone());
            }
        }
        state.set(event.chat_id.clone(), head);
        Ok(Applied::of(event))
    }

    async fn store(&self, transaction: &Transaction<'_>, state: &Self::State) -> Result<(), Error> {
        let changed = state.changed();
        if changed.is_empty() {
            return Ok(());
        }
        let chats: Vec<&str> = changed.iter().map(|(chat, _)| chat.as_str()).collect();
        let heads: Vec<i64> = changed.iter().map(|(_, head)| head.head_seq).collect();
        let times: Vec<_> = changed.iter().map(|(_, head)| timestamp::to_offset(head.last_activity_at)).collect();
        let seqs: Vec<Option<i64>> = changed.iter().map(|(_, head)| head.message_seq).collect();
        let messages: Vec<Option<Json<&MessageState>>> =
            changed.iter().map(|(_, head)| head.message.as_ref().map(Json)).collect();
        let statement = transaction.prepare_cached(STORE).await?;
        transaction.execute(&statement, &[&chats, &heads, &times, &seqs, &messages]).await?;
        Ok(())
    }

    fn size(state: &Self::State) -> usize {
        state.len()
    }

    fn settle(state: &mut Self::State) {
        state.settle();
        // They are large, and the table has them.
        state.values_mut().for_each(|head| head.message = None);
    }
}

impl Replay for ChatHead {
    async fn replay(self: Arc<Self>, pass: Arc<Pass>) -> Result<(), crate::Error> {
        pass.input::<Self, ChatEvent>(&self).await
    }
}

#[cfg(test)]
#[path = "chat_head_tests.rs"]
mod tests;
