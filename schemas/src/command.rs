//! `ChatCommand`, from gateway to persister. Field docs are in `avro/ChatCommand.avsc`.
#![allow(missing_docs, reason = "the schema documents every field")]

use serde::{Deserialize, Serialize};

use crate::{record::Record, topics::Topic};

/// Names of command types.
pub mod command_type {
    /// Send a message.
    pub const MESSAGE_SEND: &str = "message.send";
    /// Give a message another body.
    pub const MESSAGE_EDIT: &str = "message.edit";
    /// Take a message's body away.
    pub const MESSAGE_DELETE: &str = "message.delete";
    /// Make a chat with its first members.
    pub const CHAT_CREATE: &str = "chat.create";
    /// Change a chat's settings.
    pub const CHAT_UPDATE: &str = "chat.update";
    /// Add people.
    pub const MEMBERS_ADD: &str = "members.add";
    /// Remove people, or leave.
    pub const MEMBERS_REMOVE: &str = "members.remove";
    /// Change roles.
    pub const MEMBERS_UPDATE: &str = "members.update";
    /// End the stay of somebody who was removed from everywhere, whatever their role.
    pub const PERSON_REMOVE: &str = "person.remove";
}

/// What somebody asks of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChatCommand {
    pub command_id: String,
    pub command_type: String,
    pub chat_id: String,
    pub user_id: String,
    pub session_id: String,
    pub session_counter: i64,
    pub node_id: String,
    pub issued_at: i64,
    #[serde(default)]
    pub based_on_seq: Option<i64>,
    #[serde(default)]
    pub message_id: Option<String>,
    #[serde(default)]
    pub content: Option<String>,
    #[serde(default)]
    pub parent_message_id: Option<String>,
    #[serde(default)]
    pub app_data: Option<String>,
    #[serde(default)]
    pub media_ids: Vec<String>,
    #[serde(default)]
    pub members: Vec<CommandMember>,
    #[serde(default)]
    pub chat: Option<ChatSettings>,
}

/// A person that a membership command is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandMember {
    pub user_id: String,
    #[serde(default)]
    pub member_role: Option<String>,
}

/// Settings to make or change a chat with; `None` leaves one as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChatSettings {
    #[serde(default)]
    pub is_group: Option<bool>,
    #[serde(default)]
    pub chat_name: Option<String>,
    #[serde(default)]
    pub app_data: Option<String>,
    #[serde(default)]
    pub avatar_url: Option<String>,
    #[serde(default)]
    pub deleted_shown_as: Option<String>,
    #[serde(default)]
    pub history_for_new_members: Option<bool>,
}

impl Record for ChatCommand {
    const NAME: &'static str = "ChatCommand";
    const SCHEMA: &'static str = include_str!("../avro/ChatCommand.avsc");
    const TOPIC: Topic = Topic::ChatCommands;
}
