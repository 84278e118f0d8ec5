//! Frames that only a connection has: greeting, chats, heads, receipts, typing, presence, farewells.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use schemas::timestamp;
use schemas::wire::{Limits, server};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::hub::State;

/// Chats in one `chats` frame.
pub(crate) const CHATS_PER_FRAME: usize = 100;

/// A chat in `chats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ChatEntry {
    pub(crate) chat_id: String,
    pub(crate) head_seq: i64,
    pub(crate) delivered_seq: i64,
    pub(crate) read_seq: i64,
    pub(crate) visible: Vec<(i64, Option<i64>)>,
}

pub(crate) struct Hello<'a> {
    pub(crate) session_id: &'a str,
    pub(crate) user_id: &'a str,
    pub(crate) heartbeat_ms: u64,
    pub(crate) epoch: &'a str,
    pub(crate) limits: &'a Limits,
    pub(crate) development: bool,
}

pub(crate) fn hello(hello: &Hello<'_>) -> Utf8Bytes {
    let payload = json!({
        "session_id": hello.session_id,
        "user_id": hello.user_id,
        "heartbeat_ms": hello.heartbeat_ms,
        "epoch": hello.epoch,
        "limits": { "content_bytes": hello.limits.content_bytes, "frame_bytes": hello.limits.frame_bytes },
        "development": hello.development,
    });
    server::frame("hello", None, payload).into()
}

/// `chats` in pages; one page, empty, for somebody without chats.
pub(crate) fn chats(entries: &[ChatEntry]) -> Vec<Utf8Bytes> {
    #[derive(Serialize)]
    struct Page<'a> {
        chats: &'a [ChatEntry],
        complete: bool,
    }
    if entries.is_empty() {
        return vec![server::frame("chats", None, Page { chats: entries, complete: true }).into()];
    }
    let pages = entries.chunks(CHATS_PER_FRAME);
    let last = pages.len() - 1;
    pages
        .enumerate()
        .map(|(number, chats)| server::frame("chats", None, Page { chats, complete: number == last }).into())
        .collect()
}

pub(crate) fn heads(moved: &BTreeMap<&str, i64>) -> Utf8Bytes {
    server::frame("heads", None, moved).into()
}

/// `receipt`; the marks of each person pass through as they came.
pub(crate) fn receipt(chat_id: &str, users: &HashMap<&str, &RawValue>) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Payload<'a> {
        chat_id: &'a str,
        users: &'a HashMap<&'a str, &'a RawValue>,
    }
    server::frame("receipt", None, Payload { chat_id, users }).into()
}

pub(crate) fn typing(chat_id: &str, user_id: &str) -> Utf8Bytes {
    server::frame("typing", None, json!({ "chat_id": chat_id, "user_id": user_id })).into()
}

/// `presence` of people of one chat.
pub(crate) fn presence(chat_id: &str, people: &[(Arc<str>, State)]) -> Utf8Bytes {
    let users: serde_json::Map<String, Value> = people
        .iter()
        .map(|(user_id, state)| {
            let (name, seen_at) = match state {
                State::Online => ("online", None),
                State::Offline(seen_at) => ("offline", *seen_at),
            };
            (user_id.to_string(), json!({ "state": name, "last_seen_at": seen_at.map(timestamp::rfc3339) }))
        })
        .collect();
    server::frame("presence", None, json!({ "chat_id": chat_id, "users": users })).into()
}

pub(crate) fn token_expiring(expires_at_ms: i64) -> Utf8Bytes {
    server::frame("token_expiring", None, json!({ "expires_at": timestamp::rfc3339(expires_at_ms) })).into()
}

pub(crate) fn reconnect(after_ms: u64) -> Utf8Bytes {
    server::frame("reconnect", None, json!({ "after_ms": after_ms })).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chats_come_in_pages_and_the_last_says_so() {
        let entry = |n: usize| ChatEntry {
            chat_id: n.to_string(),
            head_seq: 7,
            delivered_seq: 5,
            read_seq: 3,
            visible: vec![(1, Some(4)), (6, None)],
        };
        let entries: Vec<_> = (0..=CHATS_PER_FRAME).map(entry).collect();
        let pages: Vec<serde_json::Value> =
            chats(&entries).iter().map(|page| serde_json::from_str(page).expect("JSON")).collect();
        assert_eq!(pages.len(), 2);
        assert_eq!(pages[0]["payload"]["complete"], false);
        assert_eq!(
            pages[1]["payload"],
            json!({"chats": [{"chat_id": "100", "head_seq": 7, "delivered_seq": 5, "read_seq": 3,
                "visible": [[1, 4], [6, null]]}], "complete": true})
        );
        assert_eq!(chats(&[])[0].as_str(), r#"{"event":"chats","payload":{"chats":[],"complete":true}}"#);
    }

    #[test]
    fn heads_are_a_map() {
        let moved = BTreeMap::from([("c1", 5), ("c2", 9)]);
        assert_eq!(heads(&moved).as_str(), r#"{"event":"heads","payload":{"c1":5,"c2":9}}"#);
    }
}
