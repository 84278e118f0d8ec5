use super::*;

/// The last published commit is at 90, its end and all before it are confirmable up to 100.
fn stored(timeline: i32) -> Position {
    Position {
        slot: "s".into(),
        system_identifier: "7".into(),
        timeline,
        commit_lsn: 90,
        ordinal: 3,
        confirmable_lsn: 100,
        cluster_id: "k".into(),
        partitions: Vec::new(),
        topics: Vec::new(),
        resnapshot_until_lsn: None,
        handed_over_at: None,
        left_out_at: None,
        written_at: 0,
    }
}

fn system(timeline: i32) -> System {
    System { identifier: "7".into(), timeline, flush_lsn: Lsn(1_000) }
}

fn reason(timeline: i32, switches: &[(i32, u64)], stored: &Position) -> String {
    let switches: Vec<Switch> = switches.iter().map(|&(timeline, at)| Switch { timeline, at: Lsn(at) }).collect();
    refusal(&system(timeline), &switches, stored).unwrap_or_default()
}

#[test]
fn a_switch_past_everything_published_goes_on() {
    assert_eq!(reason(1, &[], &stored(1)), "", "no switch");
    assert_eq!(reason(2, &[(1, 100)], &stored(1)), "");
    assert_eq!(reason(2, &[(1, 500)], &stored(1)), "");
}

#[test]
fn a_switch_before_something_published_is_refused_with_the_numbers() {
    for at in [0, 50, 90, 91, 99] {
        let reason = reason(2, &[(1, at)], &stored(1));
        for number in [Lsn(at), Lsn(90), Lsn(100)] {
            assert!(reason.contains(&number.to_string()), "{number}: {reason}");
        }
    }
}

#[test]
fn the_commit_must_lie_strictly_before_the_switch() {
    // A part of a transaction is published: nothing past its beginning is confirmable yet.
    let part = Position { confirmable_lsn: 80, ..stored(1) };
    assert!(reason(2, &[(1, 90)], &part).contains("left timeline 1"));
    assert_eq!(reason(2, &[(1, 91)], &part), "");
}

#[test]
fn of_several_switches_the_one_from_the_stored_timeline_counts() {
    let history = [(1, 60), (2, 120), (4, 300)];
    assert_eq!(reason(5, &history, &stored(2)), "");
    assert_eq!(reason(5, &history, &stored(4)), "");
    assert!(reason(5, &history, &stored(1)).contains(&Lsn(60).to_string()));
}

#[test]
fn a_timeline_that_does_not_come_from_the_stored_one_is_refused() {
    // Two standbys were promoted: one at 200 became 2, the other at 150 became 3.
    assert!(reason(3, &[(1, 150)], &stored(2)).contains("doesn't come from timeline 2"));
    // The old primary is back.
    assert!(reason(1, &[], &stored(2)).contains("is on timeline 1"));
}
