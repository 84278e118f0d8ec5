//! What the checker judges: what clients did and saw, and what tables, log and read models hold at the end.

use schemas::ChatEvent;

/// Everything that is known after a run, when the system is at rest.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// One for each client, with what it did and saw in its own order.
    pub observers: Vec<Observer>,
    /// Rows of `message` and `chat_change` as events; those of a chat in the order of their `seq`.
    pub truth: Vec<ChatEvent>,
    /// Rows of `chat_member`.
    pub stays: Vec<Stay>,
    /// `chat.events`, read committed; those of a chat in the order of the log.
    pub log: Vec<ChatEvent>,
    /// The read models.
    pub read: ReadModels,
}

/// One client: a person at one device, over all its connections.
#[derive(Debug, Clone, Default)]
pub struct Observer {
    /// What findings call it.
    pub name: String,
    /// Whose it is.
    pub user_id: String,
    /// In the order in which they happened.
    pub records: Vec<Record>,
}

/// One entry of a client's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A connection was opened: what follows arrived on it.
    Opened,
    /// The connection shows a chat's events after this `seq`.
    Starts {
        /// Chat.
        chat_id: String,
        /// The cursor.
        seq: i64,
    },
    /// A send was acknowledged as persisted.
    Acked {
        /// Chat.
        chat_id: String,
        /// Message.
        message_id: String,
        /// The acknowledged place.
        seq: i64,
    },
    /// A send was refused for good: it must never be seen.
    Failed {
        /// Message.
        message_id: String,
    },
    /// A send whose outcome isn't known: it may have happened.
    Unknown {
        /// Message.
        message_id: String,
    },
    /// A frame came out of place and the client mended it: `repeated`, `late`, or `gap`, which clients must expect.
    Mended {
        /// Chat.
        chat_id: String,
        /// Place.
        seq: i64,
        /// What was wrong.
        kind: String,
    },
    /// An event was shown.
    Seen(Seen),
}

/// An event as a client was shown it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Chat.
    pub chat_id: String,
    /// The event's place.
    pub seq: i64,
    /// The last place of a `skipped` range; equal to `seq` for all others.
    pub to_seq: i64,
    /// The frame's event: `message`, `message_edited`, `member_joined`, `skipped`, …
    pub frame: String,
    /// Message that it is about.
    pub message_id: Option<String>,
    /// Place at which that message was sent.
    pub message_seq: Option<i64>,
    /// Its body.
    pub content: Option<String>,
}

/// A row of `chat_member` or of projection `membership`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the columns of the tables")]
pub struct Stay {
    pub chat_id: String,
    pub user_id: String,
    pub joined_seq: i64,
    pub left_seq: Option<i64>,
    pub visible_from_seq: i64,
}

impl Stay {
    /// Whether it shows the event at `seq` to its member.
    pub fn shows(&self, seq: i64) -> bool {
        seq >= self.visible_from_seq && self.left_seq.is_none_or(|left| seq <= left)
    }
}

/// The tables of the read database.
#[derive(Debug, Clone, Default)]
pub struct ReadModels {
    /// Projection `membership`.
    pub membership: Vec<Stay>,
    /// Projection `chat_head`.
    pub heads: Vec<Head>,
    /// Projection `inbox`: rows that are not delivered.
    pub pending: Vec<Pending>,
    /// Projection `cursor`: chat, person and the delivered `seq`.
    pub delivered: Vec<(String, String, i64)>,
}

/// A row of projection `chat_head`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the columns of the table")]
pub struct Head {
    pub chat_id: String,
    pub head_seq: i64,
    pub message_seq: Option<i64>,
    pub content: Option<String>,
}

/// A message that waits for a member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the columns of the table")]
pub struct Pending {
    pub chat_id: String,
    pub seq: i64,
    pub user_id: String,
}
