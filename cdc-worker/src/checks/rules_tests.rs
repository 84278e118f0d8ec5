use std::collections::BTreeMap;

use schemas::{PartitionEnd, TopicShape};

use super::*;
use crate::checks::Head;
use crate::transaction::Place;

fn slot() -> SlotFacts {
    SlotFacts {
        plugin: "pgoutput".into(),
        is_of_this_database: true,
        is_temporary: false,
        active_pid: None,
        restart_lsn: Some(Lsn(50)),
        confirmed_flush_lsn: Lsn(100),
        wal_status: "reserved".into(),
        invalidation_reason: None,
    }
}

fn system() -> System {
    System { identifier: "7".into(), timeline: 1, flush_lsn: Lsn(1_000) }
}

fn last_event(offset: i64, commit_lsn: u64, ordinal: i64) -> LastEvent {
    let head = Head { seq: 1, event_type: "message.persisted".into(), message_id: None, occurred_at_ms: 0 };
    let place = Place { commit_lsn: Lsn(commit_lsn), ordinal };
    LastEvent { topic: "events".into(), partition: 0, offset, place, chat_id: "c".into(), head }
}

fn shape(partition_count: i32) -> Vec<TopicShape> {
    vec![TopicShape { topic_name: "events".into(), topic_uuid: "id".into(), partition_count }]
}

fn kafka() -> KafkaFacts {
    KafkaFacts {
        cluster_id: "k".into(),
        topic_ids: BTreeMap::from([("events".into(), "id".into())]),
        topics: shape(12),
        last_events: vec![last_event(11, 90, 3)],
        last_changes: Vec::new(),
        ends: BTreeMap::from([(("events".into(), 0), 13)]),
    }
}

fn stored() -> Position {
    Position {
        slot: "s".into(),
        system_identifier: "7".into(),
        timeline: 1,
        commit_lsn: 90,
        ordinal: 3,
        confirmable_lsn: 100,
        cluster_id: "k".into(),
        partitions: vec![PartitionEnd {
            topic_name: "events".into(),
            topic_uuid: "id".into(),
            partition_number: 0,
            last_offset: 9,
        }],
        topics: shape(12),
        resnapshot_until_lsn: None,
        handed_over_at: None,
        left_out_at: None,
        written_at: 0,
    }
}

/// The reason for which a start is refused, empty if it isn't.
fn reason(slot: &SlotFacts, system: &System, kafka: &KafkaFacts, stored: Option<&Position>) -> String {
    refusal(&Facts { slot, system, switches: &[], kafka, stored, is_unused: false, is_completing: false })
        .unwrap_or_default()
}

#[test]
fn what_belongs_together_starts() {
    assert_eq!(reason(&slot(), &system(), &kafka(), Some(&stored())), "");
    // The slot may lag behind: its confirmation is on disk only since the last checkpoint.
    let behind = SlotFacts { confirmed_flush_lsn: Lsn(20), ..slot() };
    assert_eq!(reason(&behind, &system(), &kafka(), Some(&stored())), "");
    // Nothing was published yet: no key has moved.
    let unused = Position { partitions: Vec::new(), commit_lsn: 0, ordinal: -1, ..stored() };
    let larger = KafkaFacts { topics: shape(24), last_events: Vec::new(), ..kafka() };
    assert_eq!(reason(&slot(), &system(), &larger, Some(&unused)), "");
    // Positions of earlier versions don't tell of numbers of partitions.
    let earlier = Position { topics: Vec::new(), ..stored() };
    assert_eq!(reason(&slot(), &system(), &kafka(), Some(&earlier)), "");
}

#[test]
fn every_mismatch_is_refused_with_a_way_out() {
    let (good_slot, good_system, good_kafka, good) = (slot(), system(), kafka(), stored());
    let first = Position { partitions: Vec::new(), ..stored() };
    let beyond = KafkaFacts { last_events: vec![last_event(10, 90, 4)], ..kafka() };
    let cases = [
        ("past the stored position", reason(&good_slot, &good_system, &beyond, Some(&good))),
        (
            "made anew or moved",
            reason(&SlotFacts { confirmed_flush_lsn: Lsn(101), ..slot() }, &good_system, &good_kafka, Some(&good)),
        ),
        (
            "wal_removed",
            reason(&SlotFacts { wal_status: "lost".into(), ..slot() }, &good_system, &good_kafka, Some(&good)),
        ),
        (
            "idle_timeout",
            reason(
                &SlotFacts { invalidation_reason: Some("idle_timeout".into()), ..slot() },
                &good_system,
                &good_kafka,
                Some(&good),
            ),
        ),
        (
            "instead of pgoutput",
            reason(&SlotFacts { plugin: "test_decoding".into(), ..slot() }, &good_system, &good_kafka, Some(&good)),
        ),
        (
            "another database",
            reason(&SlotFacts { is_of_this_database: false, ..slot() }, &good_system, &good_kafka, Some(&good)),
        ),
        (
            "it is temporary",
            reason(&SlotFacts { is_temporary: true, ..slot() }, &good_system, &good_kafka, Some(&good)),
        ),
        ("cluster 7", reason(&good_slot, &System { identifier: "8".into(), ..system() }, &good_kafka, Some(&good))),
        ("timeline 2", reason(&good_slot, &System { timeline: 2, ..system() }, &good_kafka, Some(&good))),
        ("older backup", reason(&good_slot, &System { flush_lsn: Lsn(99), ..system() }, &good_kafka, Some(&good))),
        (
            "Kafka cluster k",
            reason(&good_slot, &good_system, &KafkaFacts { cluster_id: "other".into(), ..kafka() }, Some(&good)),
        ),
        (
            "topic events was made anew",
            reason(
                &good_slot,
                &good_system,
                &KafkaFacts {
                    topic_ids: BTreeMap::from([("events".into(), "new".into())]),
                    topics: shape(24),
                    ..kafka()
                },
                Some(&good),
            ),
        ),
        // After the first transaction: its own ends aren't known to its position.
        (
            "topic events was made anew",
            reason(
                &good_slot,
                &good_system,
                &KafkaFacts {
                    topic_ids: BTreeMap::from([("events".into(), "new".into())]),
                    last_events: Vec::new(),
                    ..kafka()
                },
                Some(&first),
            ),
        ),
        (
            "has 24 partitions, and had 12",
            reason(&good_slot, &good_system, &KafkaFacts { topics: shape(24), ..kafka() }, Some(&first)),
        ),
        (
            "has 24 partitions, and had 12",
            reason(&good_slot, &good_system, &KafkaFacts { topics: shape(24), ..kafka() }, Some(&good)),
        ),
        (
            "has lost the end",
            reason(
                &good_slot,
                &good_system,
                &KafkaFacts { ends: BTreeMap::from([(("events".into(), 0), 9)]), ..kafka() },
                Some(&good),
            ),
        ),
        (
            "being completed",
            reason(
                &good_slot,
                &good_system,
                &good_kafka,
                Some(&Position { resnapshot_until_lsn: Some(1), ..stored() }),
            ),
        ),
        (
            "cdc handover finish",
            reason(&good_slot, &good_system, &good_kafka, Some(&Position { handed_over_at: Some(1), ..stored() })),
        ),
        (
            "may have left rows out",
            reason(&good_slot, &good_system, &good_kafka, Some(&Position { left_out_at: Some(1), ..stored() })),
        ),
        ("no position of it", reason(&good_slot, &good_system, &good_kafka, None)),
    ];
    for (expected, found) in cases {
        assert!(found.contains(expected), "{expected}: `{found}`");
    }
}

#[test]
fn no_position_is_accepted_where_nothing_was_ever_written() {
    let facts = Facts {
        slot: &slot(),
        system: &system(),
        switches: &[],
        kafka: &kafka(),
        stored: None,
        is_unused: true,
        is_completing: false,
    };
    assert_eq!(refusal(&facts), None);
}

#[test]
fn only_events_past_the_recorded_ends_compare_by_lsn() {
    let (slot, system) = (slot(), system());
    let with = |last: Vec<LastEvent>| KafkaFacts { last_events: last, ..kafka() };
    // The first position on a new server: its LSNs are lower than those of the events that the old one published.
    let moved = Position { commit_lsn: 0, ordinal: -1, confirmable_lsn: 100, ..stored() };
    assert_eq!(reason(&slot, &system, &with(vec![last_event(9, 5_000, 0)]), Some(&moved)), "");
    assert!(reason(&slot, &system, &with(vec![last_event(10, 50, 0)]), Some(&moved)).contains("past the stored"));
    // Another partition or topic has an end of its own, or none.
    let elsewhere = LastEvent { partition: 1, ..last_event(9, 5_000, 0) };
    assert!(reason(&slot, &system, &with(vec![elsewhere]), Some(&moved)).contains("past the stored"));
    let other_topic = LastEvent { topic: "others".into(), ..last_event(9, 5_000, 0) };
    assert!(reason(&slot, &system, &with(vec![other_topic]), Some(&moved)).contains("past the stored"));
    // One new event among old ones.
    let mixed = vec![last_event(9, 5_000, 0), LastEvent { partition: 1, ..last_event(0, 91, 0) }];
    assert!(reason(&slot, &system, &with(mixed), Some(&stored())).contains("past the stored"));
}

#[test]
fn only_what_was_published_from_this_server_compares_with_its_wal() {
    let place = |commit_lsn, ordinal| Some(Place { commit_lsn: Lsn(commit_lsn), ordinal });
    let of = |last: Vec<LastEvent>, stored: Option<&Position>, all| {
        last_of_here(&KafkaFacts { last_events: last, ..kafka() }, stored, &system(), all)
    };
    // Of the server before the hand-over are offsets up to 9.
    let moved = Position { commit_lsn: 90, ordinal: 3, ..stored() };
    assert_eq!(of(vec![last_event(9, 5_000, 0)], Some(&moved), place(5_000, 0)), place(90, 3));
    assert_eq!(
        of(vec![last_event(11, 95, 1)], Some(&moved), place(5_000, 0)),
        place(95, 1),
        "cdc.positions lost its end"
    );
    let first = Position { commit_lsn: 0, ordinal: -1, ..stored() };
    assert_eq!(of(vec![last_event(9, 5_000, 0)], Some(&first), place(5_000, 0)), Some(Place::START));
    // Without a hand-over, or without a position, nobody knows whose they are.
    let elsewhere = Position { system_identifier: "8".into(), ..stored() };
    assert_eq!(of(vec![last_event(9, 5_000, 0)], Some(&elsewhere), place(5_000, 0)), place(5_000, 0));
    assert_eq!(of(vec![last_event(9, 5_000, 0)], None, place(5_000, 0)), place(5_000, 0));
}
