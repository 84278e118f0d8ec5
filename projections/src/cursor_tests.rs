use std::collections::BTreeMap;

use proptest::prelude::*;
use schemas::Mark;

use super::{CursorProjection, Reached};
use crate::projection::Input;
use crate::rows::Rows;
use crate::samples::{batches, cuts};

type Table = BTreeMap<(String, String), Reached>;

/// Applies a batch; returns what it would publish.
fn batch(table: &mut Table, marks: &[Mark]) -> Vec<((String, String), Reached)> {
    let mut state = Rows::default();
    for (key, reached) in table.iter() {
        state.loaded(key.clone(), *reached);
    }
    for mark in marks {
        CursorProjection::apply(&mut state, mark).expect("usable");
    }
    let changed: Vec<_> = state.changed().into_iter().map(|(key, reached)| (key.clone(), *reached)).collect();
    table.extend(changed.iter().cloned());
    changed
}

fn marks() -> impl Strategy<Value = Vec<Mark>> {
    let seq = || prop::option::of(0..30_i64);
    let mark =
        (0..2_u8, 0..3_u8, seq(), seq(), 0..1_000_i64).prop_map(|(chat, user, delivered_seq, read_seq, marked_at)| {
            Mark { chat_id: format!("c{chat}"), user_id: format!("u{user}"), delivered_seq, read_seq, marked_at }
        });
    prop::collection::vec(mark, 0..60)
}

fn seqs(table: &Table) -> Vec<(&(String, String), i64, i64)> {
    table.iter().map(|(key, reached)| (key, reached.delivered_seq, reached.read_seq)).collect()
}

proptest! {
    #[test]
    fn cursors_are_maxima_in_any_order_and_any_batches(
        marks in marks(), shuffled in any::<prop::sample::Index>(), cuts in cuts(),
    ) {
        let mut whole = Table::new();
        batch(&mut whole, &marks);
        for (key, reached) in &whole {
            let mine = || marks.iter().filter(|mark| (&mark.chat_id, &mark.user_id) == (&key.0, &key.1));
            let read = mine().filter_map(|mark| mark.read_seq).max().unwrap_or(0);
            let delivered = mine().filter_map(|mark| mark.delivered_seq).max().unwrap_or(0).max(read);
            prop_assert_eq!((reached.delivered_seq, reached.read_seq), (delivered, read));
        }

        let mut split = Table::new();
        for marks in batches(&marks, &cuts) {
            drop(batch(&mut split, marks));
        }
        prop_assert_eq!(&split, &whole);

        let mut turned = marks.clone();
        if !turned.is_empty() {
            let at = shuffled.index(turned.len());
            turned.rotate_left(at);
        }
        let mut other = Table::new();
        batch(&mut other, &turned);
        prop_assert_eq!(seqs(&other), seqs(&whole));

        // A repetition moves nothing and publishes nothing.
        prop_assert!(batch(&mut whole, &marks).is_empty());
    }

    #[test]
    fn what_is_published_never_goes_back(marks in marks(), cuts in cuts()) {
        let mut table = Table::new();
        let mut last = Table::new();
        for marks in batches(&marks, &cuts) {
            for (key, reached) in batch(&mut table, marks) {
                let before = last.insert(key, reached).unwrap_or_default();
                prop_assert!(reached.delivered_seq >= before.delivered_seq && reached.read_seq >= before.read_seq);
                prop_assert!(reached.delivered_seq >= reached.read_seq && reached.updated_at >= before.updated_at);
                prop_assert!((reached.delivered_seq, reached.read_seq) != (before.delivered_seq, before.read_seq));
            }
        }
    }
}
