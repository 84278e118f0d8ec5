//! The shapes of requests and answers, for the OpenAPI document. Requests are read field by field (`Fields`), so that a
//! refusal names its field, and messages come as JSON from where frames are made: a test holds both against what is
//! written here.
#![allow(dead_code, reason = "read by the document's generator")]
#![allow(clippy::struct_field_names, reason = "the contract's own field names")]
#![allow(missing_docs, reason = "the contract's own field names")]

use std::collections::HashMap;

use schemas::Attachment;
pub(crate) use schemas::wire::json::{DeletedShownAs, MemberRole};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::chat_list::ChatSummary;
use crate::users::PublicUser;

/// The application's own JSON object, opaque, at most 4 KiB.
#[derive(Deserialize, Serialize)]
pub(crate) struct AppData(HashMap<String, Value>);

impl PartialSchema for AppData {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .description(Some("The application's own, opaque, at most 4 KiB."))
            .into()
    }
}

impl ToSchema for AppData {}

/// A chat to make.
#[derive(Deserialize, ToSchema)]
pub(crate) struct NewChat {
    /// 1 to 64 of `A-Z a-z 0-9 . _ : -`; a UUIDv7 is made if absent. Left out for 1:1 chats.
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9._:-]+$")]
    chat_id: Option<String>,
    /// True if absent. A 1:1 chat has exactly one other member.
    is_group: Option<bool>,
    /// The other members.
    #[schema(max_items = 10000)]
    member_ids: Option<Vec<String>>,
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Begins with `https://`.
    #[schema(max_length = 2000)]
    avatar_url: Option<String>,
    app_data: Option<AppData>,
    history_for_new_members: Option<bool>,
    deleted_shown_as: Option<DeletedShownAs>,
}

/// A member of a chat as a service wants it.
#[derive(Deserialize, ToSchema)]
pub(crate) struct WantedMember {
    user_id: String,
    /// If absent, `member` for who is new and as it was for who is in.
    role: Option<MemberRole>,
}

/// A chat as a service wants it; settings that are absent or null stay as they are.
#[derive(Deserialize, ToSchema)]
pub(crate) struct WantedChat {
    /// Of a new chat; true if absent.
    is_group: Option<bool>,
    /// People who shall be in it. A new group has an owner among them, a 1:1 chat exactly two.
    #[schema(max_items = 10000)]
    members: Option<Vec<WantedMember>>,
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Begins with `https://`.
    #[schema(max_length = 2000)]
    avatar_url: Option<String>,
    app_data: Option<AppData>,
    history_for_new_members: Option<bool>,
    deleted_shown_as: Option<DeletedShownAs>,
}

/// A chat as a service sees it: without what belongs to a member.
#[derive(Serialize, ToSchema)]
pub(crate) struct ServiceChat {
    chat_id: String,
    #[schema(required)]
    name: Option<String>,
    is_group: bool,
    #[schema(required)]
    avatar_url: Option<String>,
    #[schema(required)]
    app_data: Option<AppData>,
    deleted_shown_as: DeletedShownAs,
    history_for_new_members: bool,
    /// Counted to 1,000.
    member_count: i64,
    head_seq: i64,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    last_activity_at: String,
}

/// A chat: as its member sees it, or as a service does in its own name.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum ShownChat {
    Chat(Box<ChatSummary>),
    ServiceChat(ServiceChat),
}

/// What to change of a chat; what is absent or null stays as it is.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ChatChanges {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Begins with `https://`.
    #[schema(max_length = 2000)]
    avatar_url: Option<String>,
    app_data: Option<AppData>,
    history_for_new_members: Option<bool>,
    deleted_shown_as: Option<DeletedShownAs>,
}

/// A page of chats, by latest activity.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChatPage {
    chats: Vec<ChatSummary>,
    /// `cursor` of the next page; null on the last.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// A member of a chat.
#[derive(Serialize, ToSchema)]
pub(crate) struct Member {
    user_id: String,
    role: MemberRole,
    joined_seq: i64,
    #[schema(required)]
    left_seq: Option<i64>,
    visible_from_seq: i64,
    #[schema(required)]
    name: Option<String>,
    #[schema(required)]
    avatar_url: Option<String>,
    delivered_seq: i64,
    read_seq: i64,
}

/// A page of members, by id.
#[derive(Serialize, ToSchema)]
pub(crate) struct MemberPage {
    members: Vec<Member>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// People to add.
#[derive(Deserialize, ToSchema)]
pub(crate) struct NewMembers {
    #[schema(min_items = 1, max_items = 10000)]
    user_ids: Vec<String>,
    role: Option<MemberRole>,
}

/// The events of an addition: one for each 500 people.
#[derive(Serialize, ToSchema)]
pub(crate) struct MembersAdded {
    chat_id: String,
    seqs: Vec<i64>,
}

/// A role to give.
#[derive(Deserialize, ToSchema)]
pub(crate) struct RoleChange {
    role: MemberRole,
}

/// The event of a change; `seq` is null if there was nothing to change.
#[derive(Serialize, ToSchema)]
pub(crate) struct Changed {
    chat_id: String,
    #[schema(required)]
    seq: Option<i64>,
}

/// A message to send: with a text, with files, or both.
#[derive(Deserialize, ToSchema)]
pub(crate) struct NewMessage {
    /// At most `limits.content_bytes` bytes of UTF-8; may be absent or empty where there are files.
    content: Option<String>,
    /// Each a `media_id` of a completed upload of one's own for this chat.
    #[schema(max_items = 10)]
    attachments: Option<Vec<String>>,
    /// The same for one file.
    #[schema(max_length = 64)]
    file: Option<String>,
    /// The client's own; a v7 is made if absent. The same one again is the same message.
    message_id: Option<Uuid>,
    parent_message_id: Option<Uuid>,
    app_data: Option<AppData>,
}

/// A message's new text.
#[derive(Deserialize, ToSchema)]
pub(crate) struct MessageChange {
    #[schema(min_length = 1)]
    content: String,
}

/// A message as it is now.
#[derive(Serialize, ToSchema)]
pub(crate) struct Message {
    chat_id: String,
    /// Its place in the chat.
    seq: i64,
    message_id: Uuid,
    message_seq: i64,
    sender_id: String,
    /// Null once deleted.
    #[schema(required)]
    content: Option<String>,
    attachments: Vec<Attachment>,
    #[schema(required)]
    file: Option<String>,
    #[schema(required)]
    parent_message_id: Option<Uuid>,
    #[schema(required)]
    parent_seq: Option<i64>,
    #[schema(required)]
    app_data: Option<AppData>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(required, format = DateTime)]
    edited_at: Option<String>,
    #[schema(required, format = DateTime)]
    deleted_at: Option<String>,
}

/// The place of a message that was sent before, for a sender who can't see the chat any more.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessagePlace {
    chat_id: String,
    message_id: Uuid,
    seq: i64,
}

/// What a send is answered with.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Sent {
    Message(Message),
    Place(MessagePlace),
}

/// A send that is in Kafka and not decided yet.
#[derive(Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// `accepted`
    state: String,
    chat_id: String,
    message_id: Uuid,
}

/// The event of a deletion; `seq` is null if the message was deleted already.
#[derive(Serialize, ToSchema)]
pub(crate) struct Deleted {
    chat_id: String,
    message_id: Uuid,
    #[schema(required)]
    seq: Option<i64>,
}

/// A page of messages, oldest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessagePage {
    messages: Vec<Message>,
    /// The chat's head before the page was read: what is newer comes as events.
    as_of_seq: i64,
    has_more_before: bool,
    has_more_after: bool,
}

/// How far one has read.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ReadMark {
    /// Up to 2^53 - 1.
    #[schema(minimum = 0)]
    seq: i64,
}

/// A mark on its way.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReadAccepted {
    chat_id: String,
    read_seq: i64,
    /// `accepted`
    state: String,
}

/// Oneself.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    pub(super) user_id: String,
    #[schema(required)]
    pub(super) name: Option<String>,
    #[schema(required)]
    pub(super) avatar_url: Option<String>,
    #[schema(required)]
    pub(super) email: Option<String>,
}

/// A person's whole profile: what is absent or null is empty afterwards.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Profile {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// A mail address, to which messages may be told of.
    #[schema(max_length = 254)]
    email: Option<String>,
    /// Begins with `https://`.
    #[schema(max_length = 2000)]
    avatar_url: Option<String>,
}

/// What became of a person.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserState {
    user_id: String,
    state: UserStateName,
}

/// `removing`: memberships are still being ended; `revoked`: only tokens were.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UserStateName {
    Removed,
    Removing,
    Revoked,
}

/// People.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserList {
    users: Vec<PublicUser>,
}

/// A message that reached no device yet.
#[derive(Serialize, ToSchema)]
pub(crate) struct InboxEntry {
    chat_id: String,
    message_id: Uuid,
    seq: i64,
    #[schema(format = DateTime)]
    created_at: String,
}

/// Messages that reached no device yet, oldest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Inbox {
    messages: Vec<InboxEntry>,
}

/// A person of a demonstration.
#[derive(Serialize, ToSchema)]
pub(crate) struct DevUser {
    user_id: String,
    #[schema(required)]
    name: Option<String>,
}

/// People of a demonstration.
#[derive(Serialize, ToSchema)]
pub(crate) struct DevUserList {
    users: Vec<DevUser>,
}

/// Whom a development token is for.
#[derive(Deserialize, ToSchema)]
pub(crate) struct DevTokenRequest {
    user_id: String,
}

/// A development token.
#[derive(Serialize, ToSchema)]
pub(crate) struct DevToken {
    token: String,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// RFC 9457 problem details.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProblemDetails {
    /// A page of this server: cause, remedy, try again or not.
    r#type: String,
    title: String,
    status: u16,
    detail: String,
    /// Stable name of what is wrong.
    code: String,
    /// Whether the same request can succeed later.
    temporary: bool,
    /// Field of the request that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}
