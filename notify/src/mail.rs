//! Digests as mail: text and HTML in the person's language, as bytes that any mail server takes.
//!
//! Names and words of people pass through [`one_line`] and, in HTML, through the template's escaping; header fields are
//! encoded by the MIME library. What the content mode forbids isn't given to a template at all, so that no template of an
//! operator can show it.

mod message;
mod templates;
#[cfg(test)]
mod tests;

use jiff::tz::TimeZone;
use serde::Serialize;

pub use templates::{Part, TemplateError, Templates};

use crate::languages::Texts;
use crate::settings::ContentMode;
use crate::text::{Language, one_line};
use crate::unsubscribe::Unsubscribe;

const NAME_CHARS: usize = 80;
const TEXT_CHARS: usize = 300;
/// Messages of a chat that are shown; the latest.
const MOST_MESSAGES: usize = 5;
/// Chats that are shown.
const MOST_CHATS: usize = 20;

/// What the operator sets.
#[derive(Debug, Clone)]
pub struct MailConfig {
    /// What the application is called.
    pub brand: String,
    /// The sender's name.
    pub from_name: String,
    /// The sender's address.
    pub from_address: String,
    /// The application's address.
    pub home: String,
    /// The address of its settings.
    pub settings: Option<String>,
    /// The strictest that is shown to anybody.
    pub content: ContentMode,
}

/// One person's unread messages, as they are now.
#[derive(Debug, Clone)]
pub struct DigestContent<'a> {
    /// The digest's id ([`Due::id`](crate::digest::Due)), which becomes the `Message-ID`.
    pub id: &'a str,
    /// Whose.
    pub user_id: &'a str,
    /// What they are called.
    pub name: Option<&'a str>,
    /// Their mail address.
    pub address: &'a str,
    /// In which language.
    pub language: Language,
    /// How much they want to see.
    pub content: ContentMode,
    /// A name of the tz database, for the messages' times; UTC if there is none.
    pub time_zone: Option<&'a str>,
    /// By chat, most important first.
    pub chats: Vec<ChatContent<'a>>,
}

/// Unread messages of one chat.
#[derive(Debug, Clone)]
pub struct ChatContent<'a> {
    /// Its name, or the other person's in a 1:1 chat.
    pub name: &'a str,
    /// Where a click leads.
    pub link: &'a str,
    /// How many there are in all.
    pub count: u64,
    /// The latest ones, oldest first.
    pub messages: Vec<MessageContent<'a>>,
}

/// One message.
#[derive(Debug, Clone)]
pub struct MessageContent<'a> {
    /// What its sender is called.
    pub sender: &'a str,
    /// Its words, or a [`Phrase`](crate::text::Phrase) where it has none.
    pub text: &'a str,
    /// When, in milliseconds since 1970.
    pub sent_at_ms: i64,
}

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Its sender, as `Name <address>`.
    pub from: String,
    /// Its subject.
    pub subject: String,
    /// Its text part.
    pub text: String,
    /// Its HTML part.
    pub html: String,
    /// All of it (RFC 5322), for [`Smtp::send`](crate::provider::smtp::Smtp::send).
    pub raw: Vec<u8>,
}

/// Makes mails.
#[derive(Debug)]
pub struct Mailer {
    config: MailConfig,
    templates: Templates,
    unsubscribe: Option<Unsubscribe>,
}

impl Mailer {
    /// Without `unsubscribe`, as in development, mails have no such link.
    pub fn new(config: MailConfig, templates: Templates, unsubscribe: Option<Unsubscribe>) -> Self {
        Self { config, templates, unsubscribe }
    }

    /// Makes a digest's mail, dated at the time given. The error is a template's.
    pub fn digest(&self, content: &DigestContent<'_>, now_ms: i64) -> Result<Mail, TemplateError> {
        let unsubscribe = self.unsubscribe.as_ref();
        let texts = self.templates.languages().texts(content.language);
        let mut seen = seen(content, &self.config, texts);
        seen.unsubscribe = unsubscribe.map(|links| links.link(content.user_id));
        let rendered = self.templates.render(texts.language(), &mut seen)?;
        let headers = unsubscribe.map(|links| links.headers(content.user_id));
        let raw = message::build(&self.config, content, &rendered, headers.into_iter().flatten(), now_ms);
        let templates::Rendered { subject, text, html } = rendered;
        let (name, address) = message::sender(&self.config);
        Ok(Mail { from: format!("{name} <{address}>"), subject, text, html, raw })
    }
}

/// What templates see.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Seen {
    brand: String,
    home: String,
    settings: Option<String>,
    unsubscribe: Option<String>,
    name: Option<String>,
    /// The subject, once it is rendered.
    subject: String,
    total: u64,
    chats: Vec<SeenChat>,
}

#[derive(Debug, Clone, Default, Serialize)]
struct SeenChat {
    name: String,
    link: String,
    count: u64,
    messages: Vec<SeenMessage>,
    /// How many aren't shown; none if all are, or if none is.
    more: Option<u64>,
}

#[derive(Debug, Clone, Default, Serialize)]
struct SeenMessage {
    sender: String,
    text: Option<String>,
    time: Option<String>,
}

fn seen(content: &DigestContent<'_>, config: &MailConfig, texts: &Texts) -> Seen {
    let mode = config.content.stricter(content.content);
    let zone = content.time_zone.and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
    let chats =
        if mode == ContentMode::Nothing { &[][..] } else { &content.chats[..content.chats.len().min(MOST_CHATS)] };
    Seen {
        brand: config.brand.clone(),
        home: config.home.clone(),
        settings: config.settings.clone(),
        unsubscribe: None,
        name: content.name.map(|name| one_line(name, NAME_CHARS)).filter(|name| !name.is_empty()),
        subject: String::new(),
        total: content.chats.iter().map(|chat| chat.count).sum(),
        chats: chats.iter().map(|chat| seen_chat(chat, mode, texts, &zone)).collect(),
    }
}

fn seen_chat(chat: &ChatContent<'_>, mode: ContentMode, texts: &Texts, zone: &TimeZone) -> SeenChat {
    let first = chat.messages.len().saturating_sub(MOST_MESSAGES);
    let messages: Vec<SeenMessage> = chat.messages[first..]
        .iter()
        .map(|message| SeenMessage {
            sender: one_line(message.sender, NAME_CHARS),
            text: (mode == ContentMode::Full).then(|| one_line(message.text, TEXT_CHARS)),
            time: texts.time(message.sent_at_ms, zone),
        })
        .collect();
    let more = chat.count.saturating_sub(messages.len() as u64);
    SeenChat {
        name: one_line(chat.name, NAME_CHARS),
        link: chat.link.to_owned(),
        count: chat.count,
        more: (more > 0 && !messages.is_empty()).then_some(more),
        messages,
    }
}
