//! What keeps a history from being completed.

/// Why it ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// What the history holds isn't the beginning of what the tables hold. Nothing was changed.
    #[error(
        "{place}: {problem}. So chat.events isn't the beginning of what the tables hold, and can't be completed: it needs a new \
         generation; docs/operators.md, \"A new generation of the history\", says how"
    )]
    NotAPrefix {
        /// Chat, person or partition.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// The tables lack a row.
    #[error(
        "chat {chat_id}: the tables have no row of seq {expected}, but one of {found}. A chat's seq runs without gaps: rows were \
         lost or removed by hand. Bring them back from a backup, then run this again"
    )]
    Hole {
        /// Chat.
        chat_id: String,
        /// Seq that was to come.
        expected: i64,
        /// Seq that came.
        found: i64,
    },
    /// A row of the stream doesn't follow what was published.
    #[error(
        "chat {chat_id}: the stream shows seq {seq} after {after}, so a row between them was in neither the tables nor the slot. \
         Nothing after {after} was published; run this again, it reads the tables anew"
    )]
    Gap {
        /// Chat.
        chat_id: String,
        /// Seq in the stream.
        seq: i64,
        /// The chat's head in the history.
        after: i64,
    },
    /// A row that is no event.
    #[error("{row} can't be published")]
    Row {
        /// Which, and the way past it.
        row: String,
        /// Why.
        #[source]
        source: schemas::history::HistoryError,
    },
    /// Somebody made the slot at the same moment.
    #[error("somebody else made slot {0} at the same moment: run this again once they are done")]
    OtherSlot(String),
    /// Another worker took the lease.
    #[error(
        "the lease was lost: Postgres didn't answer in time, or another worker took over. Run this again, it goes on where it \
         was stopped"
    )]
    LeaseLost,
    /// The server shuts down.
    #[error("Postgres is shutting down. Run this again once it is back, it goes on where it was stopped")]
    ServerStopping,
    /// Told to stop.
    #[error(
        "stopped. The history isn't whole yet and workers wait for it: run this again, it goes on where it was stopped"
    )]
    Stopped,
}

impl Fault {
    /// Whether running again can help without anything else being done.
    pub(crate) const fn is_transient(&self) -> bool {
        matches!(self, Self::Gap { .. } | Self::LeaseLost | Self::ServerStopping | Self::Stopped)
    }
}
