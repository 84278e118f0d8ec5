//! What devices receive: exact JSON and delivery options for APNs, FCM and Web Push. A contract with the apps.
//!
//! | | APNs | FCM | Web Push |
//! |---|---|---|---|
//! | a message | alert, `aps.alert` | `android.notification` and `data` | JSON for the service worker |
//! | unread messages | `aps.badge` | `notification_count` | `badge` |
//! | a chat's together | `thread-id` | | `chat_id` |
//! | sent twice, shown once | `apns-collapse-id`: the message | `tag`: the message | `tag`: the message |
//! | a device that was away gets | the last one (APNs keeps no more) | a chat's last one: `collapse_key` | a chat's last one: `Topic` |
//! | read elsewhere | quiet push with `read_seq` | `data` only | none: browsers insist that each push shows something |
//!
//! Where a sentence of ours stands in place of the message's words, APNs and FCM carry its key ([`Phrase::key`]), which the
//! app translates; Web Push carries key and text. All are under the services' 4,096 bytes, since all parts are bounded.

mod apns;
mod face;
mod fcm;
#[cfg(test)]
mod tests;
mod web_push;

use schemas::Attachment;

pub use apns::{ApnsPriority, ApnsPush};
pub use fcm::FcmPush;
pub use web_push::{Urgency, WebPushPush};

pub use crate::decide::Cause;
pub use crate::settings::ContentMode;
pub use crate::text::Phrase;

/// How long services keep what they can't deliver yet.
const KEPT_S: u32 = 7 * 86_400;

/// A message to be shown.
#[derive(Debug, Clone, Copy)]
pub struct Alert<'a> {
    /// Why this person is told.
    pub cause: Cause,
    /// Where.
    pub chat_id: &'a str,
    /// What the chat is called; none for 1:1 chats.
    pub chat_name: Option<&'a str>,
    /// Which message.
    pub message_id: &'a str,
    /// Its place in the chat.
    pub seq: i64,
    /// By whom.
    pub sender_id: &'a str,
    /// What they are called.
    pub sender_name: &'a str,
    /// Its words.
    pub text: Option<&'a str>,
    /// Its files.
    pub attachments: &'a [Attachment],
    /// When it was sent, in milliseconds since 1970.
    pub sent_at_ms: i64,
    /// Unread messages of this person, this one included.
    pub badge: u64,
    /// Where a click leads.
    pub link: &'a str,
}

/// A chat that was read on another device.
#[derive(Debug, Clone, Copy)]
pub struct ReadElsewhere<'a> {
    /// Which.
    pub chat_id: &'a str,
    /// Notifications of messages up to here are to be taken away.
    pub read_seq: i64,
    /// Unread messages that are left in all chats.
    pub badge: u64,
}

/// Addresses of messages in the application, from an operator's template.
#[derive(Debug, Clone)]
pub struct Links(String);

/// Why a template of links can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the template of links has no {{chat_id}}")]
pub struct LinksError;

impl Links {
    /// A template with `{chat_id}` and, where wanted, `{message_id}`.
    pub fn new(template: impl Into<String>) -> Result<Self, LinksError> {
        let template = template.into();
        if template.contains("{chat_id}") { Ok(Self(template)) } else { Err(LinksError) }
    }

    /// A message's address. Ids hold only what an address can hold.
    pub fn to(&self, chat_id: &str, message_id: &str) -> String {
        self.0.replace("{chat_id}", chat_id).replace("{message_id}", message_id)
    }
}
