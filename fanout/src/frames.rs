//! Frames that only a connection has: greeting, chats, heads, receipts, typing, presence, farewells.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(crate) use schemas::wire::payload::{ChatEntry, Hello, HelloLimits};
use schemas::wire::payload::{
    Chats, Heads, MarkCounts, Marks, PersonState, Presence, PresenceState, Receipt, Reconnect, TokenExpiring, Typing,
};
use schemas::wire::{ServerEvent, server};
use serde::Serialize;

use crate::hub::State;
use crate::websocket::Frame;

/// Chats in one `chats` frame.
pub(crate) const CHATS_PER_FRAME: usize = 100;

fn frame(event: ServerEvent, payload: impl Serialize) -> Frame {
    server::frame(event, None, payload).into()
}

pub(crate) fn hello(hello: &Hello<'_>) -> Frame {
    frame(ServerEvent::Hello, hello)
}

/// `chats` in pages; one page, empty, for somebody without chats.
pub(crate) fn chats(entries: &[ChatEntry]) -> Vec<Frame> {
    if entries.is_empty() {
        return vec![frame(ServerEvent::Chats, Chats { chats: entries, complete: true })];
    }
    let pages = entries.chunks(CHATS_PER_FRAME);
    let last = pages.len() - 1;
    pages
        .enumerate()
        .map(|(number, chats)| frame(ServerEvent::Chats, Chats { chats, complete: number == last }))
        .collect()
}

pub(crate) fn heads(moved: BTreeMap<&str, i64>) -> Frame {
    frame(ServerEvent::Heads, Heads(moved))
}

/// `receipt`, by name.
pub(crate) fn receipt(chat_id: &str, users: &HashMap<String, Marks>) -> Frame {
    frame(ServerEvent::Receipt, Receipt { chat_id, users: Some(users), counts: None })
}

/// `receipt` of a crowd.
pub(crate) fn receipt_counts(chat_id: &str, counts: &MarkCounts) -> Frame {
    frame(ServerEvent::Receipt, Receipt { chat_id, users: None, counts: Some(counts) })
}

pub(crate) fn typing(chat_id: &str, user_id: &str) -> Frame {
    frame(ServerEvent::Typing, Typing { chat_id, user_id })
}

/// `presence` of people of one chat.
pub(crate) fn presence(chat_id: &str, people: &[(Arc<str>, State)]) -> Frame {
    let shown = |state: &State| match state {
        State::Online => PersonState { state: PresenceState::Online, last_seen_at: None },
        State::Offline(seen_at) => PersonState { state: PresenceState::Offline, last_seen_at: *seen_at },
    };
    let users = people.iter().map(|(user_id, state)| (&**user_id, shown(state))).collect();
    frame(ServerEvent::Presence, Presence { chat_id, users })
}

pub(crate) fn token_expiring(expires_at: i64) -> Frame {
    frame(ServerEvent::TokenExpiring, TokenExpiring { expires_at })
}

pub(crate) fn reconnect(after_ms: u64) -> Frame {
    frame(ServerEvent::Reconnect, Reconnect { after_ms })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
            chats(&entries).iter().map(|page| serde_json::from_str(page.text()).expect("JSON")).collect();
        assert_eq!(pages.len(), 2);
        assert_eq!(pages[0]["payload"]["complete"], false);
        assert_eq!(
            pages[1]["payload"],
            json!({"chats": [{"chat_id": "100", "head_seq": 7, "delivered_seq": 5, "read_seq": 3,
                "visible": [[1, 4], [6, null]]}], "complete": true})
        );
        assert_eq!(chats(&[])[0].text(), r#"{"event":"chats","payload":{"chats":[],"complete":true}}"#);
    }

    #[test]
    fn heads_are_a_map() {
        let moved = BTreeMap::from([("c1", 5), ("c2", 9)]);
        assert_eq!(heads(moved).text(), r#"{"event":"heads","payload":{"c1":5,"c2":9}}"#);
    }
}
