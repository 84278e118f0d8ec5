//! What is in Kafka, what the slot may be told, and when something has to be said.
//!
//! Pure: time comes in as an argument. Three rules live here.
//!
//! - The slot is confirmed up to a `confirmable` that is committed in Kafka, never further; what was received is reported
//!   as written, which keeps the server from asking at every step.
//! - An idle slot moves by transactions that hold a position only: at most one every [`IDLE_POSITION`], or at once when
//!   the server asks for a reply and nothing else is on its way, since a server that shuts down waits for just that.
//! - A reply is given when the server asks or by a timer. While Kafka is away an asking server is answered once a
//!   second: answering at once would make it ask again at once. One that goes on asking is shutting down.

use std::time::{Duration, Instant};

use crate::lsn::Lsn;
use crate::transaction::Place;

/// Least time between transactions that only move an idle slot.
pub const IDLE_POSITION: Duration = Duration::from_secs(10);
/// Longest that a server's question waits for a better answer.
const REPLY_WITHIN: Duration = Duration::from_secs(1);
/// Least time between unasked reports that say something new.
const REPORT_NEWS: Duration = Duration::from_millis(500);
/// Least time between unasked reports that don't.
const REPORT_ALIVE: Duration = Duration::from_secs(5);
/// Unsatisfied questions that mean that the server is shutting down.
const STOPPING_ASKS: u32 = 4;

/// A state of the slot's publication, as a position record holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Last published row.
    pub place: Place,
    /// Up to here the slot may be confirmed.
    pub confirmable: Lsn,
}

/// What is told to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feedback {
    /// Received up to here.
    pub written: Lsn,
    /// In Kafka up to here.
    pub flushed: Lsn,
}

/// Follows what was handed to Kafka and what has been committed there.
#[derive(Debug)]
pub struct Progress {
    handed: u64,
    committed: u64,
    mark: Mark,
    last_transaction: Instant,
    asked: Option<Asked>,
    asks: u32,
    last_report: Instant,
    reported: Option<Feedback>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    since: Instant,
    wal_end: Lsn,
}

impl Progress {
    /// A connection that starts from a stored mark.
    pub const fn new(stored: Mark, now: Instant) -> Self {
        Self {
            handed: 0,
            committed: 0,
            mark: stored,
            last_transaction: now,
            asked: None,
            asks: 0,
            last_report: now,
            reported: None,
        }
    }

    /// Something goes to Kafka; returns its number.
    pub const fn hand(&mut self, now: Instant) -> u64 {
        self.handed += 1;
        self.last_transaction = now;
        self.handed
    }

    /// Everything up to a number is committed in Kafka.
    pub fn commit(&mut self, number: u64, mark: Mark) {
        self.committed = self.committed.max(number);
        self.mark = mark;
        if self.asked.is_none_or(|asked| asked.wal_end <= mark.confirmable) {
            self.asks = 0;
        }
    }

    /// Whether everything handed over is committed.
    pub const fn is_idle(&self) -> bool {
        self.handed == self.committed
    }

    /// What is committed.
    pub const fn committed(&self) -> Mark {
        self.mark
    }

    /// Number of the last thing handed over.
    pub const fn handed(&self) -> u64 {
        self.handed
    }

    /// The server asks for a reply.
    pub fn ask(&mut self, wal_end: Lsn, now: Instant) {
        if wal_end > self.mark.confirmable {
            self.asks += 1;
        }
        let since = self.asked.map_or(now, |asked| asked.since);
        self.asked = Some(Asked { since, wal_end });
    }

    /// The server keeps asking for what can't be confirmed now: it waits for us to let it stop.
    pub const fn is_server_stopping(&self) -> bool {
        self.asks >= STOPPING_ASKS
    }

    /// Whether it is time for a transaction that holds a position only, when everything up to `complete` was seen whole.
    pub fn wants_position(&self, complete: Lsn, now: Instant) -> bool {
        let is_due = self.asked.is_some() || now.duration_since(self.last_transaction) >= IDLE_POSITION;
        self.is_idle() && complete > self.mark.confirmable && is_due
    }

    /// What to tell the server now, if anything.
    pub fn report(&mut self, received: Lsn, now: Instant) -> Option<Feedback> {
        let flushed = self.mark.confirmable;
        let feedback = Feedback { written: received.max(flushed), flushed };
        let since_report = now.duration_since(self.last_report);
        let has_news = self.reported != Some(feedback);
        let is_due = match self.asked {
            Some(asked) if self.is_idle() && asked.wal_end <= flushed => true,
            Some(asked) => now.duration_since(asked.since) >= REPLY_WITHIN,
            None => since_report >= if has_news { REPORT_NEWS } else { REPORT_ALIVE },
        };
        is_due.then(|| self.note(feedback, now))
    }

    /// What to tell the server before leaving.
    pub fn last_report(&mut self, received: Lsn, now: Instant) -> Feedback {
        let flushed = self.mark.confirmable;
        self.note(Feedback { written: received.max(flushed), flushed }, now)
    }

    fn note(&mut self, feedback: Feedback, now: Instant) -> Feedback {
        self.asked = None;
        self.last_report = now;
        self.reported = Some(feedback);
        feedback
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
