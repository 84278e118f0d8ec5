//! What of an event matters to those who may be told of it.

use schemas::{ChatEvent, event_type};

use super::{Mentions, Reason};

/// A message that people may be told of. Read once an event, asked once a person.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// Where.
    pub chat_id: &'a str,
    /// The message's place in its chat.
    pub seq: i64,
    /// Which.
    pub message_id: &'a str,
    /// By whom.
    pub sender_id: &'a str,
    /// When, in milliseconds since 1970, by the server's clock.
    pub sent_at_ms: i64,
    /// Who is named in it.
    pub mentions: Mentions<'a>,
    /// Whether its `@all` counts: its sender is an admin or owner of the chat.
    pub may_name_all: bool,
}

impl<'a> Message<'a> {
    /// The message of an event, with its sender's role at that time, as in `chat_member`.
    ///
    /// Only a new message tells anybody: not an edit, also where it names somebody new, and not what happens to members
    /// or settings. The reason says why there is nothing to tell.
    pub fn of(event: &'a ChatEvent, sender_role: Option<&str>) -> Result<Self, Reason> {
        match event.event_type.as_str() {
            event_type::MESSAGE_PERSISTED => {}
            event_type::WITHHELD => return Err(Reason::Withheld),
            _ => return Err(Reason::NotAMessage),
        }
        let message = event.message.as_ref().ok_or(Reason::Withheld)?;
        if message.deleted_at.is_some() {
            return Err(Reason::Deleted);
        }
        Ok(Self {
            chat_id: &event.chat_id,
            seq: event.seq,
            message_id: &message.message_id,
            sender_id: &message.sender_id,
            sent_at_ms: event.occurred_at,
            mentions: Mentions::of(message.content.as_deref().unwrap_or_default()),
            may_name_all: matches!(sender_role, Some("admin" | "owner")),
        })
    }
}
