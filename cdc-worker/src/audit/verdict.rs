//! The comparison. Pure.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

use schemas::{ChatEvent, Origin, event_type};

/// Faults of one kind that are named; the rest is counted.
const NAMED: usize = 5;

/// What is compared of an event: who, where, and a hash of all it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Chat.
    pub chat_id: String,
    /// Place in the chat.
    pub seq: i64,
    /// Hash of everything but the origin, which the tables don't hold.
    pub content: u64,
    /// The same without what a delete takes away.
    pub skeleton: u64,
    /// Whether there is a body that a delete could take away.
    pub has_body: bool,
    /// Whether a delete has taken it.
    pub is_emptied: bool,
    /// Place in the WAL.
    pub origin: (i64, i64),
}

impl Fingerprint {
    /// Of an event.
    pub fn of(mut event: ChatEvent) -> Self {
        let Origin { commit_lsn, ordinal, .. } = std::mem::take(&mut event.origin);
        let content = hash_of(&event);
        let has_body = event.message.as_ref().is_some_and(|message| message.content.is_some());
        // The row of a send says so; that of an edit has no body then, which an edit never makes.
        let is_edit = event.event_type == event_type::MESSAGE_EDITED;
        let is_emptied =
            !has_body && event.message.as_ref().is_some_and(|message| is_edit || message.deleted_at.is_some());
        if let Some(message) = &mut event.message {
            (message.content, message.app_data, message.deleted_at) = (None, None, None);
            message.attachments.clear();
        }
        let (skeleton, origin) = (hash_of(&event), (commit_lsn, ordinal));
        Self { chat_id: event.chat_id, seq: event.seq, content, skeleton, has_body, is_emptied, origin }
    }
}

fn hash_of(event: &ChatEvent) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(event).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Events of the committed history.
    pub events: usize,
    /// Rows of the tables.
    pub rows: usize,
    /// Rows without an event.
    pub missing: Faults,
    /// Events that were there before.
    pub repeated: Faults,
    /// Events without a row.
    pub unknown: Faults,
    /// Events that say something else than their row.
    pub different: Faults,
    /// Events that don't follow the one before: of their chat by `seq`, of their partition by place in the WAL.
    pub out_of_order: Faults,
}

/// Faults of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Faults {
    /// How many.
    pub count: usize,
    /// The first ones, as `chat/seq`.
    pub first: Vec<String>,
}

impl Faults {
    fn add(&mut self, chat_id: &str, seq: i64) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(format!("{chat_id}/{seq}"));
        }
    }
}

impl Verdict {
    /// Whether history and tables are the same.
    pub fn is_clean(&self) -> bool {
        self.kinds().iter().all(|(_, faults)| faults.count == 0) && self.events == self.rows
    }

    /// Whether events are missing and nothing else is wrong: what time may mend.
    pub fn is_late(&self) -> bool {
        !self.is_clean()
            && self.events + self.missing.count == self.rows
            && [&self.repeated, &self.unknown, &self.different, &self.out_of_order]
                .iter()
                .all(|faults| faults.count == 0)
    }

    fn kinds(&self) -> [(&'static str, &Faults); 5] {
        [
            ("missing", &self.missing),
            ("repeated", &self.repeated),
            ("unknown", &self.unknown),
            ("different", &self.different),
            ("out of order", &self.out_of_order),
        ]
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} events of {} rows", self.events, self.rows)?;
        for (name, Faults { count, first }) in self.kinds() {
            if *count > 0 {
                write!(
                    out,
                    "; {count} {name} ({}{})",
                    first.join(", "),
                    if *count > first.len() { ", …" } else { "" }
                )?;
            }
        }
        Ok(())
    }
}

struct Row {
    content: u64,
    skeleton: u64,
    is_emptied: bool,
    is_seen: bool,
}

impl Row {
    /// Whether an event says what the row says, or said before a delete emptied it.
    fn says(&self, event: &Fingerprint) -> bool {
        self.content == event.content || self.is_emptied && event.has_body && self.skeleton == event.skeleton
    }
}

/// Compares the committed history, partition by partition in the order of offsets, with the tables' events in any order.
pub fn compare(
    log: impl IntoIterator<Item = Vec<Fingerprint>>,
    tables: impl IntoIterator<Item = Fingerprint>,
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut rows: BTreeMap<String, BTreeMap<i64, Row>> = BTreeMap::new();
    for Fingerprint { chat_id, seq, content, skeleton, is_emptied, .. } in tables {
        verdict.rows += 1;
        rows.entry(chat_id).or_default().insert(seq, Row { content, skeleton, is_emptied, is_seen: false });
    }
    let mut lasts: BTreeMap<String, i64> = BTreeMap::new();
    for partition in log {
        let mut last_origin = None;
        for event in partition {
            verdict.events += 1;
            let (chat_id, seq, origin) = (event.chat_id.clone(), event.seq, event.origin);
            let last = lasts.entry(chat_id.clone()).or_default();
            let mut is_repeated = false;
            match rows.get_mut(&chat_id).and_then(|chat| chat.get_mut(&seq)) {
                None => verdict.unknown.add(&chat_id, seq),
                Some(row) => {
                    is_repeated = row.is_seen;
                    row.is_seen = true;
                    if !row.says(&event) {
                        verdict.different.add(&chat_id, seq);
                    }
                }
            }
            if is_repeated {
                verdict.repeated.add(&chat_id, seq);
            } else if seq != *last + 1 || last_origin.is_some_and(|last| last >= origin) {
                verdict.out_of_order.add(&chat_id, seq);
            }
            *last = seq.max(*last);
            last_origin = last_origin.max(Some(origin));
        }
    }
    for (chat_id, chat) in &rows {
        for (seq, row) in chat {
            if !row.is_seen {
                verdict.missing.add(chat_id, *seq);
            }
        }
    }
    verdict
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
