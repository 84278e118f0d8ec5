//! How many messages each person has sent in each chat.
//!
//! Chats of one partition are in order, and nothing else is: a row must belong to one chat, or partitions that are read side
//! by side would write the same row.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use deadpool_postgres::Transaction;
use projections::rebuild::{Pass, Replay};
use projections::{Applied, Error, Input, Projection, Refusal, Rows};
use schemas::{ChatEvent, event_type};
use tokio_postgres::Error as PgError;

const LOAD: &str = "SELECT chat_id, user_id, messages FROM talkers WHERE chat_id = ANY($1)";
const STORE: &str = "
    INSERT INTO talkers (chat_id, user_id, messages) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
    ON CONFLICT (chat_id, user_id) DO UPDATE SET messages = excluded.messages";

#[derive(Debug, Clone, Copy)]
pub struct Talkers;

impl Projection for Talkers {
    const NAME: &'static str = "talkers";
    /// Count it up when `apply` would make other rows of the same history, and rebuild.
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["talkers"];
}

/// What is known and what has changed: a rebuild keeps it over many batches.
#[derive(Default)]
pub struct Counts {
    /// Chats whose rows are here, also if there were none.
    chats: HashSet<String>,
    /// Messages, by chat and person.
    rows: Rows<(String, String), i64>,
}

impl Input<ChatEvent> for Talkers {
    const LOOP: &'static str = "talkers";
    const LAG_METRIC: &'static str = "talkers_lag_records";
    type State = Counts;

    fn state(&self) -> Counts {
        Counts::default()
    }

    /// The rows that these events can change, unless they are here.
    async fn load(
        &self,
        transaction: &Transaction<'_>,
        events: &[ChatEvent],
        counts: &mut Counts,
    ) -> Result<(), PgError> {
        let chats = events.iter().map(|event| event.chat_id.as_str());
        let unknown: BTreeSet<&str> = chats.filter(|chat_id| !counts.chats.contains(*chat_id)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let unknown: Vec<&str> = unknown.into_iter().collect();
        let statement = transaction.prepare_cached(LOAD).await?;
        for row in transaction.query(&statement, &[&unknown]).await? {
            counts.rows.loaded((row.get(0), row.get(1)), row.get(2));
        }
        counts.chats.extend(unknown.into_iter().map(str::to_owned));
        Ok(())
    }

    /// Pure: no clock, no random numbers, nothing but the state and the event.
    fn apply(counts: &mut Counts, event: &ChatEvent) -> Result<Applied, Refusal> {
        if event.event_type == event_type::MESSAGE_PERSISTED {
            let talker = (event.chat_id.clone(), event.actor_id.clone());
            let count = counts.rows.get(&talker).copied().unwrap_or(0);
            counts.rows.set(talker, count + 1);
        }
        Ok(Applied::of(event))
    }

    async fn store(&self, transaction: &Transaction<'_>, counts: &Counts) -> Result<(), PgError> {
        let changed = counts.rows.changed();
        if changed.is_empty() {
            return Ok(());
        }
        let chats: Vec<&str> = changed.iter().map(|((chat_id, _), _)| chat_id.as_str()).collect();
        let users: Vec<&str> = changed.iter().map(|((_, user_id), _)| user_id.as_str()).collect();
        let messages: Vec<i64> = changed.iter().map(|(_, messages)| **messages).collect();
        let statement = transaction.prepare_cached(STORE).await?;
        transaction.execute(&statement, &[&chats, &users, &messages]).await?;
        Ok(())
    }

    fn size(counts: &Counts) -> usize {
        counts.chats.len() + counts.rows.len()
    }

    fn settle(counts: &mut Counts) {
        counts.rows.settle();
    }
}

impl Replay for Talkers {
    async fn replay(self: Arc<Self>, pass: Arc<Pass>) -> Result<(), Error> {
        pass.input::<Self, ChatEvent>(&self).await
    }
}
