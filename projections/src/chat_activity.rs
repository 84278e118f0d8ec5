//! Projection `chat_activity`: how many messages were sent in each chat on each day (UTC), and by how many people.
//!
//! What was sent counts, also if it is edited or deleted later. The day is that of `occurred_at`.

use std::collections::BTreeSet;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use schemas::{ChatEvent, event_type};
use tokio_postgres::Error;

use crate::metrics;
use crate::projection::{Applied, Input, Projection, Refusal, message_of};
use crate::rebuild::{Pass, Replay};
use crate::rows::Rows;

const DAY_MS: i64 = 86_400_000;

const LOAD_DAYS: &str = "
    SELECT a.chat_id, k.day, a.messages, a.senders FROM chat_activity a
      JOIN unnest($1::text[], $2::int[]) AS k (chat_id, day)
        ON a.chat_id = k.chat_id AND a.day = DATE '1970-01-01' + k.day";
const LOAD_SENDERS: &str = "
    SELECT a.chat_id, k.day, a.sender_id, a.messages FROM chat_activity_sender a
      JOIN unnest($1::text[], $2::int[], $3::text[]) AS k (chat_id, day, sender_id)
        ON a.chat_id = k.chat_id AND a.day = DATE '1970-01-01' + k.day AND a.sender_id = k.sender_id";
const STORE_DAYS: &str = "
    INSERT INTO chat_activity (chat_id, day, messages, senders)
    SELECT k.chat_id, DATE '1970-01-01' + k.day, k.messages, k.senders
      FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]) AS k (chat_id, day, messages, senders)
    ON CONFLICT (chat_id, day) DO UPDATE SET messages = excluded.messages, senders = excluded.senders";
const STORE_SENDERS: &str = "
    INSERT INTO chat_activity_sender (chat_id, day, sender_id, messages)
    SELECT k.chat_id, DATE '1970-01-01' + k.day, k.sender_id, k.messages
      FROM unnest($1::text[], $2::int[], $3::text[], $4::bigint[]) AS k (chat_id, day, sender_id, messages)
    ON CONFLICT (chat_id, day, sender_id) DO UPDATE SET messages = excluded.messages";

/// The projection.
#[derive(Debug, Clone, Copy)]
pub struct ChatActivity;

/// Messages of a day, and people who sent them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of the table")]
pub struct Day {
    pub messages: i64,
    pub senders: i64,
}

/// What a batch knows and changes. Days are counted from 1970-01-01.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActivityState {
    /// By chat and day.
    days: Rows<(String, i32), Day>,
    /// Messages by chat, day and sender; none yet is 0.
    senders: Rows<(String, i32, String), i64>,
}

impl Projection for ChatActivity {
    const NAME: &'static str = "chat_activity";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["chat_activity", "chat_activity_sender"];
}

impl Input<ChatEvent> for ChatActivity {
    const LOOP: &'static str = "chat_activity";
    const LAG_METRIC: &'static str = metrics::CHAT_ACTIVITY_LAG;
    type State = ActivityState;

    fn state(&self) -> ActivityState {
        ActivityState::default()
    }

    async fn load(
        &self,
        transaction: &Transaction<'_>,
        events: &[ChatEvent],
        state: &mut ActivityState,
    ) -> Result<(), Error> {
        let (mut days, mut senders) = (BTreeSet::new(), BTreeSet::new());
        for event in events.iter().filter(|event| event.event_type == event_type::MESSAGE_PERSISTED) {
            let Some(message) = &event.message else { continue };
            let (chat, day) = (&event.chat_id, day_of(event));
            if state.senders.get(&(chat.clone(), day, message.sender_id.clone())).is_none() {
                senders.insert((chat.as_str(), day, message.sender_id.as_str()));
            }
            if state.days.get(&(chat.clone(), day)).is_none() {
                days.insert((chat.as_str(), day));
            }
        }
        let (chats, numbers): (Vec<&str>, Vec<i32>) = days.into_iter().unzip();
        if !chats.is_empty() {
            let statement = transaction.prepare_cached(LOAD_DAYS).await?;
            for row in transaction.query(&statement, &[&chats, &numbers]).await? {
                let day = Day { messages: row.try_get(2)?, senders: row.try_get(3)? };
                state.days.loaded((row.try_get(0)?, row.try_get(1)?), day);
            }
        }
        if !senders.is_empty() {
            let chats: Vec<&str> = senders.iter().map(|(chat, ..)| *chat).collect();
            let numbers: Vec<i32> = senders.iter().map(|(_, day, _)| *day).collect();
            let people: Vec<&str> = senders.iter().map(|(.., sender)| *sender).collect();
            let statement = transaction.prepare_cached(LOAD_SENDERS).await?;
            for row in transaction.query(&statement, &[&chats, &numbers, &people]).await? {
                state.senders.loaded((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?), row.try_get(3)?);
            }
        }
        Ok(())
    }

    fn apply(state: &mut ActivityState, event: &ChatEvent) -> Result<Applied, Refusal> {
        let Some(message) = message_of(event)? else { return Ok(Applied::of(event)) };
        if event.event_type != event_type::MESSAGE_PERSISTED {
            return Ok(Applied::Understood);
        }
        let sender = (event.chat_id.clone(), day_of(event), message.sender_id.clone());
        let theirs = state.senders.get(&sender).copied().unwrap_or_default();
        let day = (event.chat_id.clone(), sender.1);
        let Day { messages, senders } = state.days.get(&day).copied().unwrap_or_default();
        state.days.set(day, Day { messages: messages + 1, senders: senders + i64::from(theirs == 0) });
        state.senders.set(sender, theirs + 1);
        Ok(Applied::Understood)
    }

    async fn store(&self, transaction: &Transaction<'_>, state: &ActivityState) -> Result<(), Error> {
        let changed = state.days.changed();
        if changed.is_empty() {
            return Ok(());
        }
        let chats: Vec<&str> = changed.iter().map(|((chat, _), _)| chat.as_str()).collect();
        let numbers: Vec<i32> = changed.iter().map(|((_, day), _)| *day).collect();
        let messages: Vec<i64> = changed.iter().map(|(_, day)| day.messages).collect();
        let senders: Vec<i64> = changed.iter().map(|(_, day)| day.senders).collect();
        let statement = transaction.prepare_cached(STORE_DAYS).await?;
        transaction.execute(&statement, &[&chats, &numbers, &messages, &senders]).await?;

        let changed = state.senders.changed();
        let chats: Vec<&str> = changed.iter().map(|((chat, ..), _)| chat.as_str()).collect();
        let numbers: Vec<i32> = changed.iter().map(|((_, day, _), _)| *day).collect();
        let people: Vec<&str> = changed.iter().map(|((.., sender), _)| sender.as_str()).collect();
        let messages: Vec<i64> = changed.iter().map(|(_, messages)| **messages).collect();
        let statement = transaction.prepare_cached(STORE_SENDERS).await?;
        transaction.execute(&statement, &[&chats, &numbers, &people, &messages]).await?;
        Ok(())
    }

    fn size(state: &ActivityState) -> usize {
        state.days.len() + state.senders.len()
    }

    fn settle(state: &mut ActivityState) {
        state.days.settle();
        state.senders.settle();
    }
}

fn day_of(event: &ChatEvent) -> i32 {
    event.occurred_at.div_euclid(DAY_MS) as i32
}

impl Replay for ChatActivity {
    async fn replay(self: Arc<Self>, pass: Arc<Pass>) -> Result<(), crate::Error> {
        pass.input::<Self, ChatEvent>(&self).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::samples::{actions, batches, cuts, history};

    proptest! {
        #[test]
        fn counts_are_those_of_the_messages_however_the_batches_are_cut(actions in actions(80), cuts in cuts()) {
            // Three events a day.
            let events = history(&actions);
            let events: Vec<ChatEvent> =
                events.into_iter().map(|event| ChatEvent { occurred_at: event.seq * DAY_MS / 3, ..event }).collect();
            let mut days = BTreeMap::<(String, i32), Day>::new();
            let mut people = BTreeMap::<(String, i32, String), i64>::new();
            for batch in batches(&events, &cuts) {
                let mut state = ActivityState::default();
                for (key, day) in &days {
                    state.days.loaded(key.clone(), *day);
                }
                for (key, count) in &people {
                    state.senders.loaded(key.clone(), *count);
                }
                for event in batch {
                    ChatActivity::apply(&mut state, event).expect("usable");
                }
                days.extend(state.days.changed().into_iter().map(|(key, day)| (key.clone(), *day)));
                people.extend(state.senders.changed().into_iter().map(|(key, count)| (key.clone(), *count)));
            }
            let sent = |chat: &str, day: i32| {
                let sends = events.iter().filter(|event| event.event_type == event_type::MESSAGE_PERSISTED);
                sends.filter(move |event| event.chat_id == chat && day_of(event) == day).collect::<Vec<_>>()
            };
            for ((chat, day), counted) in &days {
                let sent = sent(chat, *day);
                let senders: BTreeSet<&str> = sent.iter().map(|event| event.actor_id.as_str()).collect();
                prop_assert_eq!(*counted, Day { messages: sent.len() as i64, senders: senders.len() as i64 });
            }
            let all = events.iter().filter(|event| event.event_type == event_type::MESSAGE_PERSISTED).count();
            prop_assert_eq!(days.values().map(|day| day.messages).sum::<i64>(), all as i64);
            prop_assert_eq!(people.values().sum::<i64>(), all as i64);
        }
    }
}
