//! A made history: chats that are born, talk for a while and fall silent, with edits and deletes among what is said.

use std::collections::VecDeque;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::producer::BaseRecord;
use runtime::Config;
use schemas::registry::Registry;
use schemas::{ChatEvent, ChatState, Cursor, Encoder, Membership, MessageState, Origin, Record, event_type};
use uuid::Uuid;

use crate::bench::progress;
use crate::bench::text::body;
use crate::bench::writer::Writer;

/// Different bodies; more than fit into one compressed batch.
const BODIES: usize = 10_000;
/// The time that the history spans, and its end: 30 days.
const SPAN_MS: i64 = 30 * 86_400_000;
const END_MS: i64 = 1_780_000_000_000;
/// One chat of so many lives at a time.
const ALIVE: u64 = 10;
/// Of a hundred events, edits and deletes.
const CHANGES: u32 = 3;
/// Messages of a chat that may be changed yet.
const RECENT: usize = 4;
/// Of a chat's events so many of a hundred are undelivered in the end.
const UNDELIVERED: i64 = 1;

/// How much there is of what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) events: u64,
    pub(super) chats: u64,
    pub(super) members: u64,
    pub(super) content_bytes: usize,
}

/// Writes events and cursors; returns the mean size of an event's key and value, uncompressed.
pub(super) async fn write(shape: &Shape, config: &Config) -> Result<f64> {
    let names = config.names();
    let registry = Registry::new(config.registry.url.expose(), names.prefix())?;
    let events = Encoder::new(registry.id_of::<ChatEvent>().await?);
    let cursors = Encoder::new(registry.id_of::<Cursor>().await?);
    let (event_topic, cursor_topic) = (names.topic(ChatEvent::TOPIC), names.topic(Cursor::TOPIC));
    let writer = Writer::new(config, config.cdc.compression)?;
    let bar = progress(shape.events, "writing the history");
    let mut bytes = 0;
    tokio::task::block_in_place(|| {
        let mut life = Life::new(*shape);
        for number in 0..shape.events {
            let event = life.next(number);
            let value = events.encode(&event)?;
            bytes += value.len() + event.chat_id.len();
            let record = BaseRecord::to(&event_topic).key(event.chat_id.as_str()).payload(&value);
            writer.put(record.timestamp(event.occurred_at))?;
            if number % 10_000 == 0 {
                bar.set_position(number);
            }
        }
        for cursor in life.cursors() {
            let (key, value) = (cursor.key(), cursors.encode(&cursor)?);
            writer.put(BaseRecord::to(&cursor_topic).key(key.as_str()).payload(&value).timestamp(cursor.updated_at))?;
        }
        writer.finish()
    })?;
    bar.finish_and_clear();
    Ok(bytes as f64 / shape.events as f64)
}

/// A chat as it is by now.
#[derive(Default)]
struct Chat {
    seq: i64,
    recent: VecDeque<MessageState>,
}

/// All chats, and what happens next.
struct Life {
    shape: Shape,
    chats: Vec<Chat>,
    born: u64,
    random: StdRng,
    bodies: Vec<String>,
}

impl Life {
    fn new(shape: Shape) -> Self {
        let mut random = StdRng::seed_from_u64(1);
        let bodies = (0..BODIES).map(|_| body(&mut random, shape.content_bytes)).collect();
        let chats = std::iter::repeat_with(Chat::default).take(shape.chats as usize).collect();
        Self { shape, chats, born: 0, random, bodies }
    }

    fn next(&mut self, number: u64) -> ChatEvent {
        let at_ms =
            END_MS - SPAN_MS + (i128::from(SPAN_MS) * i128::from(number) / i128::from(self.shape.events)) as i64;
        // Born evenly over the time, so that the last ones have time to talk too.
        let due = (number * self.shape.chats).div_ceil(self.shape.events.max(1)).clamp(1, self.shape.chats);
        if self.born < due {
            self.born += 1;
            return self.created(self.born - 1, at_ms);
        }
        let alive = (self.shape.chats / ALIVE).max(1).min(self.born);
        let chat = self.born - 1 - self.random.random_range(0..alive);
        if self.random.random_range(0..100) < CHANGES && !self.chats[chat as usize].recent.is_empty() {
            self.changed(chat, at_ms)
        } else {
            self.said(chat, at_ms)
        }
    }

    fn created(&mut self, chat: u64, at_ms: i64) -> ChatEvent {
        let stays = (0..self.shape.members).map(|member| Membership {
            user_id: person(chat, member),
            member_role: if member == 0 { "owner" } else { "member" }.into(),
            joined_seq: 1,
            left_seq: None,
            visible_from_seq: 1,
        });
        let memberships = stays.collect();
        let state = ChatState {
            chat_name: Some(format!("Chat {chat}")),
            is_group: true,
            created_at: at_ms,
            app_data: None,
            avatar_url: None,
            deleted_shown_as: "tombstone".into(),
            history_for_new_members: true,
        };
        ChatEvent { memberships, chat: Some(state), ..self.event(chat, 0, event_type::CHAT_CREATED, at_ms) }
    }

    fn said(&mut self, chat: u64, at_ms: i64) -> ChatEvent {
        let sender = self.random.random_range(0..self.shape.members);
        let event = self.event(chat, sender, event_type::MESSAGE_PERSISTED, at_ms);
        let message = MessageState {
            message_id: Uuid::from_u128(u128::from(chat) << 64 | event.seq as u128).to_string(),
            message_seq: event.seq,
            sender_id: event.actor_id.clone(),
            content: Some(self.bodies[self.random.random_range(0..BODIES)].clone()),
            created_at: at_ms,
            ..MessageState::default()
        };
        let recent = &mut self.chats[chat as usize].recent;
        recent.push_back(message.clone());
        if recent.len() > RECENT {
            recent.pop_front();
        }
        ChatEvent { message: Some(message), ..event }
    }

    /// An edit, or once in three times a delete, of a message that was sent lately.
    fn changed(&mut self, chat: u64, at_ms: i64) -> ChatEvent {
        let recent = &mut self.chats[chat as usize].recent;
        let at = self.random.random_range(0..recent.len());
        let mut message = recent[at].clone();
        let kind = if self.random.random_range(0..3) == 0 {
            recent.remove(at);
            (message.content, message.deleted_at) = (None, Some(at_ms));
            event_type::MESSAGE_DELETED
        } else {
            message.content = Some(self.bodies[self.random.random_range(0..BODIES)].clone());
            message.edited_at = Some(at_ms);
            recent[at] = message.clone();
            event_type::MESSAGE_EDITED
        };
        let event = self.event(chat, 0, kind, at_ms);
        ChatEvent { actor_id: message.sender_id.clone(), message: Some(message), ..event }
    }

    fn event(&mut self, chat: u64, member: u64, kind: &str, at_ms: i64) -> ChatEvent {
        let seq = &mut self.chats[chat as usize].seq;
        *seq += 1;
        let chat_id = chat_id(chat);
        ChatEvent {
            event_id: ChatEvent::id_of(&chat_id, *seq),
            event_type: kind.to_owned(),
            chat_id,
            seq: *seq,
            actor_id: person(chat, member),
            occurred_at: at_ms,
            origin: Origin::default(),
            message: None,
            memberships: Vec::new(),
            chat: None,
        }
    }

    /// How far each member has come.
    fn cursors(&self) -> impl Iterator<Item = Cursor> {
        let members = self.shape.members;
        self.chats.iter().zip(0..).flat_map(move |(chat, number)| {
            let reached = chat.seq - (chat.seq * UNDELIVERED).div_euclid(100);
            (0..members).map(move |member| Cursor {
                chat_id: chat_id(number),
                user_id: person(number, member),
                delivered_seq: reached,
                read_seq: reached,
                updated_at: END_MS,
            })
        })
    }
}

fn chat_id(chat: u64) -> String {
    Uuid::from_u128(0x0197_0000_0000_7000_8000_0000_0000_0000 + u128::from(chat)).to_string()
}

/// People are in several chats: members of neighbours overlap.
fn person(chat: u64, member: u64) -> String {
    format!("person-{}", chat * 3 + member)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_chat_is_made_first_and_dense() {
        let shape = Shape { events: 5_000, chats: 50, members: 3, content_bytes: 40 };
        let mut life = Life::new(shape);
        let mut seqs = BTreeMap::<String, i64>::new();
        for number in 0..shape.events {
            let event = life.next(number);
            let seq = seqs.entry(event.chat_id.clone()).or_default();
            *seq += 1;
            assert_eq!(event.seq, *seq);
            assert_eq!(event.seq == 1, event.event_type == event_type::CHAT_CREATED);
        }
        assert_eq!(seqs.len(), 50, "every chat was made");
        assert_eq!(life.cursors().count(), 150);
        let undelivered: i64 = life.cursors().map(|cursor| seqs[&cursor.chat_id] - cursor.delivered_seq).sum();
        assert!((75..=300).contains(&undelivered), "about one of a hundred for each of three members: {undelivered}");
    }
}
