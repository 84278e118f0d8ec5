//! `Mark` (as clients send them) and `Cursor` (merged by maximum). Field docs are in `avro/`.
#![allow(missing_docs, reason = "the schema documents every field")]

use serde::{Deserialize, Serialize};

use crate::{record::Record, topics::Topic};

/// A receipt as a client sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub chat_id: String,
    pub user_id: String,
    #[serde(default)]
    pub delivered_seq: Option<i64>,
    #[serde(default)]
    pub read_seq: Option<i64>,
    pub marked_at: i64,
}

/// How far one member has come in one chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub chat_id: String,
    pub user_id: String,
    pub delivered_seq: i64,
    pub read_seq: i64,
    pub updated_at: i64,
}

impl Cursor {
    /// Key of the compacted record.
    pub fn key(&self) -> String {
        format!("{}/{}", self.chat_id, self.user_id)
    }
}

impl Record for Mark {
    const NAME: &'static str = "Mark";
    const SCHEMA: &'static str = include_str!("../avro/Mark.avsc");
    const TOPIC: Topic = Topic::ChatMarks;
}

impl Record for Cursor {
    const NAME: &'static str = "Cursor";
    const SCHEMA: &'static str = include_str!("../avro/Cursor.avsc");
    const TOPIC: Topic = Topic::ChatCursors;
}
