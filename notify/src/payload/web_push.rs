//! Web Push: JSON for the application's service worker, and the delivery options of RFC 8030.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::face::{Body, Face};
use super::{Alert, Cause, ContentMode, KEPT_S};
use crate::languages::Texts;

/// How much of a device's battery it is worth (RFC 8030, section 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// An ordinary message.
    Normal,
    /// Somebody was named.
    High,
}

impl Urgency {
    /// The header field's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// A notification for one browser.
#[derive(Debug, Clone, PartialEq)]
pub struct WebPushPush {
    /// What the service worker gets, once decrypted.
    pub payload: Value,
    /// `Topic`, 32 characters of base64url: while the browser is away, a later one takes the place of an earlier one.
    pub topic: String,
    /// `Urgency`.
    pub urgency: Urgency,
    /// `TTL`: how long the service keeps it for a browser that is away, in seconds.
    pub ttl_s: u32,
}

impl WebPushPush {
    /// A message, with sentences of a language.
    pub fn message(alert: &Alert<'_>, mode: ContentMode, texts: &Texts) -> Self {
        let face = Face::of(alert, mode);
        let (body, key) = match face.body {
            Body::Words(words) => (words, None),
            Body::Phrase(phrase) => (texts.phrase(phrase).to_owned(), Some(phrase.key())),
        };
        let mut payload = json!({
            "type": "message",
            "title": face.title,
            "subtitle": face.subtitle,
            "body": body,
            "body_loc_key": key,
            "lang": texts.language().code(),
            "tag": alert.message_id,
            "chat_id": alert.chat_id,
            "message_id": alert.message_id,
            "seq": alert.seq,
            "badge": alert.badge,
            "link": alert.link,
            "timestamp": alert.sent_at_ms,
        });
        if mode != ContentMode::Nothing {
            payload["sender_id"] = alert.sender_id.into();
        }
        Self {
            payload,
            topic: short("chat", alert.chat_id),
            urgency: if alert.cause == Cause::Message { Urgency::Normal } else { Urgency::High },
            ttl_s: KEPT_S,
        }
    }
}

/// 32 characters of base64url that stand for an id (RFC 8030, section 5.4, allows no more).
pub(super) fn short(kind: &str, id: &str) -> String {
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, format!("{kind}/{id}").as_bytes()).as_ref()[..24])
}
