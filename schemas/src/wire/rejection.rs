//! Refusals: one type for WebSocket `error` frames, HTTP problem details and the persister's answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Stable names of what can be wrong; part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ErrorCode)]
#[allow(missing_docs, reason = "the names say it; docs/errors has a page for each")]
pub enum Code {
    BadJson,
    UnknownEvent,
    MissingField,
    BadField,
    BadUuid,
    ChatNotFound,
    ChatExists,
    MessageNotFound,
    UserNotFound,
    Forbidden,
    LastOwner,
    Conflict,
    ContentEmpty,
    ContentTooLong,
    ContentNotText,
    TokenMissing,
    TokenExpired,
    TokenInvalid,
    TokenRevoked,
    ScopeMissing,
    RateLimited,
    MessageIdConflict,
    IdempotencyKeyReused,
    IdempotencyKeyInUse,
    BlockedByEarlier,
    MediaNotFound,
    MediaNotReady,
    MediaBusy,
    MediaTooLarge,
    MediaTypeRefused,
    MediaRefused,
    UploadIncomplete,
    FrameTooBig,
    NotSupported,
    NotFound,
    MethodNotAllowed,
    Overloaded,
    Unavailable,
    Internal,
}

impl Code {
    /// Every code, for documents and tests.
    pub const ALL: [Self; 39] = [
        Self::BadJson,
        Self::UnknownEvent,
        Self::MissingField,
        Self::BadField,
        Self::BadUuid,
        Self::ChatNotFound,
        Self::ChatExists,
        Self::MessageNotFound,
        Self::UserNotFound,
        Self::Forbidden,
        Self::LastOwner,
        Self::Conflict,
        Self::ContentEmpty,
        Self::ContentTooLong,
        Self::ContentNotText,
        Self::TokenMissing,
        Self::TokenExpired,
        Self::TokenInvalid,
        Self::TokenRevoked,
        Self::ScopeMissing,
        Self::RateLimited,
        Self::MessageIdConflict,
        Self::IdempotencyKeyReused,
        Self::IdempotencyKeyInUse,
        Self::BlockedByEarlier,
        Self::MediaNotFound,
        Self::MediaNotReady,
        Self::MediaBusy,
        Self::MediaTooLarge,
        Self::MediaTypeRefused,
        Self::MediaRefused,
        Self::UploadIncomplete,
        Self::FrameTooBig,
        Self::NotSupported,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Overloaded,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The name as it travels.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Whether the same request can succeed later.
    pub fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Overloaded
                | Self::Unavailable
                | Self::Internal
                | Self::BlockedByEarlier
                | Self::IdempotencyKeyInUse
                | Self::MediaBusy
        )
    }

    /// HTTP status that goes with the code.
    pub fn http_status(self) -> u16 {
        match self {
            Self::TokenMissing | Self::TokenExpired | Self::TokenInvalid | Self::TokenRevoked => 401,
            Self::Forbidden | Self::ScopeMissing => 403,
            Self::ChatNotFound | Self::MessageNotFound | Self::UserNotFound | Self::MediaNotFound | Self::NotFound => {
                404
            }
            Self::MethodNotAllowed => 405,
            Self::ChatExists
            | Self::LastOwner
            | Self::Conflict
            | Self::MessageIdConflict
            | Self::IdempotencyKeyInUse
            | Self::BlockedByEarlier
            | Self::MediaNotReady
            | Self::MediaBusy
            | Self::UploadIncomplete => 409,
            Self::IdempotencyKeyReused | Self::MediaTypeRefused | Self::MediaRefused => 422,
            Self::FrameTooBig | Self::MediaTooLarge => 413,
            Self::RateLimited => 429,
            Self::Overloaded | Self::Unavailable => 503,
            Self::NotSupported => 501,
            Self::Internal => 500,
            _ => 400,
        }
    }
}

/// A refusal: what, where and whether to try again. Its text never holds a body, a token or another person's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// What is wrong.
    pub code: Code,
    /// The same for people, with the way to mend it.
    pub message: String,
    /// Field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// When to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Rejection {
    /// A refusal of the whole request.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, retry_after_ms: None }
    }

    /// The same, about one field.
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same, with a time to wait.
    pub fn retry_after(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// The one answer for a chat that isn't there and for one that isn't the caller's.
    pub fn chat_not_found() -> Self {
        Self::new(Code::ChatNotFound, "There is no such chat for you: check chat_id, or ask a member to add you.")
            .at("chat_id")
    }

    /// The one answer for a message that isn't there, is elsewhere, or isn't the caller's to change.
    pub fn message_not_found() -> Self {
        Self::new(Code::MessageNotFound, "There is no such message for you to change in this chat.").at("message_id")
    }

    /// The one answer for a person who isn't there and for one whom the caller may not know of.
    pub fn user_not_found(user_id: &str) -> Self {
        Self::new(Code::UserNotFound, format!("There is no person `{user_id}`."))
    }

    /// The one answer for a file that isn't there and for one that the caller may not see.
    pub fn media_not_found() -> Self {
        Self::new(
            Code::MediaNotFound,
            "There is no such file for you: check media_id; a file goes with the messages that it was posted in.",
        )
        .at("media_id")
    }

    /// The answer while a server behind us is away.
    pub fn unavailable() -> Self {
        Self::new(Code::Unavailable, "A part of the service is away for a moment; try again.").retry_after(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_snake_case_and_unique() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert!(names.contains(&"message_id_conflict".to_owned()));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
