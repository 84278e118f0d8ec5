//! Ranges of events that wait to be read, and what one query takes of them. Pure.
//!
//! Ranges of a chat that overlap or touch are one range: whoever waits for a chat shares its read, also those whose cursors
//! differ, and no event is read twice for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Most events in one query, unless one range alone has more.
pub(super) const EVENTS: i64 = 1_000;

/// Who waits for the events `from ..= to` of a chat.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) answer: T,
}

/// A range to read, and all whom it answers.
#[derive(Debug)]
pub(super) struct Span<T> {
    pub(super) chat_id: Arc<str>,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) waiters: Vec<Waiter<T>>,
}

impl<T> Span<T> {
    fn events(&self) -> i64 {
        self.to - self.from + 1
    }
}

/// What waits, by chat; chats in the order in which they take their turns.
#[derive(Debug)]
pub(super) struct Ranges<T> {
    turns: VecDeque<Arc<str>>,
    waiting: HashMap<Arc<str>, Vec<Waiter<T>>>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), waiting: HashMap::new() }
    }
}

impl<T> Ranges<T> {
    pub(super) fn push(&mut self, chat_id: &Arc<str>, waiter: Waiter<T>) {
        if let Some(waiting) = self.waiting.get_mut(chat_id) {
            waiting.push(waiter);
        } else {
            self.turns.push_back(Arc::clone(chat_id));
            self.waiting.insert(Arc::clone(chat_id), vec![waiter]);
        }
    }

    /// Takes what the next query reads. A chat of which something is left goes to the end of the line.
    pub(super) fn take(&mut self) -> Vec<Span<T>> {
        let mut batch: Vec<Span<T>> = Vec::new();
        let mut events = 0;
        while let Some(chat_id) = self.turns.pop_front() {
            let Some(waiting) = self.waiting.remove(&chat_id) else { continue };
            let mut left = Vec::new();
            for span in unite(&chat_id, waiting) {
                if batch.is_empty() || events + span.events() <= EVENTS {
                    events += span.events();
                    batch.push(span);
                } else {
                    left.extend(span.waiters);
                }
            }
            let is_full = !left.is_empty();
            if is_full {
                self.turns.push_back(Arc::clone(&chat_id));
                self.waiting.insert(chat_id, left);
                break;
            }
        }
        batch
    }
}

/// Spans that cover all ranges, the one that somebody has waited for longest first. Only one that would be longer than a
/// query is cut, between ranges.
fn unite<T>(chat_id: &Arc<str>, waiting: Vec<Waiter<T>>) -> Vec<Span<T>> {
    let mut waiting: Vec<(usize, Waiter<T>)> = waiting.into_iter().enumerate().collect();
    waiting.sort_by_key(|(_, waiter)| (waiter.from, waiter.to));
    let mut spans: Vec<(usize, Span<T>)> = Vec::new();
    for (turn, waiter) in waiting {
        match spans.last_mut() {
            Some((first, span))
                if waiter.from <= span.to + 1 && (waiter.to <= span.to || waiter.to - span.from < EVENTS) =>
            {
                *first = turn.min(*first);
                span.to = span.to.max(waiter.to);
                span.waiters.push(waiter);
            }
            _ => {
                let (from, to) = (waiter.from, waiter.to);
                spans.push((turn, Span { chat_id: Arc::clone(chat_id), from, to, waiters: vec![waiter] }));
            }
        }
    }
    spans.sort_by_key(|(first, _)| *first);
    spans.into_iter().map(|(_, span)| span).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiting(ranges: &[(&str, i64, i64)]) -> Ranges<usize> {
        let mut waiting = Ranges::default();
        for (answer, (chat_id, from, to)) in ranges.iter().enumerate() {
            waiting.push(&Arc::from(*chat_id), Waiter { from: *from, to: *to, answer });
        }
        waiting
    }

    fn shape(batch: &[Span<usize>]) -> Vec<(&str, i64, i64, usize)> {
        batch.iter().map(|span| (&*span.chat_id, span.from, span.to, span.waiters.len())).collect()
    }

    #[test]
    fn a_crowd_with_different_cursors_is_one_read() {
        let ranges: Vec<_> = (1..=60).rev().map(|cursor| ("c", cursor + 1, cursor + 100)).collect();
        let mut waiting = waiting(&ranges);
        assert_eq!(shape(&waiting.take()), [("c", 2, 160, 60)]);
        assert!(waiting.take().is_empty());
    }

    #[test]
    fn what_does_not_fit_waits_behind_the_other_chats() {
        let ranges = [("a", 1, 900), ("a", 5_000, 5_200), ("b", 1, 50), ("a", 2, 901), ("c", 1, 5_000)];
        let mut waiting = waiting(&ranges);
        assert_eq!(shape(&waiting.take()), [("a", 1, 901, 2)]);
        assert_eq!(shape(&waiting.take()), [("b", 1, 50, 1)]);
        assert_eq!(shape(&waiting.take()), [("a", 5_000, 5_200, 1)]);
        assert_eq!(shape(&waiting.take()), [("c", 1, 5_000, 1)]);
        assert!(waiting.take().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn everybody_is_answered_once_and_no_query_reads_an_event_twice(
            ranges in proptest::collection::vec((0..3_usize, 1..3_000_i64, 0..100_i64), 0..80),
        ) {
            let ranges: Vec<_> =
                ranges.iter().map(|(chat, from, more)| (["a", "b", "c"][*chat], *from, from + more)).collect();
            let mut waiting = waiting(&ranges);
            let mut answered = vec![0; ranges.len()];
            for turn in 0.. {
                let batch = waiting.take();
                if batch.is_empty() {
                    break;
                }
                prop_assert!(turn < ranges.len());
                prop_assert!(batch.iter().map(Span::events).sum::<i64>() <= EVENTS);
                let mut read = std::collections::HashSet::new();
                for span in &batch {
                    for seq in span.from..=span.to {
                        prop_assert!(read.insert((Arc::clone(&span.chat_id), seq)), "read twice");
                    }
                    for waiter in &span.waiters {
                        let (chat_id, from, to) = ranges[waiter.answer];
                        prop_assert_eq!((chat_id, from, to), (&*span.chat_id, waiter.from, waiter.to));
                        prop_assert!(span.from <= from && to <= span.to);
                        answered[waiter.answer] += 1;
                    }
                    // Nothing is read that nobody waits for.
                    let covered: std::collections::HashSet<i64> =
                        span.waiters.iter().flat_map(|waiter| waiter.from..=waiter.to).collect();
                    prop_assert_eq!(covered.len() as i64, span.events());
                }
            }
            prop_assert!(answered.iter().all(|times| *times == 1), "{:?}", answered);
        }
    }
}
