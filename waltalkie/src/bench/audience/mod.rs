//! People and chats that a bench puts into the tables, and what is said there: all of it known from numbers alone, so that
//! rows, envelopes and frames can be made at any place and are the same everywhere.

mod rows;

use schemas::history::MessageRow;
use schemas::wire::json::{Way, lsn_text};
use schemas::{ChatEvent, Origin};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use rows::Tables;

/// `seq` of a new chat: the event that made it, which nobody here asks for and the tables don't have.
pub(crate) const FIRST_SEQ: i64 = 1;
/// 2026-01-01, when everything was said.
const SAID_AT_MS: i64 = 1_767_225_600_000;
/// Where the log of a server stands that has been there for a while.
const LSN: i64 = 0x16_B374_D848;

/// Who is in which chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Audience {
    /// Goes before every id.
    pub(crate) name: String,
    pub(crate) people: usize,
    pub(crate) chats: usize,
    /// People in each chat.
    pub(crate) members: usize,
    filler: String,
}

impl Audience {
    /// Each chat's members are the next people in turn, so that all are in about as many chats.
    pub(crate) fn new(name: &str, people: usize, chats: usize, members: usize, content_bytes: usize) -> Self {
        let words = "the quick brown fox jumps over the lazy dog and tells its friends about it ";
        let filler = words.chars().cycle().take(content_bytes).collect();
        Self { name: name.to_owned(), people, chats, members, filler }
    }

    pub(crate) fn user_id(&self, person: usize) -> String {
        format!("{}-p{person:06}", self.name)
    }

    pub(crate) fn chat_id(&self, chat: usize) -> String {
        format!("{}-c{chat:06}", self.name)
    }

    /// The person at a place in a chat.
    pub(crate) fn member(&self, chat: usize, place: usize) -> usize {
        (chat * self.members + place % self.members) % self.people
    }

    /// The number at the end of an id of ours.
    pub(crate) fn number(id: &[u8]) -> Option<usize> {
        let digits = id.get(id.len().checked_sub(6)?..)?;
        digits
            .iter()
            .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + usize::from(digit - b'0')))
    }

    fn sender(&self, chat: usize, seq: i64) -> String {
        self.user_id(self.member(chat, seq as usize))
    }

    fn content(&self, chat: usize, seq: i64) -> String {
        let mut content = format!("{chat} {seq} {}", self.filler);
        content.truncate(self.filler.len());
        content
    }

    /// Makes something of the row that a message has in the tables.
    fn with_row<T>(&self, chat: usize, seq: i64, make: impl FnOnce(&MessageRow<'_>) -> T) -> T {
        make(&MessageRow {
            chat_id: &self.chat_id(chat),
            sequence_number: seq,
            message_id: Uuid::from_u64_pair(chat as u64, seq as u64),
            sender_id: &self.sender(chat, seq),
            content: Some(&self.content(chat, seq)),
            parent_message_id: None,
            parent_seq: None,
            app_data: None,
            attachments: None,
            created_at_ms: SAID_AT_MS,
            deleted_at_ms: None,
        })
    }

    /// The event of a message as it travels, framed under the schema's id.
    pub(crate) fn value(&self, schema_id: u32, chat: usize, seq: i64) -> Vec<u8> {
        let mut value = schemas::codec::header(schema_id).to_vec();
        // Only rows with attachments have none.
        let _ = self.with_row(chat, seq, |row| row.encode_event(origin(seq), &mut value));
        value
    }

    /// The frame of a message that came live, as nodes make it in development.
    pub(crate) fn live_frame(&self, chat: usize, seq: i64) -> String {
        let way = Way {
            commit_lsn: lsn_text(origin(seq).commit_lsn),
            ordinal: origin(seq).ordinal,
            partition: 0,
            offset: seq,
            occurred_at: SAID_AT_MS,
            relayed_at: SAID_AT_MS,
        };
        self.event(chat, seq).map_or_else(String::new, |event| schemas::wire::server::event_frame(&event, Some(way)))
    }

    /// The frame of a message that was read again.
    pub(crate) fn old_frame(&self, chat: usize, seq: i64) -> String {
        self.event(chat, seq).map_or_else(String::new, |event| schemas::wire::server::event_frame(&event, None))
    }

    fn event(&self, chat: usize, seq: i64) -> Option<ChatEvent> {
        self.with_row(chat, seq, |row| row.into_event(origin(seq)).ok())
    }
}

fn origin(seq: i64) -> Origin {
    Origin { shard: 0, commit_lsn: LSN + seq, ordinal: 1 }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn people_are_in_as_many_chats_and_never_twice_in_one() {
        let audience = Audience::new("crowd", 1_000, 100, 100, 192);
        let mut chats_of: HashMap<usize, usize> = HashMap::new();
        for chat in 0..100 {
            let members: std::collections::HashSet<usize> =
                (0..100).map(|place| audience.member(chat, place)).collect();
            assert_eq!(members.len(), 100);
            for person in members {
                *chats_of.entry(person).or_default() += 1;
            }
        }
        assert!(chats_of.len() == 1_000 && chats_of.values().all(|chats| *chats == 10));
    }

    #[test]
    fn ids_carry_numbers() {
        let audience = Audience::new("crowd", 10, 10, 2, 192);
        assert_eq!(Audience::number(audience.chat_id(42).as_bytes()), Some(42));
        assert_eq!((Audience::number(b"x"), Audience::number(b"crowd-c00004x")), (None, None));
    }

    #[test]
    fn bodies_have_their_size() {
        let audience = Audience::new("crowd", 10, 10, 2, 192);
        let event = audience.event(3, 17).expect("an event");
        let content = event.message.and_then(|message| message.content).expect("a body");
        assert!(content.len() == 192 && content.starts_with("3 17 the quick"), "{content}");
        assert_eq!(audience.value(7, 3, 17)[..5], [0, 0, 0, 0, 7]);
    }
}
