//! The cursor of one chat: the highest `seq` up to which everything was seen.
//!
//! Only events and `skipped` ranges move it, strictly in order. What comes early waits by `seq`; what comes twice is
//! dropped. An ack never gets here: it may overtake the events before it.

use std::collections::BTreeMap;

/// Things that may wait for a gap to close. What is beyond is dropped; the resume brings it again.
const MOST_WAITING: usize = 1_000;

/// A chat's place, with what came early.
#[derive(Debug)]
pub(crate) struct Cursor<E> {
    at: i64,
    head: i64,
    /// First `seq` of an item → its last `seq`, and the item.
    waiting: BTreeMap<i64, (i64, E)>,
}

/// How an item stood to the cursor when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Next, as it should be.
    InOrder,
    /// Seen before.
    Repeat,
    /// Something before it is missing, and it is the highest so far.
    Early,
    /// It fills a hole, or part of one.
    Filling,
}

impl<E> Cursor<E> {
    pub(crate) fn new(at: i64) -> Self {
        Self { at, head: at, waiting: BTreeMap::new() }
    }

    /// The highest contiguous `seq`.
    pub(crate) fn at(&self) -> i64 {
        self.at
    }

    /// The highest `seq` that anything told of.
    pub(crate) fn head(&self) -> i64 {
        self.head
    }

    /// Something is missing.
    pub(crate) fn is_behind(&self) -> bool {
        self.head > self.at
    }

    /// Something later is here, so what is between was lost or overtaken.
    pub(crate) fn has_gap(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Learns of a head.
    pub(crate) fn observe_head(&mut self, head: i64) {
        self.head = self.head.max(head);
    }

    /// Takes what covers `from ..= to`; [`Cursor::pop`] gives what is in order then.
    pub(crate) fn offer(&mut self, from: i64, to: i64, item: E) -> Arrival {
        if to < from || to <= self.at {
            return Arrival::Repeat;
        }
        let arrival = if from <= self.at + 1 {
            if self.waiting.is_empty() { Arrival::InOrder } else { Arrival::Filling }
        } else if self.waiting.contains_key(&from) {
            Arrival::Repeat
        } else if self.waiting.last_key_value().is_some_and(|(last, _)| *last > from) {
            Arrival::Filling
        } else {
            Arrival::Early
        };
        self.observe_head(to);
        if arrival != Arrival::Repeat && (self.waiting.len() < MOST_WAITING || from <= self.at + 1) {
            self.waiting.insert(from, (to, item));
        }
        arrival
    }

    /// The next item in order, with the first and last `seq` of it that are new.
    pub(crate) fn pop(&mut self) -> Option<(i64, i64, E)> {
        loop {
            let first = self.waiting.first_entry().filter(|entry| *entry.key() <= self.at + 1)?;
            let (to, item) = first.remove();
            if to > self.at {
                let from = self.at + 1;
                self.at = to;
                return Some((from, to, item));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(cursor: &mut Cursor<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| cursor.pop().map(|(_, _, item)| item)).collect()
    }

    #[test]
    fn early_things_wait_and_repeats_are_dropped() {
        let mut cursor = Cursor::new(4);
        assert_eq!(cursor.offer(6, 6, "six"), Arrival::Early);
        assert_eq!(cursor.offer(6, 6, "six"), Arrival::Repeat);
        assert!(drain(&mut cursor).is_empty() && cursor.has_gap());
        assert_eq!(cursor.offer(8, 9, "eight and nine"), Arrival::Early);
        assert_eq!(cursor.offer(7, 7, "seven"), Arrival::Filling);
        assert_eq!(cursor.offer(5, 5, "five"), Arrival::Filling);
        assert_eq!(drain(&mut cursor), ["five", "six", "seven", "eight and nine"]);
        assert_eq!((cursor.at(), cursor.is_behind(), cursor.has_gap()), (9, false, false));
        assert_eq!(cursor.offer(3, 9, "old"), Arrival::Repeat);
        assert_eq!(cursor.offer(10, 10, "ten"), Arrival::InOrder);
    }

    #[test]
    fn a_range_that_overlaps_gives_only_what_is_new() {
        let mut cursor = Cursor::new(4);
        cursor.offer(3, 7, "skipped");
        assert_eq!(cursor.pop(), Some((5, 7, "skipped")));
    }
}
