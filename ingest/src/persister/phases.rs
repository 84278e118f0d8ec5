//! Where a batch's time goes: phases of its transaction, one after another, and the decoding beside it.

use std::time::Instant;

use crate::metrics;

/// A part of a batch's way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    /// Records into commands, while the batch before is in its transaction.
    Decode,
    /// A connection, and BEGIN.
    Begin,
    /// The chats' counters, with the wait for whoever holds them.
    Lock,
    /// Settings, members, keys and files.
    LookUp,
    /// The sequencer; no I/O.
    Decide,
    /// Keys, rows, state, results and offsets.
    Insert,
    /// COMMIT: the log on disk, and on a synchronous standby.
    Commit,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Begin => "begin",
            Self::Lock => "lock",
            Self::LookUp => "lookup",
            Self::Decide => "decide",
            Self::Insert => "insert",
            Self::Commit => "commit",
        }
    }
}

/// Goes from one phase to the next. A phase that fails isn't counted.
pub(super) struct Stopwatch {
    since: Instant,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self { since: Instant::now() }
    }

    pub(super) fn end(&mut self, phase: Phase) {
        let now = Instant::now();
        metrics::phase_passed(phase.name(), now - self.since);
        self.since = now;
    }
}
