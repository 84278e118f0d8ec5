//! Messages, members and chats in JSON, the same over WebSocket and HTTP.
#![allow(missing_docs, reason = "the contract's own field names")]

use serde::Serialize;
use serde_json::value::RawValue;

use crate::event::{Attachment, ChatState, Membership, MessageState};
use crate::timestamp;

/// A message as clients see it.
#[derive(Debug, Serialize)]
pub struct MessageJson<'a> {
    pub chat_id: &'a str,
    pub seq: i64,
    pub message_id: &'a str,
    pub message_seq: i64,
    pub sender_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_id: Option<&'a str>,
    pub content: Option<&'a str>,
    pub attachments: &'a [Attachment],
    pub file: Option<&'a str>,
    pub parent_message_id: Option<&'a str>,
    pub parent_seq: Option<i64>,
    pub app_data: Option<Box<RawValue>>,
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: i64,
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub edited_at: Option<i64>,
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub deleted_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
}

/// The real way of a message, shown in development only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Way {
    pub commit_lsn: String,
    pub ordinal: i64,
    pub partition: i32,
    pub offset: i64,
    #[serde(serialize_with = "timestamp::serialize")]
    pub occurred_at: i64,
    #[serde(serialize_with = "timestamp::serialize")]
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
            file: None,
            parent_message_id: state.parent_message_id.as_deref(),
            parent_seq: state.parent_seq,
            // The gateway let nothing but JSON in, so a failure here can only be a row that somebody changed by hand.
            app_data: state.app_data.clone().and_then(|text| RawValue::from_string(text).ok()),
            created_at: state.created_at,
            edited_at: state.edited_at,
            deleted_at: state.deleted_at,
            way: None,
        }
    }
}

/// A membership as clients see it.
#[derive(Debug, Serialize)]
pub struct MembershipJson<'a> {
    pub user_id: &'a str,
    pub role: &'a str,
    pub joined_seq: i64,
    pub left_seq: Option<i64>,
    pub visible_from_seq: i64,
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

/// A chat's settings as clients see them.
#[derive(Debug, Serialize)]
pub struct ChatJson<'a> {
    pub name: Option<&'a str>,
    pub is_group: bool,
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: i64,
    pub history_for_new_members: bool,
    pub deleted_shown_as: &'a str,
    pub avatar_url: Option<&'a str>,
    pub app_data: Option<Box<RawValue>>,
}

impl<'a> From<&'a ChatState> for ChatJson<'a> {
    fn from(chat: &'a ChatState) -> Self {
        Self {
            name: chat.chat_name.as_deref(),
            is_group: chat.is_group,
            created_at: chat.created_at,
            history_for_new_members: chat.history_for_new_members,
            deleted_shown_as: &chat.deleted_shown_as,
            avatar_url: chat.avatar_url.as_deref(),
            app_data: chat.app_data.clone().and_then(|text| RawValue::from_string(text).ok()),
        }
    }
}

/// An LSN as Postgres writes it, from its bits: `16/B374D848`.
pub fn lsn_text(lsn: i64) -> String {
    let bits = lsn as u64;
    format!("{:X}/{:X}", bits >> 32, bits & 0xFFFF_FFFF)
}
