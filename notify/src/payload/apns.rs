//! APNs: the payload, and the header fields that go with it. Source: Apple, "Generating a remote notification" and "Sending
//! notification requests to APNs".

use serde_json::{Value, json};

use super::face::{Body, Face};
use super::{Alert, ContentMode, KEPT_S, ReadElsewhere};

/// When APNs delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApnsPriority {
    /// At once (10).
    Now,
    /// When it suits the device's battery (5).
    Saving,
}

/// A notification for one device.
#[derive(Debug, Clone, PartialEq)]
pub struct ApnsPush {
    /// At most 4,096 bytes.
    pub payload: Value,
    /// `apns-priority`.
    pub priority: ApnsPriority,
    /// `apns-collapse-id`, at most 64 bytes: a later one with the same takes the earlier one's place.
    pub collapse_id: String,
    /// `apns-expiration`, in seconds since 1970.
    pub expires_at_s: i64,
}

impl ApnsPush {
    /// A message.
    pub fn message(alert: &Alert<'_>, mode: ContentMode) -> Self {
        let face = Face::of(alert, mode);
        let mut shown = json!({});
        if let Some(title) = face.title {
            shown["title"] = title.into();
        }
        if let Some(subtitle) = face.subtitle {
            shown["subtitle"] = subtitle.into();
        }
        match face.body {
            Body::Words(words) => shown["body"] = words.into(),
            Body::Phrase(phrase) => shown["loc-key"] = phrase.key().into(),
        }
        let mut ours = json!({
            "type": "message",
            "chat_id": alert.chat_id,
            "message_id": alert.message_id,
            "seq": alert.seq,
            "link": alert.link,
        });
        if mode != ContentMode::Nothing {
            ours["sender_id"] = alert.sender_id.into();
        }
        Self {
            payload: json!({
                "aps": {
                    "alert": shown,
                    "badge": alert.badge,
                    "sound": "default",
                    "thread-id": alert.chat_id,
                    "category": "WALTALKIE_MESSAGE",
                    "mutable-content": 1,
                },
                "waltalkie": ours,
            }),
            priority: ApnsPriority::Now,
            collapse_id: alert.message_id.to_owned(),
            expires_at_s: alert.sent_at_ms / 1_000 + i64::from(KEPT_S),
        }
    }

    /// A chat was read elsewhere: the system sets the badge, and the app, woken, takes its notifications of the chat away.
    pub fn read(read: &ReadElsewhere<'_>, now_ms: i64) -> Self {
        Self {
            payload: json!({
                "aps": { "badge": read.badge, "content-available": 1 },
                "waltalkie": { "type": "read", "chat_id": read.chat_id, "read_seq": read.read_seq },
            }),
            priority: ApnsPriority::Saving,
            // Ids have up to 64 bytes, and this is another thing than the chat's messages.
            collapse_id: super::web_push::short("read", read.chat_id),
            expires_at_s: now_ms / 1_000 + i64::from(KEPT_S),
        }
    }
}
