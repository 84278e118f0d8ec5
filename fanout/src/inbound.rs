//! What a connection needs of the way in, and nothing more: who the caller is, and commands and marks handed to Kafka.
//!
//! Services don't depend on each other, so the wiring implements this trait with the gateway's chat service.

use std::pin::Pin;

use schemas::wire::{ClientFrame, Rejection};

/// A boxed future that may borrow.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whom a token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The person.
    pub user_id: String,
    /// When the token was issued, in milliseconds since 1970; 0 if it doesn't say.
    pub issued_at_ms: i64,
    /// When the token ends, in milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// Whether a token still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Good,
    /// The person's tokens were revoked after it was issued.
    Revoked,
    /// The person was removed.
    Removed,
}

/// One connection of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The person.
    pub user_id: String,
    /// The connection; new with every connect.
    pub session_id: String,
}

/// That the node knows the caller as a member of the command's chat just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownChat {
    /// The chat's last event that this node has delivered.
    pub head_seq: i64,
}

/// Which mark is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkKind {
    /// Up to here everything has reached the person's screen.
    Delivered,
    /// Up to here everything was read.
    Read,
}

/// A command on its way.
pub struct Submitted {
    /// Ends when Kafka has acknowledged the command, or with why it never will.
    pub accepted: Pending<'static, Result<(), Rejection>>,
    /// Ends when the command is decided: with the `seq` of its event (none if it changed nothing), or with the refusal.
    pub decided: Pending<'static, Result<Option<i64>, Rejection>>,
}

/// The way in.
pub trait Inbound: Send + Sync + 'static {
    /// Whom a token names, if it is valid now.
    fn authenticate<'a>(&'a self, token: &'a str) -> Pending<'a, Result<Identity, Rejection>>;

    /// Whether a token that was good when its connection was opened still counts. Asked once the connection can be found
    /// by [`crate::Node::reconsider`], so that no revocation falls between.
    fn standing(&self, user_id: &str, issued_at_ms: i64) -> Standing;

    /// Checks a send, edit or delete and hands it to Kafka's producer.
    ///
    /// A connection calls this strictly in the order of its frames and awaits each call before the next; it returns
    /// once the command is in the producer's queue, so that the order holds up to the partition. `session_counter`
    /// counts the connection's commands from 1. `known` is there if the hub holds the caller as a member of the chat.
    fn submit<'a>(
        &'a self,
        caller: &'a Caller,
        session_counter: i64,
        command: ClientFrame,
        known: Option<KnownChat>,
    ) -> Pending<'a, Result<Submitted, Rejection>>;

    /// Hands marks to Kafka: chats of which the caller is a member, none beyond its head. Returns once they are accepted.
    fn mark<'a>(
        &'a self,
        caller: &'a Caller,
        kind: MarkKind,
        marks: Vec<(String, i64)>,
    ) -> Pending<'a, Result<(), Rejection>>;
}
