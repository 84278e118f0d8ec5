#![allow(clippy::unnecessary_wraps, reason = "values are made as the columns take them, which may be NULL")]

use proptest::prelude::*;

use super::*;
use crate::pgoutput::{self, Column, Message};

const TEXT: u32 = 25;
const INT8: u32 = 20;
const UUID: u32 = 2950;
const JSONB: u32 = 3802;
const TIMESTAMPTZ: u32 = 1184;
const BOOL: u32 = 16;

fn relation(name: &str, columns: &[(&str, u32)]) -> Relation {
    let columns = columns.iter().map(|(name, type_oid)| Column { name: (*name).to_owned(), type_oid: *type_oid });
    Relation { id: 1, namespace: "public".into(), name: name.into(), columns: columns.collect() }
}

/// An insert of these values; `None` is NULL.
fn insert(values: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut bytes = [b"I".as_slice(), &1_u32.to_be_bytes(), b"N", &(values.len() as u16).to_be_bytes()].concat();
    for value in values {
        match value {
            None => bytes.push(b'n'),
            Some(value) => {
                bytes.push(b'b');
                bytes.extend((value.len() as u32).to_be_bytes());
                bytes.extend(value);
            }
        }
    }
    bytes
}

/// What a row says, with a send as the event that it is.
fn map(relation: &Relation, values: &[Option<Vec<u8>>]) -> Result<Change<'static>, MapError> {
    let mut mapping = Mapping::default();
    mapping.learn(relation)?;
    let bytes = insert(values);
    let Ok(Message::Insert { relation_id, tuple }) = pgoutput::decode(&bytes) else { panic!("no row") };
    match mapping.change(relation_id, tuple, Origin { shard: 0, commit_lsn: 9, ordinal: 2 })? {
        Change::Send { row, origin } => Ok(Change::Event(Box::new(row.into_event(origin)?))),
        Change::Event(event) => Ok(Change::Event(event)),
        Change::User { user_id, version, changed_at_ms, profile } => {
            Ok(Change::User { user_id, version, changed_at_ms, profile })
        }
    }
}

const MESSAGE: &[(&str, u32)] = &[
    ("message_id", UUID),
    ("chat_id", TEXT),
    ("added_later", 600),
    ("sender_id", TEXT),
    ("content", TEXT),
    ("parent_message_id", UUID),
    ("parent_seq", INT8),
    ("sequence_number", INT8),
    ("app_data", TEXT),
    ("attachments", JSONB),
    ("created_at", TIMESTAMPTZ),
    ("deleted_at", TIMESTAMPTZ),
];

/// A value; `None` is NULL.
type Binary = Option<Vec<u8>>;

fn text(text: &str) -> Binary {
    Some(text.as_bytes().to_vec())
}

fn int8(number: i64) -> Binary {
    Some(number.to_be_bytes().to_vec())
}

fn jsonb(json: &str) -> Binary {
    Some([&[1], json.as_bytes()].concat())
}

/// Microseconds since 2000 of a time in milliseconds since 1970.
fn time(epoch_ms: i64) -> Binary {
    int8((epoch_ms - 946_684_800_000) * 1_000)
}

fn message(seq: i64, content: &str, created_at: Option<Vec<u8>>) -> Vec<Option<Vec<u8>>> {
    vec![
        Some([7; 16].to_vec()),
        text("c"),
        text("anything"),
        text("alice"),
        text(content),
        None,
        None,
        int8(seq),
        text("{}"),
        jsonb("[]"),
        created_at,
        None,
    ]
}

proptest! {
    #[test]
    fn a_send_is_its_event(seq: i64, content in ".*", at in -1_000_000_000_000..4_000_000_000_000_i64) {
        let change = map(&relation("message", MESSAGE), &message(seq, &content, time(at))).expect("a row");
        let Change::Event(event) = change else { panic!("an event") };
        prop_assert_eq!(&event.event_id, &format!("c/{seq}"));
        prop_assert_eq!((event.seq, event.occurred_at), (seq, at));
        prop_assert_eq!(event.origin, Origin { shard: 0, commit_lsn: 9, ordinal: 2 });
        let state = event.message.expect("a message");
        prop_assert_eq!(state.content.as_deref(), Some(content.as_str()));
        prop_assert_eq!(state.message_id, "07070707-0707-0707-0707-070707070707");
    }

    #[test]
    fn any_values_are_an_error_or_a_change(values in proptest::collection::vec(
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)), MESSAGE.len()..=MESSAGE.len(),
    )) {
        let _ = map(&relation("message", MESSAGE), &values);
    }

    /// The tables' other readers round by `schemas::timestamp`.
    #[test]
    fn times_are_rounded_as_elsewhere(micros in -2_000_000_000_000_000_i64..2_000_000_000_000_000) {
        let nanos = (i128::from(micros) + 946_684_800_000_000) * 1_000;
        prop_assert_eq!(i128::from(epoch_ms(micros)), nanos / 1_000_000);
    }
}

#[test]
fn a_changed_row_is_the_event_that_it_names() {
    let columns = [
        ("chat_id", TEXT),
        ("sequence_number", INT8),
        ("event_type", TEXT),
        ("actor_id", TEXT),
        ("occurred_at", TIMESTAMPTZ),
        ("message_seq", INT8),
        ("content", TEXT),
        ("message", JSONB),
        ("memberships", JSONB),
        ("chat", JSONB),
    ];
    let memberships = r#"[{"user_id":"bob","member_role":"member","joined_seq":4,"visible_from_seq":4}]"#;
    let values =
        [text("c"), int8(4), text("member.joined"), text("alice"), time(5), None, None, None, jsonb(memberships), None];
    let Change::Event(event) = map(&relation("chat_change", &columns), &values).expect("a row") else { panic!() };
    assert_eq!((event.event_type.as_str(), event.seq, event.occurred_at), ("member.joined", 4, 5));
    assert_eq!(event.memberships[0].user_id, "bob");
    assert!(event.message.is_none() && event.chat.is_none());
}

#[test]
fn a_person_is_a_profile_without_address_or_a_tombstone() {
    let columns = [
        ("user_id", TEXT),
        ("version", INT8),
        ("name", TEXT),
        ("email", TEXT),
        ("avatar_url", TEXT),
        ("is_removed", BOOL),
        ("changed_at", TIMESTAMPTZ),
    ];
    let values =
        |removed: u8| [text("bob"), int8(3), text("Bob"), text("bob@example.com"), None, Some(vec![removed]), time(77)];
    let user = relation("user_change", &columns);
    let Change::User { profile: Some(profile), version: 3, changed_at_ms: 77, .. } =
        map(&user, &values(0)).expect("a row")
    else {
        panic!("a profile")
    };
    assert_eq!((profile.display_name.as_deref(), profile.email, profile.updated_at), (Some("Bob"), None, 77));
    let Change::User { user_id, profile: None, .. } = map(&user, &values(1)).expect("a row") else {
        panic!("a tombstone")
    };
    assert_eq!(user_id, "bob");
}

#[test]
fn what_cannot_be_read_names_table_and_column() {
    let error =
        |relation: &Relation, values: &[Option<Vec<u8>>]| map(relation, values).expect_err("an error").to_string();
    let without: Vec<_> = MESSAGE.iter().copied().filter(|(name, _)| *name != "sender_id").collect();
    assert!(error(&relation("message", &without), &[]).starts_with("table message has no column sender_id"));
    let retyped: Vec<_> =
        MESSAGE.iter().map(|&(name, oid)| (name, if name == "sequence_number" { 23 } else { oid })).collect();
    let of_type = error(&relation("message", &retyped), &[]);
    assert!(of_type.starts_with("column message.sequence_number has type id 23, where bigint is needed"), "{of_type}");
    let message_table = relation("message", MESSAGE);
    assert!(error(&message_table, &message(1, "x", int8(i64::MAX))).starts_with("column message.created_at: infinity"));
    assert!(error(&message_table, &message(1, "x", None)).starts_with("column message.created_at: NULL"));
    assert_eq!(error(&message_table, &[None]), "a row of message has 1 values, its table 12 columns");
    let mut values = message(1, "x", time(1));
    values[9] = Some(vec![2, b'[', b']']);
    assert_eq!(error(&message_table, &values), "column message.attachments: jsonb of an unknown version");
}

#[test]
fn other_tables_are_none_of_ours() {
    let mut mapping = Mapping::default();
    mapping.learn(&relation("message_p0", MESSAGE)).expect("passed over");
    assert_eq!(mapping.table(1).expect("described"), None);
    assert!(mapping.table(2).is_err());
    let mut elsewhere = relation("message", &[]);
    elsewhere.namespace = "audit".into();
    mapping.learn(&elsewhere).expect("passed over");
    assert_eq!(mapping.table(1).expect("described"), None);
}
