//! What a client tells of what it does and sees, and to whom.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::command::Command;
use super::frames::{Attachment, Marked, Member};

/// An observation with the moment at which its cause was read from the socket (or done by the client).
#[derive(Debug, Clone)]
pub struct Observed {
    /// When.
    pub at: Instant,
    /// What.
    pub what: Observation,
}

/// What happened to a client, in the order in which it happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// A command was taken; from here on it may happen. Comes before its first frame leaves.
    Invoked(Command),
    /// The frame of a command was handed to the socket, for the first time or again.
    Sent {
        /// The command.
        op_id: Uuid,
        /// Earlier times.
        attempt: u32,
    },
    /// The command is in Kafka.
    Accepted {
        /// The command; of a send its message id.
        op_id: Uuid,
    },
    /// The command is committed: done, for certain.
    Persisted {
        /// The command; of a send its message id.
        op_id: Uuid,
        /// `seq` of its event; absent where it changed nothing.
        seq: Option<i64>,
    },
    /// The command was refused for good, and won't be sent again.
    Refused {
        /// The command; of a send its message id.
        op_id: Uuid,
        /// Why.
        code: String,
    },
    /// The command was refused for now; the client sends it again by itself.
    Postponed {
        /// The command; of a send its message id.
        op_id: Uuid,
        /// Why.
        code: String,
    },
    /// The client ends, and of this command it will never know.
    Unknown {
        /// The command; of a send its message id.
        op_id: Uuid,
    },
    /// An error that belongs to no command in the outbox: answers to raw frames, marks, resumes.
    Error {
        /// The frame's `id` as JSON text, if it had one.
        id: Option<String>,
        /// Its code.
        code: String,
        /// For people.
        message: String,
        /// Which field is wrong.
        field: Option<String>,
    },
    /// A connection is there: `hello` came.
    Opened {
        /// The server's name for it.
        session_id: String,
        /// The log's epoch.
        epoch: String,
    },
    /// All chats were announced; what was missed meanwhile is being asked for.
    InStep,
    /// A connection couldn't be had; the client tries again.
    ConnectFailed {
        /// HTTP status of a refused handshake.
        status: Option<u16>,
        /// For people.
        reason: String,
    },
    /// The connection is gone.
    Closed {
        /// The close code; `None` for a connection that broke.
        code: Option<u16>,
    },
    /// The server's numbers mean other events than before: every cursor starts anew.
    OtherEpoch {
        /// The new one.
        epoch: String,
    },
    /// The person is in this chat, and its cursor starts here.
    Chat {
        /// The chat.
        chat_id: Arc<str>,
        /// Its head as announced.
        head_seq: i64,
        /// Where the cursor stands.
        cursor: i64,
    },
    /// An event, shown to the person: in order, without hole or repeat.
    Event(Event),
    /// These seqs aren't shown to this person; in order among the events.
    Skipped {
        /// The chat.
        chat_id: Arc<str>,
        /// First.
        from_seq: i64,
        /// Last.
        to_seq: i64,
        /// How it came.
        via: Via,
    },
    /// Something about the order of frames that a client mends by itself, and a checker may want to count.
    Anomaly {
        /// The chat.
        chat_id: Arc<str>,
        /// The event's `seq`.
        seq: i64,
        /// What.
        kind: Anomaly,
    },
    /// The client asks for what it misses after `cursor`.
    Resuming {
        /// The chat.
        chat_id: Arc<str>,
        /// What it has.
        cursor: i64,
    },
    /// A resume was answered.
    Resumed {
        /// The chat.
        chat_id: Arc<str>,
        /// How far.
        to_seq: i64,
        /// Whether that was all.
        complete: bool,
    },
    /// How far others are; only if asked for in the options.
    Receipt {
        /// The chat.
        chat_id: Arc<str>,
        /// By person.
        users: HashMap<String, Marked>,
    },
}

/// An event of a chat.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The chat.
    pub chat_id: Arc<str>,
    /// Its place.
    pub seq: i64,
    /// The frame's name: `message`, `message_edited`, `member_joined`, …, also one that this client doesn't know.
    pub kind: Cow<'static, str>,
    /// Of a message.
    pub message_id: Option<Uuid>,
    /// `seq` of the message's first event.
    pub message_seq: Option<i64>,
    /// Of a message.
    pub sender_id: Option<Box<str>>,
    /// Who made the change.
    pub actor_id: Option<Box<str>>,
    /// Of a message that isn't deleted.
    pub content: Option<String>,
    /// Files of a message that isn't deleted.
    pub attachments: Vec<Attachment>,
    /// Of `chat_created` and `member_…`.
    pub memberships: Vec<Member>,
    /// How it came.
    pub via: Via,
}

/// How an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// As it happened.
    Live,
    /// While a resume of its chat was under way.
    Sync,
}

/// What a perfect stream of frames wouldn't show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anomaly {
    /// A frame came twice on one connection, with no resume to explain it.
    Repeated,
    /// `seq` jumped: frames before this one are missing, or late.
    Gap,
    /// A frame came after one with a higher `seq`, with no resume to explain it.
    Late,
}

/// Takes a client's observations, one by one, in order. A client waits for its sink: a slow one makes a slow client.
pub trait Sink: Send + 'static {
    /// Takes one.
    fn observe(&mut self, observed: Observed) -> impl Future<Output = ()> + Send;
}

impl<F: FnMut(Observed) + Send + 'static> Sink for F {
    fn observe(&mut self, observed: Observed) -> impl Future<Output = ()> + Send {
        self(observed);
        std::future::ready(())
    }
}

/// A sink that is a bounded channel. Once its receiver is gone, observations are dropped.
#[derive(Debug, Clone)]
pub struct Channel(pub mpsc::Sender<Observed>);

impl Sink for Channel {
    async fn observe(&mut self, observed: Observed) {
        let _ = self.0.send(observed).await;
    }
}

/// Two sinks that both get everything, such as a history on disk and a test.
#[derive(Debug, Clone)]
pub struct Both<A, B>(pub A, pub B);

impl<A: Sink, B: Sink> Sink for Both<A, B> {
    async fn observe(&mut self, observed: Observed) {
        self.0.observe(observed.clone()).await;
        self.1.observe(observed).await;
    }
}
