//! Messages and members in JSON, the same over WebSocket and HTTP.
#![allow(missing_docs, reason = "the contract's own field names")]

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::event::{Attachment, Membership, MessageState};
use crate::timestamp;

/// A message as clients see it: always its full state.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub struct MessageJson<'a> {
    /// The chat.
    pub chat_id: &'a str,
    /// The event's place in the chat.
    pub seq: i64,
    #[schema(value_type = String, format = Uuid)]
    pub message_id: &'a str,
    /// The place at which the message was sent.
    pub message_seq: i64,
    pub sender_id: &'a str,
    /// Who caused the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_id: Option<&'a str>,
    /// Null once deleted; empty where the message is its files alone.
    #[schema(required)]
    pub content: Option<&'a str>,
    /// Its files; empty once deleted. `GET /v1/media/{media_id}` gives URLs of one.
    pub attachments: &'a [Attachment],
    /// `media_id` of the first of them.
    #[schema(required)]
    pub file: Option<&'a str>,
    /// The message that this one answers.
    #[schema(required, value_type = Option<String>, format = Uuid)]
    pub parent_message_id: Option<&'a str>,
    /// Its `message_seq`.
    #[schema(required)]
    pub parent_seq: Option<i64>,
    /// The application's own, opaque; null once deleted.
    #[schema(required, value_type = Option<Object>)]
    pub app_data: Option<Box<RawValue>>,
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: i64,
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub edited_at: Option<i64>,
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<i64>,
    /// With `development = true`, of an event that came live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
}

/// The real way of a message, shown in development only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Way {
    /// As PostgreSQL writes it: `16/B374D848`.
    pub commit_lsn: String,
    /// Its place in that transaction.
    pub ordinal: i64,
    /// Of `chat.events`.
    pub partition: i32,
    /// In that partition.
    pub offset: i64,
    /// When it was decided.
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: i64,
    /// When the publisher sent it to the nodes.
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub relayed_at: i64,
}

impl<'a> MessageJson<'a> {
    /// A message's state in a chat, as of the event at `seq`.
    pub fn new(chat_id: &'a str, seq: i64, actor_id: Option<&'a str>, state: &'a MessageState) -> Self {
        Self {
            chat_id,
            seq,
            message_id: &state.message_id,
            message_seq: state.message_seq,
            sender_id: &state.sender_id,
            actor_id,
            content: state.content.as_deref(),
            attachments: &state.attachments,
            file: state.attachments.first().map(|first| first.media_id.as_str()),
            parent_message_id: state.parent_message_id.as_deref(),
            parent_seq: state.parent_seq,
            app_data: raw(state.app_data.as_ref()),
            created_at: state.created_at,
            edited_at: state.edited_at,
            deleted_at: state.deleted_at,
            way: None,
        }
    }
}

/// A person's stay in a chat.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Membership)]
pub struct MembershipJson<'a> {
    pub user_id: &'a str,
    #[schema(value_type = MemberRole)]
    pub role: &'a str,
    /// The event with which it began.
    pub joined_seq: i64,
    /// The event with which it ended; null while it lasts.
    #[schema(required)]
    pub left_seq: Option<i64>,
    /// The first event that the person may see.
    pub visible_from_seq: i64,
}

/// What a member may do.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    Owner,
    Admin,
    Member,
}

/// How a deleted message is shown.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeletedShownAs {
    Tombstone,
    Hidden,
}

impl<'a> From<&'a Membership> for MembershipJson<'a> {
    fn from(membership: &'a Membership) -> Self {
        Self {
            user_id: &membership.user_id,
            role: &membership.member_role,
            joined_seq: membership.joined_seq,
            left_seq: membership.left_seq,
            visible_from_seq: membership.visible_from_seq,
        }
    }
}

/// The application's own JSON as it is. The gateway let nothing but JSON in, so a failure here can only be a row that
/// somebody changed by hand.
pub(super) fn raw(app_data: Option<&String>) -> Option<Box<RawValue>> {
    RawValue::from_string(app_data?.clone()).ok()
}

/// An LSN as Postgres writes it, from its bits: `16/B374D848`.
pub fn lsn_text(lsn: i64) -> String {
    let bits = lsn as u64;
    format!("{:X}/{:X}", bits >> 32, bits & 0xFFFF_FFFF)
}
