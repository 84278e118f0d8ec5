//! The events of the WebSocket in both directions: what a frame's `event` can be.

/// What a client can ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract's own names")]
pub enum ClientEvent {
    SendMessage,
    EditMessage,
    DeleteMessage,
    DiscardMessage,
    MarkDelivered,
    MarkRead,
    Typing,
    Resume,
    Authenticate,
    Heartbeat,
}

impl ClientEvent {
    /// Every event, in the order in which they are listed.
    pub const ALL: [Self; 10] = [
        Self::SendMessage,
        Self::EditMessage,
        Self::DeleteMessage,
        Self::DiscardMessage,
        Self::MarkDelivered,
        Self::MarkRead,
        Self::Typing,
        Self::Resume,
        Self::Authenticate,
        Self::Heartbeat,
    ];

    /// The name as it travels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendMessage => "send_message",
            Self::EditMessage => "edit_message",
            Self::DeleteMessage => "delete_message",
            Self::DiscardMessage => "discard_message",
            Self::MarkDelivered => "mark_delivered",
            Self::MarkRead => "mark_read",
            Self::Typing => "typing",
            Self::Resume => "resume",
            Self::Authenticate => "authenticate",
            Self::Heartbeat => "heartbeat",
        }
    }

    /// The event of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// What the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract's own names")]
pub enum ServerEvent {
    Hello,
    Chats,
    Ack,
    Error,
    Message,
    MessageEdited,
    MessageDeleted,
    ChatCreated,
    ChatUpdated,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    Skipped,
    Resumed,
    Heads,
    Receipt,
    Typing,
    Presence,
    TokenExpiring,
    Reconnect,
}

impl ServerEvent {
    /// Every event, in the order in which they are listed.
    pub const ALL: [Self; 20] = [
        Self::Hello,
        Self::Chats,
        Self::Ack,
        Self::Error,
        Self::Message,
        Self::MessageEdited,
        Self::MessageDeleted,
        Self::ChatCreated,
        Self::ChatUpdated,
        Self::MemberJoined,
        Self::MemberLeft,
        Self::MemberUpdated,
        Self::Skipped,
        Self::Resumed,
        Self::Heads,
        Self::Receipt,
        Self::Typing,
        Self::Presence,
        Self::TokenExpiring,
        Self::Reconnect,
    ];

    /// The name as it travels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Chats => "chats",
            Self::Ack => "ack",
            Self::Error => "error",
            Self::Message => "message",
            Self::MessageEdited => "message_edited",
            Self::MessageDeleted => "message_deleted",
            Self::ChatCreated => "chat_created",
            Self::ChatUpdated => "chat_updated",
            Self::MemberJoined => "member_joined",
            Self::MemberLeft => "member_left",
            Self::MemberUpdated => "member_updated",
            Self::Skipped => "skipped",
            Self::Resumed => "resumed",
            Self::Heads => "heads",
            Self::Receipt => "receipt",
            Self::Typing => "typing",
            Self::Presence => "presence",
            Self::TokenExpiring => "token_expiring",
            Self::Reconnect => "reconnect",
        }
    }
}
