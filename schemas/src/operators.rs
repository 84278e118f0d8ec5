//! What stream operators write: `ChatActivity` and `ChatAbuse` for everybody, `OperatorState` for themselves. Field docs
//! are in `avro/`.
#![allow(missing_docs, reason = "the schemas document every field")]

use serde::{Deserialize, Serialize};

use crate::{record::Record, topics::Topic};

/// Names of kinds of abuse.
pub mod abuse_kind {
    /// Too many messages of one person.
    pub const FLOOD: &str = "flood";
    /// One text too many times.
    pub const REPEATED_TEXT: &str = "repeated_text";
}

/// What was sent in one chat within one minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatActivity {
    pub chat_id: String,
    pub window_start: i64,
    pub window_end: i64,
    pub revision: i64,
    pub messages: i64,
    pub senders: i64,
    pub text_bytes: i64,
    pub late_messages: i64,
}

/// A flood or a repeated text in one chat within one window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatAbuse {
    pub chat_id: String,
    pub abuse_kind: String,
    pub sender_id: String,
    pub window_start: i64,
    pub window_end: i64,
    pub revision: i64,
    pub messages: i64,
    pub senders: i64,
    pub limit_messages: i64,
    #[serde(default)]
    pub text_hash: Option<String>,
    pub detected_seq: i64,
    pub detected_at: i64,
}

/// A record of the operators' changelog.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OperatorState {
    #[serde(default)]
    pub progress: Option<OperatorProgress>,
    #[serde(default)]
    pub open_window: Option<OperatorWindow>,
}

/// How far a partition of `chat.events` was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorProgress {
    pub topic_log: String,
    pub next_offset: i64,
    #[serde(default)]
    pub watermark_at: Option<i64>,
}

/// A window that isn't done with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OperatorWindow {
    pub window_kind: String,
    pub chat_id: String,
    pub detail: String,
    pub window_start: i64,
    pub window_end: i64,
    pub messages: i64,
    pub text_bytes: i64,
    pub late_messages: i64,
    pub rows_written: i64,
    pub has_news: bool,
    #[serde(default)]
    pub sender_hashes: Vec<i64>,
    #[serde(default)]
    pub detected_sender: Option<String>,
    #[serde(default)]
    pub detected_seq: Option<i64>,
    #[serde(default)]
    pub detected_at: Option<i64>,
    pub limit_messages: i64,
}

impl OperatorState {
    /// Key of the record that has a partition's progress.
    pub const PROGRESS_KEY: &'static str = "progress";
}

impl OperatorWindow {
    /// Key of the compacted record. Ids have no slash.
    pub fn key(&self) -> String {
        let Self { window_kind, chat_id, detail, window_start, window_end, .. } = self;
        format!("{window_kind}/{chat_id}/{window_start}/{window_end}/{detail}")
    }
}

impl Record for ChatActivity {
    const NAME: &'static str = "ChatActivity";
    const SCHEMA: &'static str = include_str!("../avro/ChatActivity.avsc");
    const TOPIC: Topic = Topic::ChatActivity;
}

impl Record for ChatAbuse {
    const NAME: &'static str = "ChatAbuse";
    const SCHEMA: &'static str = include_str!("../avro/ChatAbuse.avsc");
    const TOPIC: Topic = Topic::ChatAbuse;
}

impl Record for OperatorState {
    const NAME: &'static str = "OperatorState";
    const SCHEMA: &'static str = include_str!("../avro/OperatorState.avsc");
    const TOPIC: Topic = Topic::OperatorsState;
}
