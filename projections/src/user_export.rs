//! Projection `user_export`: every message of a person, as it is now. For access requests: `waltalkie export` prints them.
//!
//! A deleted message stays as a tombstone without a body. Events carry a message's full state, so that the newest event of a
//! message is its row, and nothing is read first.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use schemas::{ChatEvent, MessageState};
use tokio_postgres::Error;
use tokio_postgres::types::Json;

use crate::metrics;
use crate::projection::{Applied, Input, Projection, Refusal, message_of};
use crate::rebuild::{Pass, Replay};
use crate::rows::Rows;

const STORE: &str = "
    INSERT INTO user_export (user_id, chat_id, message_seq, message)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::jsonb[])
    ON CONFLICT (user_id, chat_id, message_seq) DO UPDATE SET message = excluded.message";

/// The projection.
#[derive(Debug, Clone, Copy)]
pub struct UserExport;

/// By sender, chat and `seq`.
type Messages = Rows<(String, String, i64), MessageState>;

impl Projection for UserExport {
    const NAME: &'static str = "user_export";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["user_export"];
}

impl Input<ChatEvent> for UserExport {
    const LOOP: &'static str = "user_export";
    const LAG_METRIC: &'static str = metrics::USER_EXPORT_LAG;
    const HOLDS_BODIES: bool = true;
    type State = Messages;

    fn state(&self) -> Messages {
        Rows::default()
    }

    async fn load(&self, _: &Transaction<'_>, _: &[ChatEvent], _: &mut Messages) -> Result<(), Error> {
        Ok(())
    }

    fn apply(state: &mut Messages, event: &ChatEvent) -> Result<Applied, Refusal> {
        let Some(message) = message_of(event)? else { return Ok(Applied::of(event)) };
        state.set((message.sender_id.clone(), event.chat_id.clone(), message.message_seq), message.clone());
        Ok(Applied::Understood)
    }

    async fn store(&self, transaction: &Transaction<'_>, state: &Messages) -> Result<(), Error> {
        let changed = state.changed();
        if changed.is_empty() {
            return Ok(());
        }
        let users: Vec<&str> = changed.iter().map(|((user, ..), _)| user.as_str()).collect();
        let chats: Vec<&str> = changed.iter().map(|((_, chat, _), _)| chat.as_str()).collect();
        let seqs: Vec<i64> = changed.iter().map(|((.., seq), _)| *seq).collect();
        let messages: Vec<Json<&MessageState>> = changed.iter().map(|(_, message)| Json(*message)).collect();
        let statement = transaction.prepare_cached(STORE).await?;
        transaction.execute(&statement, &[&users, &chats, &seqs, &messages]).await?;
        Ok(())
    }

    /// Bodies are large.
    fn size(state: &Messages) -> usize {
        state.len() * 2
    }

    /// What is written is of no use for what comes.
    fn settle(state: &mut Messages) {
        *state = Rows::default();
    }
}

impl Replay for UserExport {
    async fn replay(self: Arc<Self>, pass: Arc<Pass>) -> Result<(), crate::Error> {
        pass.input::<Self, ChatEvent>(&self).await
    }
}
