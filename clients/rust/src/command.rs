//! What a person does to a chat's messages, and its frame.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// Something that a person does to a chat's messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Identity over all tries: of a send its message id, else an id of its own. The frame's `id`.
    pub op_id: Uuid,
    /// Where.
    pub chat_id: Arc<str>,
    /// What.
    pub action: Action,
}

/// What a command does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A new message, whose id is the command's.
    Send {
        /// Body.
        content: String,
        /// Completed files of one's own, by their `media_id`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<String>,
        /// Message that it answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent_message_id: Option<Uuid>,
        /// The application's own object.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app_data: Option<Value>,
    },
    /// Another body.
    Edit {
        /// The message.
        message_id: Uuid,
        /// The new body.
        content: String,
    },
    /// No body any more.
    Delete {
        /// The message.
        message_id: Uuid,
    },
}

impl Command {
    /// A plain message with a fresh id.
    pub fn send(chat_id: &Arc<str>, content: impl Into<String>) -> Self {
        Self::send_as(Uuid::now_v7(), chat_id, content)
    }

    /// A plain message with an id of the caller's.
    pub fn send_as(message_id: Uuid, chat_id: &Arc<str>, content: impl Into<String>) -> Self {
        let (content, attachments) = (content.into(), Vec::new());
        let action = Action::Send { content, attachments, parent_message_id: None, app_data: None };
        Self { op_id: message_id, chat_id: Arc::clone(chat_id), action }
    }

    /// A send with files, as [`Api::upload`](crate::api::Api::upload) gives their ids; of other commands nothing changes.
    pub fn with_attachments(mut self, media_ids: Vec<String>) -> Self {
        if let Action::Send { attachments, .. } = &mut self.action {
            *attachments = media_ids;
        }
        self
    }

    /// Another body for a message of one's own.
    pub fn edit(chat_id: &Arc<str>, message_id: Uuid, content: impl Into<String>) -> Self {
        let action = Action::Edit { message_id, content: content.into() };
        Self { op_id: Uuid::now_v7(), chat_id: Arc::clone(chat_id), action }
    }

    /// A message of one's own goes.
    pub fn delete(chat_id: &Arc<str>, message_id: Uuid) -> Self {
        Self { op_id: Uuid::now_v7(), chat_id: Arc::clone(chat_id), action: Action::Delete { message_id } }
    }

    /// The command as the server wants it.
    pub(crate) fn frame(&self) -> String {
        #[derive(Serialize)]
        struct Frame<'a> {
            event: &'a str,
            id: Uuid,
            payload: Payload<'a>,
        }
        #[derive(Serialize)]
        struct Payload<'a> {
            chat_id: &'a str,
            message_id: Uuid,
            #[serde(skip_serializing_if = "Option::is_none")]
            content: Option<&'a str>,
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            attachments: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            parent_message_id: Option<Uuid>,
            #[serde(skip_serializing_if = "Option::is_none")]
            app_data: Option<&'a Value>,
        }
        let plain = |message_id, content| Payload {
            chat_id: &self.chat_id,
            message_id,
            content,
            attachments: &[],
            parent_message_id: None,
            app_data: None,
        };
        let (event, payload) = match &self.action {
            Action::Send { content, attachments, parent_message_id, app_data } => (
                "send_message",
                Payload {
                    attachments,
                    parent_message_id: *parent_message_id,
                    app_data: app_data.as_ref(),
                    ..plain(self.op_id, Some(content))
                },
            ),
            Action::Edit { message_id, content } => ("edit_message", plain(*message_id, Some(content))),
            Action::Delete { message_id } => ("delete_message", plain(*message_id, None)),
        };
        serde_json::to_string(&Frame { event, id: self.op_id, payload }).unwrap_or_default()
    }

    /// Tells the server that a refused send won't come again, so that later ones of its chat may go on.
    pub(crate) fn discard_frame(&self) -> Option<String> {
        let Action::Send { .. } = self.action else { return None };
        let payload = json!({ "chat_id": &*self.chat_id, "message_id": self.op_id });
        Some(json!({ "event": "discard_message", "payload": payload }).to_string())
    }
}
