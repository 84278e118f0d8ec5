//! `Notification`, what a person is told of outside the application. Field docs are in `avro/Notification.avsc`.
#![allow(missing_docs, reason = "the schema documents every field")]

use serde::{Deserialize, Serialize};

use crate::{record::Record, topics::Topic};

/// Names of notification types. Readers skip those that they don't know.
pub mod notification_type {
    /// A message to one person.
    pub const MESSAGE: &str = "message";
    /// A message to all members of a large chat.
    pub const GROUP: &str = "group";
    /// A chat was read: what devices show of it is to go.
    pub const READ: &str = "read";
    /// A mail of what is unread.
    pub const DIGEST: &str = "digest";
}

/// One thing that a person is told of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Notification {
    pub notification_id: String,
    pub notification_type: String,
    #[serde(default)]
    pub user_id: Option<String>,
    #[serde(default)]
    pub chat_id: Option<String>,
    #[serde(default)]
    pub seq: Option<i64>,
    #[serde(default)]
    pub message_id: Option<String>,
    #[serde(default)]
    pub sender_id: Option<String>,
    #[serde(default)]
    pub told_because: Option<String>,
    #[serde(default)]
    pub device_id: Option<String>,
    #[serde(default)]
    pub digest_id: Option<String>,
    #[serde(default)]
    pub digest_chats: Vec<DigestChat>,
    pub occurred_at: i64,
    pub decided_at: i64,
}

/// What of one chat is in a digest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DigestChat {
    pub chat_id: String,
    #[serde(default)]
    pub seqs: Vec<i64>,
    pub unread_count: i64,
}

impl Notification {
    /// The record's key: the person; of a large chat's, the chat.
    pub fn key(&self) -> &str {
        self.user_id.as_deref().or(self.chat_id.as_deref()).unwrap_or_default()
    }
}

impl Record for Notification {
    const NAME: &'static str = "Notification";
    const SCHEMA: &'static str = include_str!("../avro/Notification.avsc");
    const TOPIC: Topic = Topic::ChatNotifications;
}
