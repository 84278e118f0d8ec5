//! What is told while the history is being completed, and at the end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemas::history::Range;
use serde::Serialize;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A worker streams the slot; it has to be stopped.
    WaitingForLease,
    /// The history is being read.
    ReadingLog {
        /// Offsets passed.
        done: u64,
        /// Offsets to pass.
        total: u64,
    },
    /// The history is compared with the tables.
    Comparing {
        /// Chats looked at.
        chats: u64,
    },
    /// The slot is being made: transactions that are open anywhere on the server are waited for.
    MakingSlot,
    /// Rows are being published out of the tables.
    Adding {
        /// Events published.
        done: u64,
        /// Events to publish.
        total: u64,
    },
    /// The slot's stream is followed up to where it takes over.
    Following {
        /// Rows published that weren't in the tables when those were read.
        added: u64,
    },
}

/// Who is told; nobody by default.
#[derive(Clone, Default)]
pub struct Report {
    listener: Option<Arc<dyn Fn(Step) + Send + Sync>>,
    followed: Arc<AtomicU64>,
}

impl Report {
    /// Calls a function at each step, often.
    pub fn to(listener: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self { listener: Some(Arc::new(listener)), followed: Arc::default() }
    }

    pub(crate) fn tell(&self, step: Step) {
        if let Step::Following { added } = step {
            self.followed.store(added, Ordering::Relaxed);
        }
        if let Some(listener) = &self.listener {
            listener(step);
        }
    }

    /// Rows that came by the stream.
    pub(crate) fn followed(&self) -> u64 {
        self.followed.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Report").finish_non_exhaustive()
    }
}

/// What was done, or would be.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Slot.
    pub slot: String,
    /// Nothing was changed, only looked at.
    pub is_dry_run: bool,
    /// The history was complete and the slot fits it: nothing was changed.
    pub was_whole: bool,
    /// An earlier run was gone on with.
    pub was_resumed: bool,
    /// Whether the slot was made, or would be.
    pub makes_slot: bool,
    /// Events that the history held before.
    pub events_before: u64,
    /// Events that the tables had and the history hadn't; published, unless it was a dry run.
    pub events_added: u64,
    /// In so many chats.
    pub chats: u64,
    /// People whose profile was missing or old on the topic of people.
    pub users: u64,
    /// Rows that were written meanwhile and came by the slot.
    pub rows_followed: u64,
    /// How long it took.
    pub seconds: f64,
    /// Why a plain worker wouldn't have started; for the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_because: Option<String>,
}

impl Summary {
    pub(crate) fn count(&mut self, missing: &[Range]) {
        self.events_added = missing.iter().map(Range::len).sum::<i64>() as u64;
        self.chats = missing.len() as u64;
    }
}
