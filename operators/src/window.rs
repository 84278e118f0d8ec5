//! One window: what is counted in it, and the rows that come of it.

use std::collections::BTreeSet;

use schemas::{ChatAbuse, ChatActivity, ChatEvent, MessageState, OperatorWindow};

use crate::rules::Kind;
use crate::text;

/// Senders that are told apart in one window; a contract, since rows say it.
pub(crate) const MOST_SENDERS: usize = 4_096;

/// Which window. The order is that in which windows are closed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) end_ms: i64,
    pub(crate) kind: Kind,
    pub(crate) chat_id: String,
    /// Of a flood the sender, of a repeated text its hash.
    pub(crate) detail: String,
    pub(crate) start_ms: i64,
}

impl Key {
    /// Not after any window that ends here or later.
    pub(crate) const fn floor(end_ms: i64) -> Self {
        Self { end_ms, kind: Kind::Activity, chat_id: String::new(), detail: String::new(), start_ms: i64::MIN }
    }
}

/// The message that reached a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Detected {
    sender_id: String,
    seq: i64,
    at_ms: i64,
    limit: i64,
}

/// A row of one of the output topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// For `chat.activity`.
    Activity(ChatActivity),
    /// For `chat.abuse`.
    Abuse(ChatAbuse),
}

/// What is known of one window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Window {
    messages: i64,
    text_bytes: i64,
    late_messages: i64,
    rows_written: i64,
    has_news: bool,
    senders: BTreeSet<i64>,
    detected: Option<Detected>,
    /// Whether the changelog has a record of it.
    pub(crate) is_logged: bool,
    /// Whether the changelog's record is out of date.
    pub(crate) is_touched: bool,
}

impl Window {
    /// Counts a message; says whether it is the one that reaches the limit.
    pub(crate) fn add(&mut self, event: &ChatEvent, message: &MessageState, is_late: bool, limit: Option<i64>) -> bool {
        self.messages += 1;
        self.late_messages += i64::from(is_late);
        self.text_bytes += message.content.as_ref().map_or(0, |content| content.len() as i64);
        self.has_news = true;
        if self.senders.len() < MOST_SENDERS {
            self.senders.insert(text::sender_hash(&message.sender_id));
        }
        let Some(limit) = limit.filter(|limit| self.messages >= *limit && self.detected.is_none()) else {
            return false;
        };
        let sender_id = message.sender_id.clone();
        self.detected = Some(Detected { sender_id, seq: event.seq, at_ms: event.occurred_at, limit });
        true
    }

    /// Whether nothing was counted in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// What it takes of memory, in entries.
    pub(crate) fn weight(&self) -> usize {
        1 + self.senders.len()
    }

    /// The row that is due when the window is closed, or done with: `None` if the last one says all there is.
    pub(crate) fn due_row(&mut self, key: &Key) -> Option<Row> {
        if self.has_news { self.row(key) } else { None }
    }

    /// The next row as things stand; there is none of what hasn't reached its limit.
    pub(crate) fn row(&mut self, key: &Key) -> Option<Row> {
        let (revision, senders) = (self.rows_written, self.senders.len() as i64);
        let row = match (key.kind, &self.detected) {
            (Kind::Activity, _) => Row::Activity(ChatActivity {
                chat_id: key.chat_id.clone(),
                window_start: key.start_ms,
                window_end: key.end_ms,
                revision,
                messages: self.messages,
                senders,
                text_bytes: self.text_bytes,
                late_messages: self.late_messages,
            }),
            (Kind::Flood | Kind::RepeatedText, Some(detected)) => Row::Abuse(ChatAbuse {
                chat_id: key.chat_id.clone(),
                abuse_kind: key.kind.name().to_owned(),
                sender_id: detected.sender_id.clone(),
                window_start: key.start_ms,
                window_end: key.end_ms,
                revision,
                messages: self.messages,
                senders,
                limit_messages: detected.limit,
                text_hash: (key.kind == Kind::RepeatedText).then(|| key.detail.clone()),
                detected_seq: detected.seq,
                detected_at: detected.at_ms,
            }),
            (Kind::Flood | Kind::RepeatedText, None) => return None,
        };
        self.rows_written += 1;
        self.has_news = false;
        Some(row)
    }

    /// As the changelog keeps it.
    pub(crate) fn to_record(&self, key: &Key) -> OperatorWindow {
        let detected = self.detected.as_ref();
        OperatorWindow {
            window_kind: key.kind.name().to_owned(),
            chat_id: key.chat_id.clone(),
            detail: key.detail.clone(),
            window_start: key.start_ms,
            window_end: key.end_ms,
            messages: self.messages,
            text_bytes: self.text_bytes,
            late_messages: self.late_messages,
            rows_written: self.rows_written,
            has_news: self.has_news,
            sender_hashes: self.senders.iter().copied().collect(),
            detected_sender: detected.map(|detected| detected.sender_id.clone()),
            detected_seq: detected.map(|detected| detected.seq),
            detected_at: detected.map(|detected| detected.at_ms),
            limit_messages: detected.map_or(0, |detected| detected.limit),
        }
    }

    /// From the changelog; `None` if a later version wrote it about something that this one doesn't know.
    pub(crate) fn from_record(record: OperatorWindow) -> Option<(Key, Self)> {
        let key = Key {
            end_ms: record.window_end,
            kind: Kind::named(&record.window_kind)?,
            chat_id: record.chat_id,
            detail: record.detail,
            start_ms: record.window_start,
        };
        let detected = match (record.detected_sender, record.detected_seq, record.detected_at) {
            (Some(sender_id), Some(seq), Some(at_ms)) => {
                Some(Detected { sender_id, seq, at_ms, limit: record.limit_messages })
            }
            _ => None,
        };
        let window = Self {
            messages: record.messages,
            text_bytes: record.text_bytes,
            late_messages: record.late_messages,
            rows_written: record.rows_written,
            has_news: record.has_news,
            senders: record.sender_hashes.into_iter().collect(),
            detected,
            is_logged: true,
            is_touched: false,
        };
        Some((key, window))
    }
}
