use std::collections::BTreeMap;

use schemas::PartitionEnd;

use super::*;
use crate::transaction::Place;

fn slot() -> SlotFacts {
    SlotFacts {
        plugin: "pgoutput".into(),
        is_of_this_database: true,
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

fn kafka() -> KafkaFacts {
    KafkaFacts {
        cluster_id: "k".into(),
        topic_ids: BTreeMap::from([("events".into(), "id".into())]),
        last_event: Some(Place { commit_lsn: Lsn(90), ordinal: 3 }),
        ends: BTreeMap::from([(("events".into(), 0), 10)]),
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
        resnapshot_until_lsn: None,
        written_at: 0,
    }
}

/// The reason for which a start is refused, empty if it isn't.
fn reason(slot: &SlotFacts, system: &System, kafka: &KafkaFacts, stored: Option<&Position>) -> String {
    refusal(&Facts { slot, system, kafka, stored, is_unused: false, is_completing: false }).unwrap_or_default()
}

#[test]
fn what_belongs_together_starts() {
    assert_eq!(reason(&slot(), &system(), &kafka(), Some(&stored())), "");
    // The slot may lag behind: its confirmation is on disk only since the last checkpoint.
    let behind = SlotFacts { confirmed_flush_lsn: Lsn(20), ..slot() };
    assert_eq!(reason(&behind, &system(), &kafka(), Some(&stored())), "");
}

#[test]
fn every_mismatch_is_refused_with_a_way_out() {
    let (good_slot, good_system, good_kafka, good) = (slot(), system(), kafka(), stored());
    let beyond = KafkaFacts { last_event: Some(Place { commit_lsn: Lsn(90), ordinal: 4 }), ..kafka() };
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
                &KafkaFacts { topic_ids: BTreeMap::from([("events".into(), "new".into())]), ..kafka() },
                Some(&good),
            ),
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
        kafka: &kafka(),
        stored: None,
        is_unused: true,
        is_completing: false,
    };
    assert_eq!(refusal(&facts), None);
}
