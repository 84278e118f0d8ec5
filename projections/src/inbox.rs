//! Projection `inbox`: messages that have not reached a member yet.
//!
//! Its two inputs run in loops of their own, since a chat's events and its members' cursors are in different
//! partitions: `events` makes rows, [`cursors`] marks them delivered. `events` stays `projector.inbox_delay_ms` behind
//! the history, so that for people who are online the cursor is there first and no row is made; cursors never wait.
//!
//! *At rest*, when both topics are read to their ends and the sweep has passed, the rows that aren't delivered are
//! these and no others: one for each message and each member in whose open stay it was sent, other than its sender,
//! whose cursor is below the message's `seq`; none for a message to more than `projector.inbox_members` members, of which the
//! cursors say the same. The delay and the order in which the two topics are read decide how many
//! rows are made and marked on the way, never which are left.
//!
//! *A row that is made while its cursor arrives* in the other loop misses the mark, as neither transaction sees the
//! other's row. The janitor's sweep finds it ([`crate::janitor`]).
//!
//! *Leaving* a chat removes the member's rows in it: nobody can fetch them any more. *Deleting* a message sets
//! `is_deleted` on its rows, which stay until delivered, as the tombstone has to be.

mod cursors;
mod events;

use std::sync::Arc;
use std::time::Duration;

use runtime::Config;
use schemas::{ChatEvent, Cursor};
use uuid::Uuid;

use crate::error::Error;
use crate::projection::Projection;
use crate::rebuild::{Pass, Replay};

pub use cursors::CursorState;
pub use events::EventState;

/// A row that the janitor won't mark and remove.
const STILL_WAITS: &str = "NOT r.is_delivered AND NOT EXISTS (
    SELECT FROM inbox_cursor c
     WHERE c.chat_id = r.chat_id AND c.user_id = r.user_id AND c.delivered_seq >= r.sequence_number)";

/// The projection, for both inputs.
#[derive(Debug, Clone, Copy)]
pub struct Inbox {
    delay: Duration,
    most_members: usize,
}

impl Inbox {
    /// An inbox that stays this far behind the history, and in which messages to more members than that aren't.
    pub fn new(delay: Duration, most_members: usize) -> Self {
        Self { delay, most_members }
    }

    /// As `[projector]` has it.
    pub fn of(config: &Config) -> Self {
        Self::new(Duration::from_millis(config.projector.inbox_delay_ms), config.projector.inbox_members)
    }
}

/// A message that waits for a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of the table")]
pub struct PendingRow {
    pub message_id: Uuid,
    pub created_at: i64,
    pub is_deleted: bool,
}

impl Projection for Inbox {
    const NAME: &'static str = "inbox";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["inbox", "inbox_member", "inbox_cursor"];

    fn decided(table: &str) -> &'static str {
        if table == "inbox" { STILL_WAITS } else { "true" }
    }
}

impl Replay for Inbox {
    const HAS_PAST: bool = false;
    const IRREPLACEABLE: &'static [(&'static str, &'static str)] = &[("inbox_cursor", "chat_id, user_id")];

    fn settings(&self) -> String {
        format!("most members {}", self.most_members)
    }

    /// Cursors first: only messages that are still waited for make rows then.
    async fn replay(self: Arc<Self>, pass: Arc<Pass>) -> Result<(), Error> {
        pass.input::<Self, Cursor>(&self).await?;
        pass.input::<Self, ChatEvent>(&self).await
    }
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
