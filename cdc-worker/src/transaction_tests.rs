use proptest::prelude::*;

use super::*;

/// A step of the stream.
#[derive(Debug, Clone, Copy)]
enum Step {
    Begin(u64),
    Row,
    Commit(u64),
    Keepalive(u64),
}

/// Steps of transactions with so many rows each, keepalives between them.
fn steps(sizes: &[usize]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (number, rows) in sizes.iter().enumerate() {
        let lsn = (number as u64 + 1) * 100;
        steps.push(Step::Begin(lsn));
        steps.extend(std::iter::repeat_n(Step::Row, *rows));
        steps.push(Step::Commit(lsn));
        steps.push(Step::Keepalive(lsn + 50));
    }
    steps
}

/// What a worker that starts at a mark publishes from the steps that the server sends again from where its slot stands.
fn publish(steps: &[Step], stored: Place, confirmable: Lsn, slot: Lsn) -> (Vec<Place>, Lsn) {
    let mut tracker = Tracker::new(stored, confirmable);
    let mut published = Vec::new();
    let mut skipping = false;
    for step in steps {
        match *step {
            // The server leaves out what ends before the start position.
            Step::Begin(lsn) => {
                skipping = Lsn(lsn) < slot;
                if !skipping {
                    tracker.begin(Lsn(lsn)).expect("in order");
                }
            }
            Step::Row if !skipping => published.extend(tracker.row().expect("inside")),
            Step::Commit(lsn) if !skipping => tracker.commit(Lsn(lsn), Lsn(lsn + 10)).expect("its end"),
            Step::Keepalive(lsn) => tracker.keepalive(Lsn(lsn)),
            Step::Row | Step::Commit(_) => {}
        }
    }
    (published, tracker.complete_lsn())
}

proptest! {
    /// Cut anywhere, what was published before and what is published after the restart is everything, once, in order.
    #[test]
    fn nothing_is_lost_or_repeated_over_a_cut(
        sizes in proptest::collection::vec(0_usize..6, 1..12), cut in 0.0..1.0, unstored in 0_usize..10,
        behind in 0.0..1.0,
    ) {
        let all = steps(&sizes);
        let (everything, _) = publish(&all, Place::START, Lsn::ZERO, Lsn::ZERO);
        let seen = &all[..(all.len() as f64 * cut) as usize];
        // The position may have been stored somewhat before the cut: at any row, with the ends seen before it.
        let stored_at = seen.len().saturating_sub(unstored);
        let (before, confirmable) = publish(&seen[..stored_at], Place::START, Lsn::ZERO, Lsn::ZERO);
        let stored = before.last().copied().unwrap_or(Place::START);
        // The slot may be confirmed for less than that.
        let slot = Lsn((confirmable.0 as f64 * behind) as u64);
        let (after, _) = publish(&all, stored, confirmable, slot);
        prop_assert_eq!([before, after].concat(), everything);
    }

    #[test]
    fn the_slot_is_never_confirmable_inside_a_transaction(sizes in proptest::collection::vec(0_usize..6, 1..12)) {
        let mut tracker = Tracker::new(Place::START, Lsn::ZERO);
        for step in steps(&sizes) {
            match step {
                Step::Begin(lsn) => tracker.begin(Lsn(lsn)).expect("in order"),
                Step::Row => {
                    tracker.keepalive(Lsn(u64::MAX));
                    prop_assert!(tracker.complete_lsn() <= tracker.open_lsn().expect("open"));
                    tracker.row().expect("inside");
                }
                Step::Commit(lsn) => tracker.commit(Lsn(lsn), Lsn(lsn + 10)).expect("its end"),
                Step::Keepalive(lsn) => tracker.keepalive(Lsn(lsn)),
            }
        }
    }
}

#[test]
fn a_stream_out_of_order_is_an_error() {
    let mut tracker = Tracker::new(Place::START, Lsn::ZERO);
    assert_eq!(tracker.row(), Err(OrderError::Outside("a row")));
    assert_eq!(tracker.commit(Lsn(1), Lsn(2)), Err(OrderError::Outside("a commit")));
    tracker.begin(Lsn(10)).expect("first");
    assert_eq!(tracker.begin(Lsn(20)), Err(OrderError::Nested { open: Lsn(10), next: Lsn(20) }));
    assert_eq!(tracker.commit(Lsn(11), Lsn(12)), Err(OrderError::OtherCommit { open: Lsn(10), found: Lsn(11) }));
    assert_eq!(tracker.begin(Lsn(10)), Err(OrderError::Backwards { last: Lsn(10), next: Lsn(10) }));
}

#[test]
fn rows_that_share_an_lsn_are_told_apart() {
    let stored = Place { commit_lsn: Lsn(100), ordinal: 1 };
    let mut tracker = Tracker::new(stored, Lsn(50));
    tracker.begin(Lsn(100)).expect("the cut one again");
    let fates: Vec<Option<i64>> = (0..4).map(|_| tracker.row().expect("inside").map(|place| place.ordinal)).collect();
    assert_eq!(fates, [None, None, Some(2), Some(3)]);
}

#[test]
fn a_new_row_where_all_was_seen_is_of_another_log() {
    let stored = Place { commit_lsn: Lsn(100), ordinal: 1 };
    let mut tracker = Tracker::new(stored, Lsn(200));
    tracker.begin(Lsn(90)).expect("sent again");
    assert_eq!(tracker.row(), Ok(None));
    tracker.commit(Lsn(90), Lsn(95)).expect("its end");
    tracker.begin(Lsn(150)).expect("in order");
    assert_eq!(tracker.row(), Err(OrderError::OtherLog { at: Lsn(150), whole: Lsn(200) }));
    // One row more than there was is as bad as a transaction more.
    let mut tracker = Tracker::new(stored, Lsn(200));
    tracker.begin(Lsn(100)).expect("the last one again");
    assert_eq!([tracker.row(), tracker.row()], [Ok(None), Ok(None)]);
    assert_eq!(tracker.row(), Err(OrderError::OtherLog { at: Lsn(100), whole: Lsn(200) }));
    // The first transaction after what was seen begins where that ended.
    let mut tracker = Tracker::new(stored, Lsn(200));
    tracker.begin(Lsn(200)).expect("new");
    assert_eq!(tracker.row(), Ok(Some(Place { commit_lsn: Lsn(200), ordinal: 0 })));
}
