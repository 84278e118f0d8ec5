//! Cursors on their way to other members, merged: a chat of many readers makes one envelope at a time. Pure.

use std::collections::{BTreeMap, HashMap};

use schemas::Cursor;
use schemas::wire::payload::Marks;
use schemas::wire::relay::{Kind, Relayed};
use serde::Serialize;

#[derive(Debug, Default)]
struct Chat {
    users: BTreeMap<String, Marks>,
    partition: i32,
    offset: i64,
}

/// What has moved since it was last drained.
#[derive(Debug, Default)]
pub(super) struct Coalesced {
    chats: HashMap<String, Chat>,
}

impl Coalesced {
    /// Takes in a cursor: the latest of each user stands for all before.
    pub(super) fn take(&mut self, cursor: &Cursor, partition: i32, offset: i64) {
        let chat = self.chats.entry(cursor.chat_id.clone()).or_default();
        (chat.partition, chat.offset) = (partition, offset);
        let moved = Marks { delivered_seq: cursor.delivered_seq, read_seq: cursor.read_seq };
        chat.users
            .entry(cursor.user_id.clone())
            .and_modify(|marks| {
                marks.delivered_seq = marks.delivered_seq.max(moved.delivered_seq);
                marks.read_seq = marks.read_seq.max(moved.read_seq);
            })
            .or_insert(moved);
    }

    /// Envelopes of at most so many chats.
    pub(super) fn drain(&mut self, most: usize, now_ms: i64) -> Vec<(String, Vec<u8>)> {
        #[derive(Serialize)]
        struct Payload<'a> {
            chat_id: &'a str,
            users: &'a BTreeMap<String, Marks>,
        }
        let chat_ids: Vec<String> = self.chats.keys().take(most).cloned().collect();
        chat_ids
            .into_iter()
            .filter_map(|chat_id| {
                let chat = self.chats.remove(&chat_id)?;
                let value = serde_json::to_vec(&Payload { chat_id: &chat_id, users: &chat.users }).ok()?;
                let envelope = Relayed {
                    kind: Kind::Receipts,
                    partition: chat.partition,
                    offset: chat.offset,
                    relayed_at_ms: now_ms,
                    trace: None,
                    value: &value,
                };
                Some((chat_id, envelope.to_bytes()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_farthest_of_each_user_goes_out_once() {
        let cursor = |user_id: &str, delivered_seq, read_seq| Cursor {
            chat_id: "c".into(),
            user_id: user_id.into(),
            delivered_seq,
            read_seq,
            updated_at: 0,
        };
        let mut coalesced = Coalesced::default();
        coalesced.take(&cursor("a", 5, 2), 1, 10);
        coalesced.take(&cursor("b", 3, 3), 1, 11);
        coalesced.take(&cursor("a", 4, 4), 1, 12);
        let drained = coalesced.drain(10, 0);
        assert_eq!(drained.len(), 1);
        let envelope = Relayed::from_bytes(&drained[0].1).expect("envelope");
        assert_eq!((envelope.kind, envelope.offset), (Kind::Receipts, 12));
        assert_eq!(
            std::str::from_utf8(envelope.value).expect("JSON"),
            r#"{"chat_id":"c","users":{"a":{"delivered_seq":5,"read_seq":4},"b":{"delivered_seq":3,"read_seq":3}}}"#
        );
        assert!(coalesced.drain(10, 0).is_empty());
    }
}
