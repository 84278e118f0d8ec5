//! Marks: how far a person has received and read, told at most once a second, all chats in one frame, and again after a
//! reconnect if the server hasn't heard of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::json;

const EVERY_MS: u64 = 1_000;
/// Chats in one frame; keeps it under the frame limit with the longest ids.
const CHATS_PER_FRAME: usize = 500;

/// The marks of one kind.
#[derive(Debug)]
pub(crate) struct Marks {
    event: &'static str,
    /// What the server has, as far as told or sent.
    told: HashMap<Arc<str>, i64>,
    wanted: BTreeMap<Arc<str>, i64>,
    /// What left on this connection, which may end before it has arrived.
    sent: BTreeMap<Arc<str>, i64>,
    /// The last frame's, kept until the next in case it is refused for now.
    last: BTreeMap<Arc<str>, i64>,
    next_ms: u64,
}

impl Marks {
    /// `mark_delivered` or `mark_read`.
    pub(crate) fn new(event: &'static str) -> Self {
        Self {
            event,
            told: HashMap::new(),
            wanted: BTreeMap::new(),
            sent: BTreeMap::new(),
            last: BTreeMap::new(),
            next_ms: 0,
        }
    }

    /// The server has this much.
    pub(crate) fn adopt(&mut self, chat_id: &Arc<str>, seq: i64) {
        self.told.insert(Arc::clone(chat_id), seq);
        if self.wanted.get(chat_id).is_some_and(|wanted| *wanted <= seq) {
            self.wanted.remove(chat_id);
        }
    }

    /// The person is this far.
    pub(crate) fn want(&mut self, chat_id: &Arc<str>, seq: i64) {
        if self.told.get(chat_id).is_none_or(|told| *told < seq) {
            raise(&mut self.wanted, Arc::clone(chat_id), seq);
        }
    }

    /// The person isn't in the chat any more.
    pub(crate) fn forget(&mut self, chat_id: &str) {
        self.wanted.remove(chat_id);
        self.sent.remove(chat_id);
        self.last.remove(chat_id);
        self.told.remove(chat_id);
    }

    /// A new connection has announced all chats: the person is in no others.
    pub(crate) fn retain(&mut self, announced: &HashSet<Arc<str>>) {
        self.wanted.retain(|chat_id, _| announced.contains(chat_id));
        self.told.retain(|chat_id, _| announced.contains(chat_id));
    }

    /// Another epoch, in which the same `seq` means another event.
    pub(crate) fn forget_all(&mut self) {
        *self = Self { next_ms: self.next_ms, ..Self::new(self.event) };
    }

    /// The frame to send now.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Option<String> {
        if self.wanted.is_empty() || now_ms < self.next_ms {
            return None;
        }
        self.next_ms = now_ms + EVERY_MS;
        self.last.clear();
        while self.last.len() < CHATS_PER_FRAME {
            let Some((chat_id, seq)) = self.wanted.pop_first() else { break };
            self.told.insert(Arc::clone(&chat_id), seq);
            self.sent.insert(Arc::clone(&chat_id), seq);
            self.last.insert(chat_id, seq);
        }
        let marks: serde_json::Map<String, serde_json::Value> =
            self.last.iter().map(|(chat_id, seq)| (chat_id.to_string(), (*seq).into())).collect();
        Some(json!({ "event": self.event, "id": self.event, "payload": { "marks": marks } }).to_string())
    }

    /// Whether an answer's id, as JSON text, is that of a frame of these; a refused one is sent again.
    pub(crate) fn take_refusal(&mut self, id: &str) -> bool {
        let is_ours = id.trim_matches('"') == self.event;
        if is_ours {
            for (chat_id, seq) in std::mem::take(&mut self.last) {
                raise(&mut self.wanted, chat_id, seq);
            }
        }
        is_ours
    }

    /// When a frame is due next.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        (!self.wanted.is_empty()).then_some(self.next_ms)
    }

    /// What was sent may not have arrived: it is wanted again, unless the next `chats` tells that the server has it.
    pub(crate) fn disconnected(&mut self) {
        for (chat_id, seq) in std::mem::take(&mut self.sent) {
            raise(&mut self.wanted, chat_id, seq);
        }
        self.told.clear();
        self.last.clear();
    }
}

/// Marks are cumulative: the highest counts.
fn raise(marks: &mut BTreeMap<Arc<str>, i64>, chat_id: Arc<str>, seq: i64) {
    let mark = marks.entry(chat_id).or_insert(seq);
    *mark = seq.max(*mark);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_second_all_chats_and_only_what_moved() {
        let mut marks = Marks::new("mark_delivered");
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        marks.adopt(&a, 4);
        marks.want(&a, 4);
        assert_eq!(marks.next_due_ms(), None);
        marks.want(&a, 5);
        marks.want(&b, 1);
        let frame = r#"{"event":"mark_delivered","id":"mark_delivered","payload":{"marks":{"a":5,"b":1}}}"#;
        assert_eq!(marks.take_due(10).as_deref(), Some(frame));
        marks.want(&a, 6);
        assert_eq!(marks.take_due(1_009), None);
        assert!(marks.take_refusal("\"mark_delivered\""));
        let frame = r#"{"event":"mark_delivered","id":"mark_delivered","payload":{"marks":{"a":6,"b":1}}}"#;
        assert_eq!(marks.take_due(1_010).as_deref(), Some(frame));
    }

    #[test]
    fn what_is_lost_with_a_connection_is_sent_again_unless_the_server_has_it() {
        let mut marks = Marks::new("mark_read");
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        marks.want(&a, 3);
        marks.want(&b, 4);
        // Somebody who scrolls back has read no less.
        marks.want(&b, 2);
        let frame = r#"{"event":"mark_read","id":"mark_read","payload":{"marks":{"a":3,"b":4}}}"#;
        assert_eq!(marks.take_due(0).as_deref(), Some(frame));
        marks.disconnected();
        marks.adopt(&a, 3);
        let frame = r#"{"event":"mark_read","id":"mark_read","payload":{"marks":{"b":4}}}"#;
        assert_eq!(marks.take_due(5_000).as_deref(), Some(frame));
        assert_eq!(marks.next_due_ms(), None);
        // What hadn't left waits for the next connection too.
        marks.want(&a, 6);
        marks.disconnected();
        marks.adopt(&a, 3);
        marks.adopt(&b, 4);
        let frame = r#"{"event":"mark_read","id":"mark_read","payload":{"marks":{"a":6}}}"#;
        assert_eq!(marks.take_due(6_000).as_deref(), Some(frame));
        assert_eq!(marks.next_due_ms(), None);
    }
}
