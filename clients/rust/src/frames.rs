//! Frames from the server, read as cheaply as a thousand clients of one process need: borrowed, and no deeper than asked.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// A frame whose payload isn't looked into yet.
#[derive(Debug, Deserialize)]
pub(crate) struct Envelope<'a> {
    #[serde(borrow)]
    pub(crate) event: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) payload: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// The payload as `T`; `None` where it has another shape.
    pub(crate) fn payload<T: Deserialize<'a>>(&self) -> Option<T> {
        serde_json::from_str(self.payload?.get()).ok()
    }

    /// The `id`, where it is a UUID as this client gives them to its commands.
    pub(crate) fn command_id(&self) -> Option<Uuid> {
        let text = self.id?.get();
        Uuid::try_parse(text.strip_prefix('"')?.strip_suffix('"')?).ok()
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Hello {
    pub(crate) session_id: String,
    #[serde(default)]
    pub(crate) heartbeat_ms: Option<u64>,
    #[serde(default)]
    pub(crate) epoch: Option<String>,
    #[serde(default)]
    pub(crate) limits: HelloLimits,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct HelloLimits {
    #[serde(default)]
    pub(crate) frame_bytes: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Chats<'a> {
    #[serde(borrow)]
    pub(crate) chats: Vec<ChatHead<'a>>,
    pub(crate) complete: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ChatHead<'a> {
    #[serde(borrow)]
    pub(crate) chat_id: Cow<'a, str>,
    pub(crate) head_seq: i64,
    #[serde(default)]
    pub(crate) delivered_seq: i64,
    #[serde(default)]
    pub(crate) read_seq: i64,
}

/// What every event of a chat has, and of a message what its reader needs.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatEvent<'a> {
    #[serde(borrow)]
    pub(crate) chat_id: Cow<'a, str>,
    pub(crate) seq: i64,
    #[serde(default)]
    pub(crate) message_id: Option<Uuid>,
    #[serde(default)]
    pub(crate) message_seq: Option<i64>,
    #[serde(borrow, default)]
    pub(crate) sender_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) actor_id: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(crate) content: Option<String>,
    #[serde(default)]
    pub(crate) attachments: Vec<Attachment>,
    #[serde(default)]
    pub(crate) memberships: Vec<Member>,
}

/// A file of a message: enough to draw something of its size at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// By which [`Api::file`](crate::api::Api::file) finds it.
    pub media_id: String,
    /// `image`, `video`, `audio` or `file`; take others for `file`.
    pub kind: String,
    /// Its name, for people.
    pub file_name: String,
    /// By its bytes.
    pub content_type: String,
    /// All of its bytes.
    pub size_bytes: u64,
    /// Of pictures and videos.
    pub width_px: Option<u32>,
    /// Of pictures and videos.
    pub height_px: Option<u32>,
    /// Of audio and video.
    pub duration_ms: Option<u64>,
    /// A blurred one of about 25 bytes, in Base64.
    pub thumbhash: Option<String>,
}

/// A membership, as `member_…` and `chat_created` tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub user_id: String,
    /// `owner` or `member`.
    pub role: String,
    /// `seq` at which the stay began.
    pub joined_seq: i64,
    /// `seq` at which it ended.
    pub left_seq: Option<i64>,
    /// First `seq` that the member may see.
    pub visible_from_seq: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Skipped<'a> {
    #[serde(borrow)]
    pub(crate) chat_id: Cow<'a, str>,
    pub(crate) from_seq: i64,
    pub(crate) to_seq: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Resumed<'a> {
    #[serde(borrow)]
    pub(crate) chat_id: Cow<'a, str>,
    pub(crate) from_seq: i64,
    pub(crate) to_seq: i64,
    pub(crate) complete: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Ack<'a> {
    #[serde(borrow)]
    pub(crate) state: Cow<'a, str>,
    #[serde(default)]
    pub(crate) seq: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Refusal<'a> {
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) temporary: bool,
    #[serde(default)]
    pub(crate) retry_after_ms: Option<u64>,
    #[serde(default)]
    pub(crate) field: Option<String>,
    #[serde(borrow, default)]
    pub(crate) chat_id: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Receipt<'a> {
    #[serde(borrow)]
    pub(crate) chat_id: Cow<'a, str>,
    #[serde(default)]
    pub(crate) users: HashMap<String, Marked>,
}

/// How far a person has received and read a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Marked {
    /// Everything up to here has reached a screen of theirs.
    pub delivered_seq: i64,
    /// Everything up to here was read.
    pub read_seq: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Reconnect {
    #[serde(default)]
    pub(crate) after_ms: u64,
}
