//! `ChatEvent`, the history's record. Field docs are in `avro/ChatEvent.avsc`, the one place that consumers read.
#![allow(missing_docs, reason = "the schema documents every field")]

mod datum;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{record::Record, topics::Topic};

/// Names of event types. Readers skip those that they don't know.
pub mod event_type {
    /// A message was sent.
    pub const MESSAGE_PERSISTED: &str = "message.persisted";
    /// A message got another body.
    pub const MESSAGE_EDITED: &str = "message.edited";
    /// A message lost its body.
    pub const MESSAGE_DELETED: &str = "message.deleted";
    /// A chat was made, with its first members.
    pub const CHAT_CREATED: &str = "chat.created";
    /// Settings of a chat changed.
    pub const CHAT_UPDATED: &str = "chat.updated";
    /// People joined.
    pub const MEMBER_JOINED: &str = "member.joined";
    /// People left or were removed.
    pub const MEMBER_LEFT: &str = "member.left";
    /// Roles changed.
    pub const MEMBER_UPDATED: &str = "member.updated";
    /// A `seq` whose message is not to be had.
    pub const WITHHELD: &str = "withheld";

    /// Whether this version knows a type.
    pub fn is_known(event_type: &str) -> bool {
        const KNOWN: [&str; 9] = [
            MESSAGE_PERSISTED,
            MESSAGE_EDITED,
            MESSAGE_DELETED,
            CHAT_CREATED,
            CHAT_UPDATED,
            MEMBER_JOINED,
            MEMBER_LEFT,
            MEMBER_UPDATED,
            WITHHELD,
        ];
        KNOWN.contains(&event_type)
    }
}

/// One entry of a chat's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatEvent {
    pub event_id: String,
    pub event_type: String,
    pub chat_id: String,
    pub seq: i64,
    pub actor_id: String,
    pub occurred_at: i64,
    pub origin: Origin,
    #[serde(default)]
    pub message: Option<MessageState>,
    #[serde(default)]
    pub memberships: Vec<Membership>,
    #[serde(default)]
    pub chat: Option<ChatState>,
}

impl ChatEvent {
    /// The identity of the event at a place in a chat.
    pub fn id_of(chat_id: &str, seq: i64) -> String {
        format!("{chat_id}/{seq}")
    }

    /// What stands at the place of a message that is not to be had.
    pub fn withheld(chat_id: &str, seq: i64, actor_id: String, occurred_at: i64, origin: Origin) -> Self {
        Self {
            event_id: Self::id_of(chat_id, seq),
            event_type: event_type::WITHHELD.to_owned(),
            chat_id: chat_id.to_owned(),
            seq,
            actor_id,
            occurred_at,
            origin,
            message: None,
            memberships: Vec::new(),
            chat: None,
        }
    }
}

/// Position in the source of truth's write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    pub shard: i32,
    pub commit_lsn: i64,
    pub ordinal: i64,
}

/// Full state of a message after an event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MessageState {
    pub message_id: String,
    pub message_seq: i64,
    pub sender_id: String,
    #[serde(default)]
    pub content: Option<String>,
    #[serde(default)]
    pub parent_message_id: Option<String>,
    #[serde(default)]
    pub parent_seq: Option<i64>,
    pub created_at: i64,
    #[serde(default)]
    pub edited_at: Option<i64>,
    #[serde(default)]
    pub deleted_at: Option<i64>,
    #[serde(default)]
    pub app_data: Option<String>,
    #[serde(default)]
    pub attachments: Vec<Attachment>,
}

/// A file that belongs to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    pub media_id: String,
    pub kind: String,
    pub file_name: String,
    pub content_type: String,
    pub size_bytes: i64,
    #[serde(default)]
    #[schema(required)]
    pub width_px: Option<i64>,
    #[serde(default)]
    #[schema(required)]
    pub height_px: Option<i64>,
    #[serde(default)]
    #[schema(required)]
    pub duration_ms: Option<i64>,
    #[serde(default)]
    #[schema(required)]
    pub thumbhash: Option<String>,
}

/// One person's stay in a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub user_id: String,
    pub member_role: String,
    pub joined_seq: i64,
    #[serde(default)]
    pub left_seq: Option<i64>,
    pub visible_from_seq: i64,
}

impl Membership {
    /// Whether this stay shows the event at `seq` to its member.
    pub fn shows(&self, seq: i64) -> bool {
        seq >= self.visible_from_seq && self.left_seq.is_none_or(|left| seq <= left)
    }
}

/// Full state of a chat after an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatState {
    #[serde(default)]
    pub chat_name: Option<String>,
    pub is_group: bool,
    pub created_at: i64,
    #[serde(default)]
    pub app_data: Option<String>,
    #[serde(default)]
    pub avatar_url: Option<String>,
    pub deleted_shown_as: String,
    pub history_for_new_members: bool,
}

impl Record for ChatEvent {
    const NAME: &'static str = "ChatEvent";
    const SCHEMA: &'static str = include_str!("../avro/ChatEvent.avsc");
    const TOPIC: Topic = Topic::ChatEvents;

    fn of_datum(datum: &[u8]) -> Option<Self> {
        datum::event(datum)
    }
}
