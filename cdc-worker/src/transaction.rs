//! Where the stream stands: which row is new, and up to where everything has been seen.
//!
//! Pure. A row's place is the LSN of its transaction's commit record and its number among the published rows of that
//! transaction: the LSN alone would be shared by all of them. Begin already carries it, so rows go out before the
//! transaction's end has arrived.
//!
//! The server sends again what it isn't sure we have, from the start of the transaction. Whatever lies at or below the
//! stored place is dropped here, whole transactions and the first part of a cut one alike. A row past it, in a transaction
//! that ends where everything was seen whole before, was never there before: this isn't the log that was read then.

use crate::lsn::Lsn;

/// Place of a published row. Ordered as the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// LSN of the transaction's commit record.
    pub commit_lsn: Lsn,
    /// Number among its published rows, from 0.
    pub ordinal: i64,
}

impl Place {
    /// Before the first row.
    pub const START: Self = Self { commit_lsn: Lsn::ZERO, ordinal: -1 };
}

/// A stream that isn't in order. Definite: nothing after it can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A transaction within another.
    #[error("transaction {next} begins inside transaction {open}")]
    Nested {
        /// The open one.
        open: Lsn,
        /// The new one.
        next: Lsn,
    },
    /// A transaction before one that was seen.
    #[error("transaction {next} comes after {last}")]
    Backwards {
        /// The latest one.
        last: Lsn,
        /// The new one.
        next: Lsn,
    },
    /// A row or an end outside any transaction.
    #[error("{0} outside any transaction")]
    Outside(&'static str),
    /// A row where all rows were published before, and this one wasn't.
    #[error("a row at {at}, where everything up to {whole} had been seen without it")]
    OtherLog {
        /// Commit of its transaction.
        at: Lsn,
        /// Seen whole up to here.
        whole: Lsn,
    },
    /// An end that doesn't belong to the open transaction.
    #[error("commit {found} ends transaction {open}")]
    OtherCommit {
        /// The open one.
        open: Lsn,
        /// What the end says.
        found: Lsn,
    },
}

#[derive(Debug, Clone, Copy)]
struct Open {
    commit_lsn: Lsn,
    next_ordinal: i64,
}

/// Follows the stream of one connection.
#[derive(Debug)]
pub struct Tracker {
    stored: Place,
    /// Every transaction that ends at or before here was seen whole when the place was stored.
    whole: Lsn,
    open: Option<Open>,
    last_begun: Lsn,
    complete: Lsn,
    received: Lsn,
}

impl Tracker {
    /// A stream that continues after `stored`, whose everything up to `confirmable` has been published.
    pub const fn new(stored: Place, confirmable: Lsn) -> Self {
        Self {
            stored,
            whole: confirmable,
            open: None,
            last_begun: Lsn::ZERO,
            complete: confirmable,
            received: confirmable,
        }
    }

    /// A transaction begins.
    pub fn begin(&mut self, commit_lsn: Lsn) -> Result<(), OrderError> {
        if let Some(open) = self.open {
            return Err(OrderError::Nested { open: open.commit_lsn, next: commit_lsn });
        }
        if commit_lsn <= self.last_begun {
            return Err(OrderError::Backwards { last: self.last_begun, next: commit_lsn });
        }
        self.last_begun = commit_lsn;
        self.open = Some(Open { commit_lsn, next_ordinal: 0 });
        Ok(())
    }

    /// A published row: its place, or `None` if it was published before.
    pub fn row(&mut self) -> Result<Option<Place>, OrderError> {
        let open = self.open.as_mut().ok_or(OrderError::Outside("a row"))?;
        let place = Place { commit_lsn: open.commit_lsn, ordinal: open.next_ordinal };
        open.next_ordinal += 1;
        if place <= self.stored {
            return Ok(None);
        }
        if place.commit_lsn < self.whole {
            return Err(OrderError::OtherLog { at: place.commit_lsn, whole: self.whole });
        }
        Ok(Some(place))
    }

    /// The transaction ends; `end_lsn` is the first byte after its commit record.
    pub fn commit(&mut self, commit_lsn: Lsn, end_lsn: Lsn) -> Result<(), OrderError> {
        let open = self.open.take().ok_or(OrderError::Outside("a commit"))?;
        if open.commit_lsn != commit_lsn {
            return Err(OrderError::OtherCommit { open: open.commit_lsn, found: commit_lsn });
        }
        self.complete = self.complete.max(end_lsn);
        self.received = self.received.max(end_lsn);
        Ok(())
    }

    /// The server has nothing for us before `wal_end`, or is inside a transaction that we haven't seen the end of.
    pub fn keepalive(&mut self, wal_end: Lsn) {
        self.received = self.received.max(wal_end);
        if self.open.is_none() {
            self.complete = self.complete.max(wal_end);
        }
    }

    /// Data arrived that the server read up to here.
    pub fn received(&mut self, lsn: Lsn) {
        self.received = self.received.max(lsn);
    }

    /// Every transaction that ends at or before here has been seen whole. The slot may be confirmed up to here once what
    /// was seen is published.
    pub const fn complete_lsn(&self) -> Lsn {
        self.complete
    }

    /// The furthest that the server has spoken of.
    pub const fn received_lsn(&self) -> Lsn {
        self.received
    }

    /// Commit LSN of the open transaction.
    pub fn open_lsn(&self) -> Option<Lsn> {
        self.open.map(|open| open.commit_lsn)
    }
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
