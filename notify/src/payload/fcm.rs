//! FCM HTTP v1: the `Message` resource without its token. Source: Firebase, "REST Resource: projects.messages".

use serde_json::{Value, json};

use super::face::{Body, Face};
use super::{Alert, ContentMode, KEPT_S, ReadElsewhere};

/// A notification for one device.
#[derive(Debug, Clone, PartialEq)]
pub struct FcmPush {
    /// The `message` object, to which the device's `token` is added.
    pub message: Value,
}

impl FcmPush {
    /// A message. Values of `data` are texts, as FCM wants them.
    pub fn message(alert: &Alert<'_>, mode: ContentMode) -> Self {
        let face = Face::of(alert, mode);
        let mut data = json!({
            "type": "message",
            "chat_id": alert.chat_id,
            "message_id": alert.message_id,
            "seq": alert.seq.to_string(),
            "badge": alert.badge.to_string(),
            "link": alert.link,
        });
        let mut shown = json!({
            "channel_id": "messages",
            "tag": alert.message_id,
            "notification_count": alert.badge,
        });
        if mode != ContentMode::Nothing {
            data["sender_id"] = alert.sender_id.into();
        }
        if let Some(title) = face.title {
            shown["title"] = title.into();
        }
        // Android shows one title: in a group the sender stands before the words.
        match (face.subtitle, face.body) {
            (Some(sender), Body::Words(words)) => shown["body"] = format!("{sender}: {words}").into(),
            (None, Body::Words(words)) => shown["body"] = words.into(),
            (sender, Body::Phrase(phrase)) => {
                shown["body_loc_key"] = phrase.key().into();
                // For translations such as "%1$s: photo".
                shown["body_loc_args"] = sender.into_iter().collect();
            }
        }
        Self {
            message: json!({
                "data": data,
                "android": {
                    "priority": "HIGH",
                    "ttl": format!("{KEPT_S}s"),
                    "collapse_key": alert.chat_id,
                    "notification": shown,
                },
            }),
        }
    }

    /// A chat was read elsewhere: nothing to show, the app takes its notifications away.
    pub fn read(read: &ReadElsewhere<'_>) -> Self {
        Self {
            message: json!({
                "data": {
                    "type": "read",
                    "chat_id": read.chat_id,
                    "read_seq": read.read_seq.to_string(),
                    "badge": read.badge.to_string(),
                },
                "android": { "priority": "NORMAL", "ttl": format!("{KEPT_S}s"), "collapse_key": format!("read/{}", read.chat_id) },
            }),
        }
    }
}
