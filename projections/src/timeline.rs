//! Projection `timeline`: the newest messages of each chat, as they are now.
//!
//! The [`NEWEST`] messages that were sent last, each in its latest state; a deleted one stays as a tombstone without a body.
//! Whoever reads them must look at the reader's stays (`membership`) first.

use std::collections::BTreeSet;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use schemas::{ChatEvent, MessageState, event_type};
use tokio_postgres::Error;
use tokio_postgres::types::Json;

use crate::metrics;
use crate::projection::{Applied, Input, Projection, Refusal, message_of};
use crate::rebuild::{Pass, Replay};
use crate::rows::Rows;

/// Messages kept of each chat.
pub const NEWEST: i64 = 100;

/// Of old messages only whether they are there: an edit of one that isn't changes nothing.
const LOAD: &str = "
    SELECT t.chat_id, t.message_seq FROM timeline t
      JOIN unnest($1::text[], $2::bigint[]) AS k (chat_id, message_seq)
        ON t.chat_id = k.chat_id AND t.message_seq = k.message_seq";
const STORE: &str = "
    INSERT INTO timeline (chat_id, message_seq, message) SELECT * FROM unnest($1::text[], $2::bigint[], $3::jsonb[])
    ON CONFLICT (chat_id, message_seq) DO UPDATE SET message = excluded.message";
const TRIM: &str = "
    DELETE FROM timeline t USING unnest($1::text[]) AS k (chat_id)
     WHERE t.chat_id = k.chat_id AND t.message_seq <= (
           SELECT message_seq FROM timeline WHERE chat_id = k.chat_id ORDER BY message_seq DESC OFFSET $2 LIMIT 1)";

/// The projection.
#[derive(Debug, Clone, Copy)]
pub struct Timeline;

/// Chat and `seq` of the message; its state if it changed, `None` where the table has it.
type Messages = Rows<(String, i64), Option<MessageState>>;

impl Projection for Timeline {
    const NAME: &'static str = "timeline";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["timeline"];
}

impl Input<ChatEvent> for Timeline {
    const LOOP: &'static str = "timeline";
    const LAG_METRIC: &'static str = metrics::TIMELINE_LAG;
    const HOLDS_BODIES: bool = true;
    type State = Messages;

    fn state(&self) -> Messages {
        Rows::default()
    }

    async fn load(
        &self,
        transaction: &Transaction<'_>,
        events: &[ChatEvent],
        state: &mut Messages,
    ) -> Result<(), Error> {
        let changes = events.iter().filter(|event| event.event_type != event_type::MESSAGE_PERSISTED);
        let messages = changes.filter_map(|event| event.message.as_ref().map(|message| (event, message.message_seq)));
        let keys: BTreeSet<(&str, i64)> = messages
            .filter(|(event, seq)| state.get(&(event.chat_id.clone(), *seq)).is_none())
            .map(|(event, seq)| (event.chat_id.as_str(), seq))
            .collect();
        if keys.is_empty() {
            return Ok(());
        }
        let (chats, seqs): (Vec<&str>, Vec<i64>) = keys.into_iter().unzip();
        let statement = transaction.prepare_cached(LOAD).await?;
        for row in transaction.query(&statement, &[&chats, &seqs]).await? {
            state.loaded((row.try_get(0)?, row.try_get(1)?), None);
        }
        Ok(())
    }

    fn apply(state: &mut Messages, event: &ChatEvent) -> Result<Applied, Refusal> {
        let Some(message) = message_of(event)? else { return Ok(Applied::of(event)) };
        let key = (event.chat_id.clone(), message.message_seq);
        if event.event_type == event_type::MESSAGE_PERSISTED || state.get(&key).is_some() {
            state.set(key, Some(message.clone()));
        }
        Ok(Applied::Understood)
    }

    async fn store(&self, transaction: &Transaction<'_>, state: &Messages) -> Result<(), Error> {
        let changed = state.changed();
        if changed.is_empty() {
            return Ok(());
        }
        let (mut chats, mut seqs, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        for ((chat, seq), message) in &changed {
            chats.push(chat.as_str());
            seqs.push(*seq);
            messages.push(Json(message));
        }
        let statement = transaction.prepare_cached(STORE).await?;
        transaction.execute(&statement, &[&chats, &seqs, &messages]).await?;
        chats.dedup();
        let statement = transaction.prepare_cached(TRIM).await?;
        transaction.execute(&statement, &[&chats, &NEWEST]).await?;
        Ok(())
    }

    /// Bodies are large.
    fn size(state: &Messages) -> usize {
        state.len() * 2
    }

    fn settle(state: &mut Messages) {
        state.settle();
        // They are large, and the table has them. An old one that is taken for being there though it was trimmed meanwhile is
        // written and trimmed once more.
        state.values_mut().for_each(|message| *message = None);
    }
}

impl Replay for Timeline {
    async fn replay(self: Arc<Self>, pass: Arc<Pass>) -> Result<(), crate::Error> {
        pass.input::<Self, ChatEvent>(&self).await
    }
}
