//! What a service may do. The one place where scopes are named; `docs/auth.md` shows the same table to people.
//!
//! | scope | allows |
//! |---|---|
//! | `users:write` | make people and change their profiles |
//! | `users:remove` | remove people |
//! | `users:revoke` | refuse a person's tokens so far |
//! | `chats:write` | make any chat, change it and its members |
//! | `chats:read` | read any chat, its members and messages |
//! | `messages:system` | post to any chat as the system sender; edit what it posted, delete messages of groups |
//! | `act:users` | everything that a person may, in their name (`On-Behalf-Of`) |

use axum::http::Method;
use schemas::wire::{Code, Rejection};

/// One thing that a service may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table above")]
pub enum Scope {
    UsersWrite,
    UsersRemove,
    UsersRevoke,
    ChatsWrite,
    ChatsRead,
    MessagesSystem,
    ActForUsers,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] = [
        Self::UsersWrite,
        Self::UsersRemove,
        Self::UsersRevoke,
        Self::ChatsWrite,
        Self::ChatsRead,
        Self::MessagesSystem,
        Self::ActForUsers,
    ];

    /// As tokens have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UsersWrite => "users:write",
            Self::UsersRemove => "users:remove",
            Self::UsersRevoke => "users:revoke",
            Self::ChatsWrite => "chats:write",
            Self::ChatsRead => "chats:read",
            Self::MessagesSystem => "messages:system",
            Self::ActForUsers => "act:users",
        }
    }

    /// What the system sender needs for a request, by its route; `None` where only people can ask.
    pub(crate) fn of_system(method: &Method, route: &str) -> Option<Self> {
        let is_read = *method == Method::GET;
        match route {
            "/v1/chats/{chat_id}"
            | "/v1/chats/{chat_id}/members"
            | "/v1/chats/{chat_id}/messages"
            | "/v1/chats/{chat_id}/messages/{message_id}"
                if is_read =>
            {
                Some(Self::ChatsRead)
            }
            "/v1/chats/{chat_id}" | "/v1/chats/{chat_id}/members" | "/v1/chats/{chat_id}/members/{user_id}" => {
                Some(Self::ChatsWrite)
            }
            "/v1/chats/{chat_id}/messages" | "/v1/chats/{chat_id}/messages/{message_id}" => Some(Self::MessagesSystem),
            _ => None,
        }
    }
}

/// The scopes of one token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Names with spaces between; unknown ones allow nothing.
    pub fn parse(text: &str) -> Self {
        Self(Scope::ALL.into_iter().filter(|scope| text.split(' ').any(|name| name == scope.name())).collect())
    }

    /// Refuses what they don't allow.
    pub fn need(&self, scope: Scope) -> Result<(), Rejection> {
        if self.0.contains(&scope) {
            return Ok(());
        }
        Err(Rejection::new(Code::ScopeMissing, format!("The token needs the scope {}.", scope.name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_whole_words() {
        let scopes = Scopes::parse("users:write  messages:system users:removed openid");
        assert!(scopes.need(Scope::UsersWrite).is_ok() && scopes.need(Scope::MessagesSystem).is_ok());
        for missing in [Scope::UsersRemove, Scope::UsersRevoke, Scope::ChatsWrite, Scope::ActForUsers] {
            assert_eq!(scopes.need(missing).unwrap_err().code, Code::ScopeMissing);
        }
        assert_eq!(Scopes::parse(""), Scopes::default());
    }

    #[test]
    fn the_system_sender_has_routes_of_its_own() {
        let of = |method: Method, route: &str| Scope::of_system(&method, route);
        assert_eq!(of(Method::POST, "/v1/chats/{chat_id}/messages"), Some(Scope::MessagesSystem));
        assert_eq!(of(Method::GET, "/v1/chats/{chat_id}/messages"), Some(Scope::ChatsRead));
        assert_eq!(of(Method::DELETE, "/v1/chats/{chat_id}/members/{user_id}"), Some(Scope::ChatsWrite));
        assert_eq!(of(Method::GET, "/v1/users/me"), None);
        assert_eq!(of(Method::POST, "/v1/chats"), None);
    }
}
