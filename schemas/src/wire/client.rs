//! Frames from client to server: from text to a checked request, or to a refusal that names the field.
//!
//! Pure. What needs no look at the world is decided here: JSON, event, fields, types, lengths, UUIDs. Whether the chat
//! is the caller's is decided later, by those who know.

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::object::{self, Found};
use super::{ClientEvent, Code, Rejection, names};
use crate::ids;

/// The highest `seq` that a client can name: up to here every reader of JSON has the same whole number (RFC 7493, section 2.2).
pub const MAX_SEQ: i64 = (1 << 53) - 1;

/// Limits that a client must keep; told to it in `hello`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest body of a message, in bytes of UTF-8.
    pub content_bytes: usize,
    /// Longest frame, in bytes.
    pub frame_bytes: usize,
    /// Longest `app_data`, in bytes of JSON.
    pub app_data_bytes: usize,
    /// Most chats in one `mark_…` or `resume` frame.
    pub chats_per_frame: usize,
    /// Most files of a message; 0 where there is no store for them.
    pub attachments: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            content_bytes: 16_384,
            frame_bytes: 65_536,
            app_data_bytes: 4_096,
            chats_per_frame: 1_000,
            attachments: 10,
        }
    }
}

impl Limits {
    /// Those of a gateway: as configured, and without files where there is no store.
    pub fn new(content_bytes: usize, takes_files: bool) -> Self {
        let usual = Self::default();
        Self { content_bytes, attachments: if takes_files { usual.attachments } else { 0 }, ..usual }
    }
}

/// A request as sent, with the client's own id to answer to.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The client's `id`, any JSON scalar.
    pub id: Option<Value>,
    /// What it asks.
    pub frame: ClientFrame,
}

/// What a client can ask.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the contract's own field names")]
pub enum ClientFrame {
    SendMessage(SendMessage),
    EditMessage { chat_id: String, message_id: Uuid, content: String },
    DeleteMessage { chat_id: String, message_id: Uuid },
    DiscardMessage { chat_id: String, message_id: Uuid },
    MarkDelivered(Vec<(String, i64)>),
    MarkRead(Vec<(String, i64)>),
    Typing { chat_id: String },
    Resume { cursors: Vec<(String, i64)>, epoch: Option<String> },
    Authenticate { token: String },
    Heartbeat { active: bool },
}

/// A message to send, over WebSocket or HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract's own field names")]
pub struct SendMessage {
    pub chat_id: String,
    pub message_id: Uuid,
    /// Empty only if there are files.
    pub content: String,
    /// Completed uploads, in the order in which they are shown.
    pub media_ids: Vec<String>,
    pub parent_message_id: Option<Uuid>,
    /// JSON object, as text.
    pub app_data: Option<String>,
}

/// A refusal together with what the answer has to name.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedFrame {
    /// The client's `id`, if it could be read.
    pub id: Option<Value>,
    /// `chat_id` of a refused send, edit or delete, if it could be read.
    pub chat_id: Option<String>,
    /// `message_id`, likewise, as the client wrote it.
    pub message_id: Option<String>,
    /// Whether it was a send, after which later sends of its chat must wait.
    pub is_send: bool,
    /// Why.
    pub rejection: Rejection,
}

/// The request in a text frame.
pub fn parse(text: &str, limits: &Limits) -> Result<Request, RefusedFrame> {
    let refuse = |id, rejection| RefusedFrame { id, chat_id: None, message_id: None, is_send: false, rejection };
    let Found::Object(mut frame, payload) = object::frame(text).map_err(|rejection| refuse(None, rejection))? else {
        return Err(refuse(
            None,
            Rejection::new(Code::BadJson, "A frame is a JSON object {\"event\", \"id\", \"payload\"}."),
        ));
    };
    let id = match frame.remove("id") {
        None | Some(Value::Null) => None,
        Some(id @ (Value::String(_) | Value::Number(_))) if id.to_string().len() <= 128 && comes_back(&id) => Some(id),
        Some(_) => {
            let rule = "id is a string or a number, at most 128 bytes; numbers beyond 2^53 are whole and have 64 bits.";
            return Err(refuse(None, Rejection::new(Code::BadField, rule).at("id")));
        }
    };
    let event = match frame.remove("event") {
        Some(Value::String(event)) => event,
        Some(_) => return Err(refuse(id, Rejection::new(Code::BadField, "event is a string.").at("event"))),
        None => return Err(refuse(id, Rejection::new(Code::MissingField, "event is missing.").at("event"))),
    };
    let payload = match payload {
        None | Some(Found::Null) => Fields::of(Map::new(), "payload."),
        Some(Found::Object(object, app_data)) => Fields { app_data, ..Fields::of(object, "payload.") },
        Some(Found::Other) => {
            return Err(refuse(id, Rejection::new(Code::BadField, "payload is an object.").at("payload")));
        }
    };
    let text_of = |field: &str| {
        payload.object.get(field).and_then(Value::as_str).filter(|text| text.len() <= 64).map(str::to_owned)
    };
    let place = (text_of("chat_id").filter(|chat| ids::is_valid(chat)), text_of("message_id"));
    let is_send = event == ClientEvent::SendMessage.name();
    match parse_payload(&event, payload, limits) {
        Ok(frame) => Ok(Request { id, frame }),
        Err(rejection) => Err(RefusedFrame { id, chat_id: place.0, message_id: place.1, is_send, rejection }),
    }
}

/// Whether an `id` is the same in the answer: one that isn't held exactly would come back as another.
fn comes_back(id: &Value) -> bool {
    !id.is_f64() || id.as_f64().is_some_and(|number| number.abs() <= MAX_SEQ as f64)
}

fn parse_payload(event: &str, mut fields: Fields, limits: &Limits) -> Result<ClientFrame, Rejection> {
    let event = ClientEvent::of(event).ok_or_else(|| {
        let known = ClientEvent::ALL.map(ClientEvent::name).join(", ");
        Rejection::new(Code::UnknownEvent, format!("Unknown event. Known are {known}.")).at("event")
    })?;
    Ok(match event {
        ClientEvent::SendMessage => {
            let chat_id = fields.user_or_chat_id("chat_id")?;
            ClientFrame::SendMessage(send_message(chat_id, &mut fields, limits)?)
        }
        ClientEvent::EditMessage => ClientFrame::EditMessage {
            chat_id: fields.user_or_chat_id("chat_id")?,
            message_id: fields.uuid("message_id")?,
            content: fields.content(limits)?,
        },
        ClientEvent::DeleteMessage => ClientFrame::DeleteMessage {
            chat_id: fields.user_or_chat_id("chat_id")?,
            message_id: fields.uuid("message_id")?,
        },
        ClientEvent::DiscardMessage => ClientFrame::DiscardMessage {
            chat_id: fields.user_or_chat_id("chat_id")?,
            message_id: fields.uuid("message_id")?,
        },
        ClientEvent::MarkDelivered => ClientFrame::MarkDelivered(fields.seqs("marks", limits)?),
        ClientEvent::MarkRead => ClientFrame::MarkRead(fields.seqs("marks", limits)?),
        ClientEvent::Typing => ClientFrame::Typing { chat_id: fields.user_or_chat_id("chat_id")? },
        ClientEvent::Resume => {
            ClientFrame::Resume { cursors: fields.seqs("cursors", limits)?, epoch: fields.optional_text("epoch")? }
        }
        ClientEvent::Authenticate => ClientFrame::Authenticate { token: fields.text("token")? },
        // Whoever doesn't say it is there.
        ClientEvent::Heartbeat => ClientFrame::Heartbeat { active: fields.optional_bool("active")?.unwrap_or(true) },
    })
}

/// The fields of a message to send, from a WebSocket payload or the body of a POST.
pub fn send_message(chat_id: String, fields: &mut Fields, limits: &Limits) -> Result<SendMessage, Rejection> {
    let media_ids = media_ids(fields, limits)?;
    let content = if media_ids.is_empty() { fields.content(limits)? } else { fields.caption(limits)? };
    Ok(SendMessage {
        chat_id,
        message_id: fields.optional_uuid("message_id")?.unwrap_or_else(Uuid::now_v7),
        content,
        media_ids,
        parent_message_id: fields.optional_uuid("parent_message_id")?,
        app_data: fields.app_data(limits)?,
    })
}

/// The files of a message: `attachments`, or the one of `file`.
fn media_ids(fields: &mut Fields, limits: &Limits) -> Result<Vec<String>, Rejection> {
    let attachments = fields.ids("attachments", limits.attachments.max(1))?;
    let file = fields.optional_text("file")?.filter(|file| !file.is_empty());
    let (ids, field) = match file {
        None => (attachments, "attachments"),
        Some(file) if attachments.is_empty() => {
            if !ids::is_valid(&file) {
                return Err(fields.wrong("file", "a media_id"));
            }
            (vec![file], "file")
        }
        Some(_) => {
            return Err(fields.wrong("file", "for one file, attachments for several: send one of the two fields"));
        }
    };
    if !ids.is_empty() && limits.attachments == 0 {
        let text = "There is no store for files here; operators set media.bucket.";
        return Err(Rejection::new(Code::NotSupported, text).at(fields.path(field)));
    }
    if ids.iter().enumerate().any(|(at, id)| ids[..at].contains(id)) {
        return Err(fields.wrong(field, "a list of different ids"));
    }
    Ok(ids)
}

/// The members of a JSON object, taken one by one with a refusal that names the path.
pub struct Fields {
    /// What is left of the object.
    pub object: Map<String, Value>,
    /// What goes before a field's name in refusals.
    pub prefix: &'static str,
    app_data: Option<Box<RawValue>>,
}

impl Fields {
    /// An object that is part of a request, without `app_data`.
    pub fn of(object: Map<String, Value>, prefix: &'static str) -> Self {
        Self { object, prefix, app_data: None }
    }

    /// The body of an HTTP request.
    pub fn of_body(body: &[u8]) -> Result<Self, Rejection> {
        match object::body(body)? {
            Found::Object(object, app_data) => Ok(Self { app_data, ..Self::of(object, "") }),
            Found::Null | Found::Other => Err(Rejection::new(Code::BadJson, "The body is a JSON object.")),
        }
    }

    fn path(&self, field: &str) -> String {
        format!("{}{field}", self.prefix)
    }

    fn missing(&self, field: &str) -> Rejection {
        Rejection::new(Code::MissingField, format!("{field} is missing.")).at(self.path(field))
    }

    fn wrong(&self, field: &str, expected: &str) -> Rejection {
        Rejection::new(Code::BadField, format!("{field} is {expected}.")).at(self.path(field))
    }

    /// A value that may be absent or null.
    pub fn optional(&mut self, field: &str) -> Option<Value> {
        self.object.remove(field).filter(|value| !value.is_null())
    }

    /// A text.
    pub fn text(&mut self, field: &str) -> Result<String, Rejection> {
        self.optional_text(field)?.ok_or_else(|| self.missing(field))
    }

    /// A text that may be absent.
    pub fn optional_text(&mut self, field: &str) -> Result<Option<String>, Rejection> {
        match self.optional(field) {
            None => Ok(None),
            Some(Value::String(text)) if text.contains('\0') => {
                Err(Rejection::new(Code::ContentNotText, format!("{field} holds a NUL character."))
                    .at(self.path(field)))
            }
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(field, "a string")),
        }
    }

    /// A text that may be absent and is shown in the middle of others', such as a name: none that breaks or turns them.
    pub fn optional_line(&mut self, field: &str) -> Result<Option<String>, Rejection> {
        let line = self.optional_text(field)?;
        match line.as_deref().and_then(names::foreign) {
            None => Ok(line),
            Some(character) => {
                let rule = format!(
                    "{field} holds U+{:04X}: leave out control characters, line breaks, and what turns the direction of writing.",
                    u32::from(character)
                );
                Err(Rejection::new(Code::BadField, rule).at(self.path(field)))
            }
        }
    }

    /// A boolean that may be absent.
    pub fn optional_bool(&mut self, field: &str) -> Result<Option<bool>, Rejection> {
        match self.optional(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(self.wrong(field, "true or false")),
        }
    }

    /// A `seq`.
    pub fn seq(&mut self, field: &str) -> Result<i64, Rejection> {
        let value = self.optional(field).ok_or_else(|| self.missing(field))?;
        seq_of(&value).ok_or_else(|| self.wrong(field, &format!("a whole number from 0 to {MAX_SEQ}")))
    }

    /// A `user_id` or `chat_id`.
    pub fn user_or_chat_id(&mut self, field: &str) -> Result<String, Rejection> {
        let id = self.text(field)?;
        if ids::is_valid(&id) { Ok(id) } else { Err(self.wrong(field, "1 to 64 of A-Z a-z 0-9 . _ : -")) }
    }

    /// A list of ids that may be absent.
    pub fn ids(&mut self, field: &str, most: usize) -> Result<Vec<String>, Rejection> {
        let Some(value) = self.optional(field) else { return Ok(Vec::new()) };
        let Value::Array(items) = value else { return Err(self.wrong(field, "a list of ids")) };
        if items.len() > most {
            return Err(self.wrong(field, &format!("a list of at most {most} ids")));
        }
        items
            .into_iter()
            .map(|item| match item {
                Value::String(id) if ids::is_valid(&id) => Ok(id),
                _ => Err(self.wrong(field, "a list of ids, each 1 to 64 of A-Z a-z 0-9 . _ : -")),
            })
            .collect()
    }

    /// A UUID.
    pub fn uuid(&mut self, field: &str) -> Result<Uuid, Rejection> {
        self.optional_uuid(field)?.ok_or_else(|| self.missing(field))
    }

    /// A UUID that may be absent.
    pub fn optional_uuid(&mut self, field: &str) -> Result<Option<Uuid>, Rejection> {
        let Some(text) = self.optional_text(field)? else { return Ok(None) };
        match Uuid::try_parse(&text) {
            Ok(uuid) if !uuid.is_nil() => Ok(Some(uuid)),
            _ => Err(Rejection::new(
                Code::BadUuid,
                format!("{field} is a UUID, such as 0197f9d2-8a5b-7c3e-9f10-2b6d4e8a1c55."),
            )
            .at(self.path(field))),
        }
    }

    /// The body of a message: text that says something, within the limit.
    pub fn content(&mut self, limits: &Limits) -> Result<String, Rejection> {
        let content = self.text("content")?;
        if content.trim().is_empty() {
            return Err(Rejection::new(Code::ContentEmpty, "A message needs a text.").at(self.path("content")));
        }
        self.within(content, limits)
    }

    /// The text beside files, which may be absent or empty.
    fn caption(&mut self, limits: &Limits) -> Result<String, Rejection> {
        let content = self.optional_text("content")?.unwrap_or_default();
        if content.trim().is_empty() { Ok(String::new()) } else { self.within(content, limits) }
    }

    fn within(&self, content: String, limits: &Limits) -> Result<String, Rejection> {
        let path = self.path("content");
        if content.len() > limits.content_bytes {
            let text = format!("content has {} bytes; at most {} are allowed.", content.len(), limits.content_bytes);
            return Err(Rejection::new(Code::ContentTooLong, text).at(path));
        }
        Ok(content)
    }

    /// The application's own JSON object, as text: as the client wrote it, but for blanks between its parts.
    pub fn app_data(&mut self, limits: &Limits) -> Result<Option<String>, Rejection> {
        let Some(written) = self.app_data.take() else { return Ok(None) };
        let text = object::app_data(&written).map_err(|rejection| rejection.at(self.path("app_data")))?;
        match text {
            Some(text) if text.len() > limits.app_data_bytes => {
                Err(self.wrong("app_data", &format!("an object of at most {} bytes", limits.app_data_bytes)))
            }
            text => Ok(text),
        }
    }

    fn seqs(&mut self, field: &str, limits: &Limits) -> Result<Vec<(String, i64)>, Rejection> {
        let value = self.optional(field).ok_or_else(|| self.missing(field))?;
        let Value::Object(entries) = value else {
            return Err(self.wrong(field, "an object of seqs by chat_id"));
        };
        if entries.len() > limits.chats_per_frame {
            return Err(self
                .wrong(field, &format!("an object of at most {} chats; use several frames", limits.chats_per_frame)));
        }
        entries
            .into_iter()
            .map(|(chat_id, seq)| match seq_of(&seq) {
                Some(seq) if ids::is_valid(&chat_id) => Ok((chat_id, seq)),
                _ => {
                    let rule = format!("an object of seqs, whole numbers from 0 to {MAX_SEQ}, by chat_id");
                    Err(self.wrong(field, &rule))
                }
            })
            .collect()
    }
}

fn seq_of(value: &Value) -> Option<i64> {
    value.as_i64().filter(|seq| (0..=MAX_SEQ).contains(seq))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
