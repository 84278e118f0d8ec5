//! How far a rebuild is, for whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts of the pass that is going on.
#[derive(Debug, Default)]
pub struct Progress {
    read: AtomicU64,
    expected: AtomicU64,
    phase: Mutex<String>,
}

impl Progress {
    /// What is being done, and the records that have been read and were expected since the beginning. Offsets stand for
    /// records, so that the last of them need not be reached: logs of transactions have offsets without a record.
    pub fn now(&self) -> (String, u64, u64) {
        let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (phase, self.read.load(Ordering::Relaxed), self.expected.load(Ordering::Relaxed))
    }

    pub(super) fn phase(&self, phase: impl Into<String>) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase.into();
    }

    pub(super) fn expect(&self, records: u64) {
        self.expected.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn read(&self, records: u64) {
        self.read.fetch_add(records, Ordering::Relaxed);
    }
}
