//! What a person sees of a message, as the stricter of the operator's and their own mode allows it.

use crate::decide::Cause;
use crate::settings::ContentMode;
use crate::text::{Phrase, one_line};

use super::Alert;

const NAME_CHARS: usize = 80;
const TEXT_CHARS: usize = 240;

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Face {
    /// The group's name, or the sender's in a 1:1 chat.
    pub(super) title: Option<String>,
    /// The sender's name in a group.
    pub(super) subtitle: Option<String>,
    pub(super) body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// The message's own words.
    Words(String),
    Phrase(Phrase),
}

impl Face {
    pub(super) fn of(alert: &Alert<'_>, mode: ContentMode) -> Self {
        if mode == ContentMode::Nothing {
            return Self { title: None, subtitle: None, body: Body::Phrase(Phrase::Message) };
        }
        let sender = one_line(alert.sender_name, NAME_CHARS);
        let (title, subtitle) = match alert.chat_name {
            Some(name) => (one_line(name, NAME_CHARS), Some(sender)),
            None => (sender, None),
        };
        Self { title: Some(title), subtitle, body: body(alert, mode) }
    }
}

fn body(alert: &Alert<'_>, mode: ContentMode) -> Body {
    if mode == ContentMode::Full {
        let words = one_line(alert.text.unwrap_or_default(), TEXT_CHARS);
        if !words.is_empty() {
            return Body::Words(words);
        }
        // What kind of file it is belongs to what was said.
        if let Some(first) = alert.attachments.first() {
            return Body::Phrase(match first.kind.as_str() {
                "image" => Phrase::Photo,
                "video" => Phrase::Video,
                "audio" => Phrase::Audio,
                _ => Phrase::File,
            });
        }
    }
    Body::Phrase(match alert.cause {
        Cause::Message => Phrase::Message,
        Cause::Mention => Phrase::Mention,
        Cause::MentionAll => Phrase::MentionAll,
    })
}
