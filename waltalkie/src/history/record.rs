//! A line of the history, in the types of Jepsen's histories.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use waltalkie_client::{Action, Member, Observation, Via};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Microseconds since the history began.
    pub at_us: u64,
    /// Which client; one person may have several.
    pub client: Box<str>,
    /// The person.
    pub user_id: Box<str>,
    /// What kind of line it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What it is about.
    #[serde(flatten)]
    pub op: Op,
}

/// The four types of Jepsen's histories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was asked for: from here on it may happen.
    Invoke,
    /// It happened.
    Ok,
    /// It did not happen, and never will.
    Fail,
    /// It may have happened; or something to know that nobody asked for.
    Info,
}

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// A send, edit or delete.
    Command {
        /// Identity; of a send its message id.
        op_id: Uuid,
        /// The chat and what is done; on `invoke` only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        what: Option<What>,
        /// `seq` of the event; on `ok` only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<i64>,
        /// Why not; on `fail`, and on `info` of a refusal for now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
    /// The first level of a command's acks (`info`).
    Accepted {
        /// The command.
        op_id: Uuid,
    },
    /// A command's frame went out (`info`).
    Sent {
        /// The command.
        op_id: Uuid,
        /// Earlier times.
        attempt: u32,
    },
    /// An event that was shown to the person (`ok`).
    Receive {
        /// The chat.
        chat_id: Box<str>,
        /// Its place.
        seq: i64,
        /// The frame's name.
        event: String,
        /// Of a message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_id: Option<Uuid>,
        /// Of a message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_seq: Option<i64>,
        /// Of a message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sender_id: Option<Box<str>>,
        /// Of a message that isn't deleted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        /// Of joins, leaves and new chats.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        memberships: Vec<Member>,
        /// `live`, `sync` or `inbox`.
        via: Cause,
    },
    /// Seqs that this person isn't shown (`ok`).
    Skipped {
        /// The chat.
        chat_id: Box<str>,
        /// First.
        from_seq: i64,
        /// Last.
        to_seq: i64,
    },
    /// A chat was announced, and its cursor stands here (`info`).
    Chat {
        /// The chat.
        chat_id: Box<str>,
        /// Its head.
        head_seq: i64,
        /// The cursor.
        cursor: i64,
    },
    /// A frame out of place, which the client mended (`info`).
    Anomaly {
        /// The chat.
        chat_id: Box<str>,
        /// The event.
        seq: i64,
        /// `repeated`, `gap` or `late`.
        kind: String,
    },
    /// A connection was opened (`info`).
    Open {
        /// The server's name for it.
        session_id: String,
    },
    /// A connection ended (`info`).
    Close {
        /// Its code; none if it broke.
        code: Option<u16>,
    },
    /// Whatever else a test wants to remember, such as a fault (`info`).
    Note {
        /// For people.
        text: String,
    },
}

/// The chat of a command and what it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct What {
    /// The chat.
    pub chat_id: Box<str>,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

/// How an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// As it happened.
    Live,
    /// By a resume.
    Sync,
    /// By the inbox.
    Inbox,
}

/// The line that an observation becomes; none for what no checker looks at.
pub fn record_of(what: Observation) -> Option<(Kind, Op)> {
    let command = |op_id, seq, code| Op::Command { op_id, what: None, seq, code };
    Some(match what {
        Observation::Invoked(asked) => {
            let what = What { chat_id: (&*asked.chat_id).into(), action: asked.action };
            (Kind::Invoke, Op::Command { op_id: asked.op_id, what: Some(what), seq: None, code: None })
        }
        Observation::Sent { op_id, attempt } => (Kind::Info, Op::Sent { op_id, attempt }),
        Observation::Accepted { op_id } => (Kind::Info, Op::Accepted { op_id }),
        Observation::Persisted { op_id, seq } => (Kind::Ok, command(op_id, seq, None)),
        Observation::Refused { op_id, code } => (Kind::Fail, command(op_id, None, Some(code))),
        Observation::Postponed { op_id, code } => (Kind::Info, command(op_id, None, Some(code))),
        Observation::Unknown { op_id } => (Kind::Info, command(op_id, None, None)),
        Observation::Event(event) => {
            let via = match event.via {
                Via::Live => Cause::Live,
                Via::Sync => Cause::Sync,
            };
            let op = Op::Receive {
                chat_id: (&*event.chat_id).into(),
                seq: event.seq,
                event: event.kind.into_owned(),
                message_id: event.message_id,
                message_seq: event.message_seq,
                sender_id: event.sender_id,
                content: event.content,
                memberships: event.memberships,
                via,
            };
            (Kind::Ok, op)
        }
        Observation::Skipped { chat_id, from_seq, to_seq, .. } => {
            (Kind::Ok, Op::Skipped { chat_id: (&*chat_id).into(), from_seq, to_seq })
        }
        Observation::Chat { chat_id, head_seq, cursor } => {
            (Kind::Info, Op::Chat { chat_id: (&*chat_id).into(), head_seq, cursor })
        }
        Observation::Anomaly { chat_id, seq, kind } => {
            (Kind::Info, Op::Anomaly { chat_id: (&*chat_id).into(), seq, kind: format!("{kind:?}").to_lowercase() })
        }
        Observation::Opened { session_id, .. } => (Kind::Info, Op::Open { session_id }),
        Observation::Closed { code } => (Kind::Info, Op::Close { code }),
        Observation::OtherEpoch { epoch } => (Kind::Info, Op::Note { text: format!("epoch is {epoch} now") }),
        Observation::Error { code, message, .. } => (Kind::Info, Op::Note { text: format!("error {code}: {message}") }),
        Observation::ConnectFailed { status, reason } => {
            (Kind::Info, Op::Note { text: format!("no connection: {status:?} {reason}") })
        }
        Observation::InStep
        | Observation::Resuming { .. }
        | Observation::Resumed { .. }
        | Observation::Receipt { .. } => return None,
    })
}
