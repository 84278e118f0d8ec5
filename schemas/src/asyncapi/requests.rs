//! The payloads of clients' frames, for the document alone: [`crate::wire::client`] reads them field by field, so that a
//! refusal names its field. A test holds the two against each other.
#![allow(dead_code, reason = "read by the document's generator")]

use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema, SchemaFormat};
use uuid::Uuid;

use crate::ids::MAX_ID_BYTES;
use crate::wire::Limits;
use crate::wire::client::MAX_SEQ;

const ID: &str = "^[A-Za-z0-9._:-]+$";

/// A message to send: with a text, with files, or both.
#[derive(ToSchema)]
pub(super) struct SendMessage {
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9._:-]+$")]
    chat_id: String,
    /// At most `limits.content_bytes` bytes of UTF-8, without NUL. Text that says something, where there are no files.
    content: Option<String>,
    /// The client's own, one a message, kept for repeats; a v7 is made if absent.
    message_id: Option<Uuid>,
    /// The message that this one answers.
    parent_message_id: Option<Uuid>,
    /// The application's own, opaque, at most 4 KiB.
    #[schema(value_type = Option<Object>)]
    app_data: Option<()>,
    /// Each a `media_id` of a completed upload of one's own for this chat; at most `limits.attachments`.
    #[schema(required = false, schema_with = attachments)]
    attachments: (),
    /// The same for one file.
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9._:-]*$")]
    file: Option<String>,
}

fn attachments() -> RefOr<Schema> {
    let id = ObjectBuilder::new().schema_type(Type::String).max_length(Some(MAX_ID_BYTES)).pattern(Some(ID));
    let about = "Each a `media_id` of a completed upload of one's own for this chat; at most `limits.attachments`.";
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .max_items(Some(Limits::default().attachments))
        .unique_items(true)
        .items(id)
        .description(Some(about))
        .into()
}

/// What makes a message: exactly one of the three.
pub(super) fn ways_to_send() -> Value {
    let nothing = json!({ "attachments": { "maxItems": 0 }, "file": { "maxLength": 0 } });
    let (none, empty) = (&nothing["attachments"], &nothing["file"]);
    json!([
        { "title": "text", "required": ["content"],
          "properties": { "content": { "type": "string", "minLength": 1 }, "attachments": none, "file": empty } },
        { "title": "files", "required": ["attachments"],
          "properties": { "attachments": { "type": "array", "minItems": 1 }, "file": empty } },
        { "title": "one file", "required": ["file"],
          "properties": { "attachments": none, "file": { "type": "string", "minLength": 1 } } },
    ])
}

/// A message's new text.
#[derive(ToSchema)]
pub(super) struct EditMessage {
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9._:-]+$")]
    chat_id: String,
    message_id: Uuid,
    /// Text that says something, at most `limits.content_bytes` bytes of UTF-8, without NUL.
    #[schema(min_length = 1)]
    content: String,
}

/// A message of a chat.
#[derive(ToSchema)]
pub(super) struct MessagePlace {
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9._:-]+$")]
    chat_id: String,
    message_id: Uuid,
}

/// How far one has come, in all chats at once.
#[derive(ToSchema)]
pub(super) struct OwnMarks {
    #[schema(schema_with = marks)]
    marks: (),
}

/// Cursors of the chats in which something may be missing.
#[derive(ToSchema)]
pub(super) struct Resume {
    #[schema(schema_with = cursors)]
    cursors: (),
    /// Of `hello` when the cursors were made; another one than now is refused with `conflict`.
    epoch: Option<String>,
}

fn marks() -> RefOr<Schema> {
    seqs("`seq` by `chat_id`: everything up to it. One past the chat's head counts as the head.")
}

fn cursors() -> RefOr<Schema> {
    seqs("`seq` by `chat_id`: the client has everything up to it.")
}

fn seqs(about: &str) -> RefOr<Schema> {
    let id = ObjectBuilder::new().schema_type(Type::String).max_length(Some(MAX_ID_BYTES)).pattern(Some(ID));
    let seq = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0))
        .maximum(Some(MAX_SEQ));
    ObjectBuilder::new()
        .property_names(Some(id.build()))
        .additional_properties(Some(AdditionalProperties::RefOr(seq.into())))
        .max_properties(Some(Limits::default().chats_per_frame))
        .description(Some(about))
        .into()
}

/// A chat in which one types.
#[derive(ToSchema)]
pub(super) struct OwnTyping {
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9._:-]+$")]
    chat_id: String,
}

/// A fresh token.
#[derive(ToSchema)]
pub(super) struct Authenticate {
    /// Of the same person.
    token: String,
}
