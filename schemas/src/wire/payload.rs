//! Payloads of the server's frames, as they are written to sockets and as the AsyncAPI document describes them. Messages,
//! memberships and settings, which HTTP has too, are in [`super::json`].
//!
//! A field that is always there has `required` in its schema, also if it may be null.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

use super::Code;
use super::json::{DeletedShownAs, MembershipJson};
use crate::timestamp;

/// The greeting.
#[derive(Debug, Serialize, ToSchema)]
pub struct Hello<'a> {
    /// This connection, new with every connect.
    pub session_id: &'a str,
    /// Whom the token names.
    pub user_id: &'a str,
    /// How often to send a `heartbeat`.
    pub heartbeat_ms: u64,
    /// Another one than before says that history was restored: forget everything that is kept.
    pub epoch: &'a str,
    /// What the client must keep within.
    pub limits: HelloLimits,
    /// Whether events have `way`.
    pub development: bool,
}

/// What a client must keep within.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct HelloLimits {
    /// Longest `content`, in bytes of UTF-8.
    pub content_bytes: usize,
    /// Longest frame, in bytes.
    pub frame_bytes: usize,
    /// Most files of a message; 0 where there is no store for them.
    pub attachments: usize,
}

/// A page of the person's chats, by latest activity.
#[derive(Debug, Serialize, ToSchema)]
pub struct Chats<'a> {
    /// At most 100.
    pub chats: &'a [ChatEntry],
    /// Whether this is the last page.
    pub complete: bool,
}

/// Where a chat stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChatEntry {
    /// The chat.
    pub chat_id: String,
    /// Its last event.
    pub head_seq: i64,
    /// Up to here everything has reached the person.
    pub delivered_seq: i64,
    /// Up to here the person has read everything.
    pub read_seq: i64,
    /// Ranges that the person may see, each `[from_seq, to_seq]`; `to_seq` is null where it goes on.
    #[schema(schema_with = visible)]
    pub visible: Vec<(i64, Option<i64>)>,
}

fn visible() -> RefOr<Schema> {
    let types = SchemaType::from_iter([Type::Integer, Type::Null]);
    let range =
        ArrayBuilder::new().items(ObjectBuilder::new().schema_type(types)).min_items(Some(2)).max_items(Some(2));
    let about = "Ranges that the person may see, each `[from_seq, to_seq]`; `to_seq` is null where it goes on.";
    ArrayBuilder::new().items(range).description(Some(about)).into()
}

/// A request was taken.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ack<'a> {
    /// The chat of a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_id: Option<&'a str>,
    /// The message of a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<&'a str>,
    /// How far it has come.
    #[schema(value_type = AckState)]
    pub state: &'a str,
    /// The event of a command that is persisted; absent if there was nothing to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
}

/// `accepted`: it will be decided, whatever dies now. `persisted`: it is in the chat.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, missing_docs, reason = "read by the document's generator")]
pub enum AckState {
    Accepted,
    Persisted,
}

/// A request was refused.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct Refusal<'a> {
    /// Stable name of what is wrong; each has a page at `/docs/errors/{code}`.
    pub code: Code,
    /// The same for people, with the way to mend it.
    pub message: &'a str,
    /// Field of the request that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Whether the same request can succeed later.
    pub temporary: bool,
    /// The chat that the request was about, if it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_id: Option<&'a str>,
    /// The message, likewise, as the client wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<&'a str>,
}

/// People came, went, or may do something else now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MembersChanged)]
pub struct MembersPayload<'a> {
    /// The chat.
    pub chat_id: &'a str,
    /// The event's place in the chat.
    pub seq: i64,
    /// Who caused it.
    pub actor_id: &'a str,
    /// When, by the server's clock.
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: i64,
    /// The stays that it is about, as they are now; at most 500.
    pub memberships: Vec<MembershipJson<'a>>,
}

/// A chat was made, or has other settings now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatChanged)]
pub struct ChatPayload<'a> {
    /// The chat.
    pub chat_id: &'a str,
    /// The event's place in the chat.
    pub seq: i64,
    /// Who caused it.
    pub actor_id: &'a str,
    /// When, by the server's clock.
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: i64,
    /// Its name.
    #[schema(required)]
    pub name: Option<&'a str>,
    /// False for a 1:1 chat.
    pub is_group: bool,
    /// When the chat was made.
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: i64,
    /// Whether who joins sees what was before.
    pub history_for_new_members: bool,
    /// How a deleted message is shown.
    #[schema(value_type = DeletedShownAs)]
    pub deleted_shown_as: &'a str,
    /// Its picture.
    #[schema(required)]
    pub avatar_url: Option<&'a str>,
    /// The application's own, opaque.
    #[schema(required, value_type = Option<Object>)]
    pub app_data: Option<Box<RawValue>>,
    /// The first members of a new chat; empty where settings changed.
    pub memberships: Vec<MembershipJson<'a>>,
}

/// These exist and aren't shown to the person: the cursor moves past them.
#[derive(Debug, Serialize, ToSchema)]
pub struct Skipped<'a> {
    /// The chat.
    pub chat_id: &'a str,
    /// The first.
    pub from_seq: i64,
    /// The last.
    pub to_seq: i64,
}

/// The end of what was missing in a chat.
#[derive(Debug, Serialize, ToSchema)]
pub struct Resumed<'a> {
    /// The chat.
    pub chat_id: &'a str,
    /// The cursor, or the chat's head if that is below it.
    pub from_seq: i64,
    /// What is up to here has been sent.
    pub to_seq: i64,
    /// If false there is more: resume again from `to_seq`.
    pub complete: bool,
}

/// Heads of the chats that moved since the last `heads`, by `chat_id`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(value_type = HashMap<String, i64>)]
pub struct Heads<'a>(pub BTreeMap<&'a str, i64>);

/// Marks that moved.
#[derive(Debug, Serialize, ToSchema)]
pub struct Receipt<'a> {
    /// The chat.
    pub chat_id: &'a str,
    /// How far each person has come, by `user_id`; only of those who moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<&'a HashMap<String, Marks>>,
    /// Instead, when more people moved at a time than are told of by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<&'a MarkCounts>,
}

/// How many people have come to each `seq` since the last receipt; of many, the highest.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct MarkCounts {
    /// People by what has reached a device of theirs.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub delivered: BTreeMap<i64, u32>,
    /// People by what they have read.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub read: BTreeMap<i64, u32>,
}

/// How far a person has come in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Marks {
    /// Up to here everything has reached a device of theirs.
    pub delivered_seq: i64,
    /// Up to here they have read everything.
    pub read_seq: i64,
}

/// Somebody types just now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Typing<'a> {
    /// The chat.
    pub chat_id: &'a str,
    /// Who.
    pub user_id: &'a str,
}

/// People of a chat came or went.
#[derive(Debug, Serialize, ToSchema)]
pub struct Presence<'a> {
    /// The chat.
    pub chat_id: &'a str,
    /// Whether they are here, by `user_id`; only of those who changed.
    pub users: BTreeMap<&'a str, PersonState>,
}

/// Whether somebody is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct PersonState {
    /// Here or not.
    pub state: PresenceState,
    /// When somebody who is offline was last seen, if that is known.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub last_seen_at: Option<i64>,
}

/// Whether a person has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the contract's own names")]
pub enum PresenceState {
    Online,
    Offline,
}

/// The token ends soon: send another with `authenticate`.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenExpiring {
    /// When it ends.
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: i64,
}

/// The node stops: it closes with 1001 soon.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reconnect {
    /// How long to wait before connecting again.
    pub after_ms: u64,
}
