//! Projection `chat_activity`: how many messages were sent in each chat on each day (UTC), and by how many people.
//!
//! What was sent counts, also if it is edited or deleted later. The day is that of `occurred_at`.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use hashbrown::{Equivalent, HashSet};
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
    days: Rows<(String, i32), Counts>,
    /// Days and senders that are held.
    size: usize,
}

/// What is known of a day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts {
    day: Day,
    /// Messages by sender.
    senders: Rows<String, i64>,
    /// Whether the table may have senders that aren't here.
    is_stored: bool,
}

/// A chat and a day, without a copy of the chat's id.
#[derive(Hash, PartialEq, Eq, Clone, Copy, PartialOrd, Ord)]
struct ChatDay<'a>(&'a str, i32);

impl Equivalent<(String, i32)> for ChatDay<'_> {
    fn equivalent(&self, (chat, day): &(String, i32)) -> bool {
        *day == self.1 && chat == self.0
    }
}

impl<'a> From<&ChatDay<'a>> for (String, i32) {
    fn from(&ChatDay(chat, day): &ChatDay<'a>) -> Self {
        (chat.to_owned(), day)
    }
}

impl ActivityState {
    /// Takes a day as it is in the table, without its senders.
    fn loaded(&mut self, chat: String, number: i32, day: Day) {
        self.size += 1;
        self.days.loaded((chat, number), Counts { day, senders: Rows::default(), is_stored: true });
    }

    /// Takes a sender of a day that is known.
    fn loaded_sender(&mut self, key: ChatDay<'_>, sender: String, messages: i64) {
        if let Some(counts) = self.days.get_mut(&key) {
            self.size += 1;
            counts.senders.loaded(sender, messages);
        }
    }

    fn count(&mut self, key: ChatDay<'_>, sender: &str) {
        let counts = self.days.change(&key);
        self.size += usize::from(counts.day == Day::default());
        counts.day.messages += 1;
        let theirs = counts.senders.change(sender);
        *theirs += 1;
        if *theirs == 1 {
            counts.day.senders += 1;
            self.size += 1;
        }
    }
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
        let messages = || events.iter().filter(|event| event.event_type == event_type::MESSAGE_PERSISTED);
        let mut days: Vec<_> = messages().map(key_of).filter(|key| state.days.get(key).is_none()).collect();
        days.sort_unstable();
        days.dedup();
        if !days.is_empty() {
            let (chats, numbers): (Vec<&str>, Vec<i32>) =
                days.into_iter().map(|ChatDay(chat, day)| (chat, day)).unzip();
            let statement = transaction.prepare_cached(LOAD_DAYS).await?;
            for row in transaction.query(&statement, &[&chats, &numbers]).await? {
                let day = Day { messages: row.try_get(2)?, senders: row.try_get(3)? };
                state.loaded(row.try_get(0)?, row.try_get(1)?, day);
            }
        }
        // Of a day that the table hasn't, it has no sender either.
        let of_stored = |event: &&ChatEvent| state.days.get(&key_of(event)).is_some_and(|counts| counts.is_stored);
        let mut senders = HashSet::new();
        for event in messages().filter(of_stored) {
            let (Some(message), key) = (&event.message, key_of(event)) else { continue };
            let sender = message.sender_id.as_str();
            if state.days.get(&key).is_some_and(|counts| counts.senders.get(sender).is_none()) {
                senders.insert((key, sender));
            }
        }
        if !senders.is_empty() {
            let chats: Vec<&str> = senders.iter().map(|(ChatDay(chat, _), _)| *chat).collect();
            let numbers: Vec<i32> = senders.iter().map(|(ChatDay(_, day), _)| *day).collect();
            let people: Vec<&str> = senders.iter().map(|(_, sender)| *sender).collect();
            let statement = transaction.prepare_cached(LOAD_SENDERS).await?;
            for row in transaction.query(&statement, &[&chats, &numbers, &people]).await? {
                state.loaded_sender(ChatDay(row.try_get(0)?, row.try_get(1)?), row.try_get(2)?, row.try_get(3)?);
            }
        }
        Ok(())
    }

    fn apply(state: &mut ActivityState, event: &ChatEvent) -> Result<Applied, Refusal> {
        let Some(message) = message_of(event)? else { return Ok(Applied::of(event)) };
        if event.event_type != event_type::MESSAGE_PERSISTED {
            return Ok(Applied::Understood);
        }
        state.count(key_of(event), &message.sender_id);
        Ok(Applied::Understood)
    }

    async fn store(&self, transaction: &Transaction<'_>, state: &ActivityState) -> Result<(), Error> {
        let changed = state.days.changed();
        if changed.is_empty() {
            return Ok(());
        }
        let chats: Vec<&str> = changed.iter().map(|((chat, _), _)| chat.as_str()).collect();
        let numbers: Vec<i32> = changed.iter().map(|((_, day), _)| *day).collect();
        let messages: Vec<i64> = changed.iter().map(|(_, counts)| counts.day.messages).collect();
        let senders: Vec<i64> = changed.iter().map(|(_, counts)| counts.day.senders).collect();
        let statement = transaction.prepare_cached(STORE_DAYS).await?;
        transaction.execute(&statement, &[&chats, &numbers, &messages, &senders]).await?;

        let (mut chats, mut numbers) = (Vec::<&str>::new(), Vec::<i32>::new());
        let (mut people, mut messages) = (Vec::<&str>::new(), Vec::<i64>::new());
        for ((chat, day), counts) in changed {
            for (sender, theirs) in counts.senders.changed() {
                chats.push(chat);
                numbers.push(*day);
                people.push(sender);
                messages.push(*theirs);
            }
        }
        let statement = transaction.prepare_cached(STORE_SENDERS).await?;
        transaction.execute(&statement, &[&chats, &numbers, &people, &messages]).await?;
        Ok(())
    }

    fn size(state: &ActivityState) -> usize {
        state.size
    }

    fn settle(state: &mut ActivityState) {
        state.days.settle();
        state.days.values_mut().for_each(|counts| counts.senders.settle());
    }
}

fn key_of(event: &ChatEvent) -> ChatDay<'_> {
    ChatDay(&event.chat_id, day_of(event))
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

    /// The rows of both tables.
    #[derive(Debug, Default, PartialEq)]
    struct Tables {
        days: BTreeMap<(String, i32), Day>,
        people: BTreeMap<(String, i32, String), i64>,
    }

    impl Tables {
        fn load(&self) -> ActivityState {
            let mut state = ActivityState::default();
            for ((chat, number), day) in &self.days {
                state.loaded(chat.clone(), *number, *day);
            }
            for ((chat, day, sender), count) in &self.people {
                state.loaded_sender(ChatDay(chat, *day), sender.clone(), *count);
            }
            state
        }

        fn store(&mut self, state: &ActivityState) {
            for ((chat, day), counts) in state.days.changed() {
                self.days.insert((chat.clone(), *day), counts.day);
                let theirs = counts.senders.changed().into_iter();
                self.people.extend(theirs.map(|(sender, count)| ((chat.clone(), *day, sender.clone()), *count)));
            }
        }
    }

    proptest! {
        #[test]
        fn counts_are_those_of_the_messages_however_the_batches_are_cut(actions in actions(80), cuts in cuts()) {
            // Three events a day.
            let events = history(&actions);
            let events: Vec<ChatEvent> =
                events.into_iter().map(|event| ChatEvent { occurred_at: event.seq * DAY_MS / 3, ..event }).collect();
            // With a state of its own for each batch, and with one that lasts, in which no day is the table's.
            let (mut tables, mut kept) = (Tables::default(), Tables::default());
            let mut lasting = ActivityState::default();
            for batch in batches(&events, &cuts) {
                let mut loaded = tables.load();
                for (state, tables) in [(&mut loaded, &mut tables), (&mut lasting, &mut kept)] {
                    for event in batch {
                        ChatActivity::apply(state, event).expect("usable");
                    }
                    let held: usize = state.days.iter().map(|(_, counts)| 1 + counts.senders.len()).sum();
                    prop_assert_eq!(ChatActivity::size(state), held);
                    tables.store(state);
                    ChatActivity::settle(state);
                    prop_assert!(state.days.changed().is_empty());
                    prop_assert!(state.days.iter().all(|(_, counts)| counts.senders.changed().is_empty()));
                }
            }
            prop_assert!(lasting.days.iter().all(|(_, counts)| !counts.is_stored));
            prop_assert_eq!(&kept, &tables);
            let Tables { days, people } = tables;
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
