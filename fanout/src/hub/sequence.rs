//! One chat's events in order: from live events that may be lost, repeated, late or early, from heads, and from what was
//! read again, to each `seq` once. A state machine: no I/O, no clock of its own.
//!
//! *Guarantee.* [`Sequence::pop`] gives `start+1, start+2, …` without hole or repeat, whatever comes in. If heads and
//! reads go on working, it comes to every head.

use std::collections::BTreeMap;

/// Events that may wait behind a gap. More are read again instead.
const WAITING: usize = 256;
/// Most events asked for in one read.
pub(crate) const PAGE: i64 = 100;
/// Heads come from Postgres and run ahead of the stream: only one that is still missing after this long is a gap.
pub(crate) const HEAD_PATIENCE_MS: u64 = 1_000;
/// First pause after a read that brought nothing.
const RETRY_FIRST_MS: u64 = 20;
const RETRY_MOST_MS: u64 = 2_000;

/// A chat's place in its history.
#[derive(Debug)]
pub(crate) struct Sequence<T> {
    last: i64,
    waiting: BTreeMap<i64, T>,
    /// Events up to here exist for certain.
    wanted: i64,
    /// A head that the stream may still bring, and since when it is known.
    suspected: Option<(i64, u64)>,
    /// The newest head that was heard after that one.
    suspected_next: Option<(i64, u64)>,
    is_reading: bool,
    failures: u32,
    retry_at_ms: u64,
}

impl<T> Sequence<T> {
    /// Everything up to `last` counts as delivered.
    pub(crate) fn new(last: i64) -> Self {
        Self {
            last,
            waiting: BTreeMap::new(),
            wanted: last,
            suspected: None,
            suspected_next: None,
            is_reading: false,
            failures: 0,
            retry_at_ms: 0,
        }
    }

    /// The last event that was popped.
    pub(crate) fn last(&self) -> i64 {
        self.last
    }

    /// An event came by itself.
    pub(crate) fn live(&mut self, seq: i64, event: T) {
        if seq <= self.last {
            return;
        }
        self.wanted = self.wanted.max(seq);
        if self.waiting.len() >= WAITING {
            match self.waiting.last_key_value() {
                Some((&latest, _)) if latest > seq => drop(self.waiting.pop_last()),
                _ => return,
            }
        }
        self.waiting.insert(seq, event);
    }

    /// The chat is known to have come to `seq`. `is_late` when the stream can't be on its way with it any more.
    pub(crate) fn head(&mut self, seq: i64, is_late: bool, now_ms: u64) {
        if seq <= self.last {
            return;
        }
        if is_late {
            self.wanted = self.wanted.max(seq);
        } else if self.suspected.is_none_or(|(known, _)| known <= self.last) {
            self.suspected = Some((seq, now_ms));
        } else if self.suspected.is_some_and(|(known, _)| known < seq) {
            self.suspected_next = Some((seq, now_ms));
        }
    }

    /// The next event in order, if it is here.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let next = self.last + 1;
        let event = self.waiting.remove(&next)?;
        if self.waiting.is_empty() {
            // An emptied tree keeps a leaf with room for eleven events: kilobytes for each chat at rest.
            self.waiting = BTreeMap::new();
        }
        self.last = next;
        Some(event)
    }

    /// Goes to a head without what is before it. Only while nobody listens.
    pub(crate) fn skip_to(&mut self, head: i64) {
        if head > self.last {
            self.last = head;
            self.waiting = self.waiting.split_off(&(head + 1));
        }
    }

    /// The range to read now. One read at a time: the next is told after [`Sequence::healed`] or [`Sequence::failed`].
    pub(crate) fn read(&mut self, now_ms: u64) -> Option<(i64, i64)> {
        while let Some((seq, since_ms)) = self.suspected {
            if seq > self.last {
                if now_ms.saturating_sub(since_ms) < HEAD_PATIENCE_MS {
                    break;
                }
                self.wanted = self.wanted.max(seq);
            }
            self.suspected = self.suspected_next.take();
        }
        let from = self.last + 1;
        let to = self.waiting.first_key_value().map_or(self.wanted, |(&first, _)| first - 1);
        if self.is_reading || to < from || now_ms < self.retry_at_ms {
            return None;
        }
        self.is_reading = true;
        Some((from, to.min(from + PAGE - 1)))
    }

    /// What a read brought, in order; may be less than was asked for.
    pub(crate) fn healed(&mut self, events: Vec<(i64, T)>, now_ms: u64) {
        let next = self.last + 1;
        let is_progress = events.iter().any(|(seq, _)| *seq == next) || self.waiting.contains_key(&next);
        for (seq, event) in events {
            if seq > self.last {
                // What was read last is newer: a body that was deleted meanwhile isn't in it.
                self.waiting.insert(seq, event);
            }
        }
        self.is_reading = false;
        if is_progress {
            self.failures = 0;
            self.retry_at_ms = 0;
        } else {
            self.wait(now_ms);
        }
    }

    /// A read failed.
    pub(crate) fn failed(&mut self, now_ms: u64) {
        self.is_reading = false;
        self.wait(now_ms);
    }

    fn wait(&mut self, now_ms: u64) {
        let pause_ms = (RETRY_FIRST_MS << self.failures.min(10)).min(RETRY_MOST_MS);
        self.failures = self.failures.saturating_add(1);
        self.retry_at_ms = now_ms + pause_ms;
    }

    /// Whether nothing is missing as far as is known; otherwise [`Sequence::read`] has to be asked from time to time.
    pub(crate) fn is_settled(&self) -> bool {
        let is_reached = |head: Option<(i64, u64)>| head.is_none_or(|(seq, _)| seq <= self.last);
        self.wanted <= self.last && is_reached(self.suspected) && is_reached(self.suspected_next)
    }
}

#[cfg(test)]
#[path = "sequence_tests.rs"]
mod tests;
