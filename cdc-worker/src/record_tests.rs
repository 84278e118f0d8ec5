use uuid::Uuid;

use super::*;

fn send(content: &'static str, attachments: Option<&'static str>) -> (MessageRow<'static>, Origin) {
    let row = MessageRow {
        chat_id: "tea",
        sequence_number: 7,
        message_id: Uuid::from_bytes([7; 16]),
        sender_id: "alice",
        content: Some(content),
        parent_message_id: None,
        parent_seq: None,
        app_data: None,
        attachments,
        created_at_ms: 5,
        deleted_at_ms: None,
    };
    (row, Origin { shard: 0, commit_lsn: 9, ordinal: 2 })
}

#[test]
fn records_of_every_kind_lie_one_after_another() {
    let writer = Writer::new(3, 4);
    let mut batch = Batch::default();
    let (row, origin) = send("hello", None);
    writer.write(Change::Send { row, origin }, &mut batch).expect("a record");
    let (with_list, _) = send("hello", Some("[]"));
    writer.write(Change::Send { row: with_list, origin }, &mut batch).expect("a record");
    let event = row.into_event(origin).expect("an event");
    writer.write(Change::Event(Box::new(event)), &mut batch).expect("a record");
    let removed = Change::User { user_id: "bob".into(), version: 4, changed_at_ms: 6, profile: None };
    writer.write(removed, &mut batch).expect("a record");

    let records: Vec<Outgoing<'_>> = batch.iter().collect();
    assert_eq!(batch.len(), 4);
    for record in &records[..3] {
        assert_eq!(record, &records[0], "the short way and the long way make one record");
        assert_eq!((record.destination, record.key, record.timestamp_ms), (Destination::Events, &b"tea"[..], 5));
        assert_eq!((record.id, record.kind), (&b"tea/7"[..], &b"message.persisted"[..]));
        assert_eq!(record.value.expect("a value")[..5], [0, 0, 0, 0, 3]);
    }
    let tombstone = Outgoing {
        destination: Destination::Users,
        key: b"bob",
        value: None,
        timestamp_ms: 6,
        id: b"bob/4",
        kind: b"user.removed",
    };
    assert_eq!(records[3], tombstone);
}

#[test]
fn a_row_whose_json_is_wrong_leaves_nothing() {
    let mut batch = Batch::default();
    let (row, origin) = send("hello", Some("{"));
    let error = Writer::new(3, 4).write(Change::Send { row, origin }, &mut batch).expect_err("no JSON");
    assert!(error.to_string().contains("tea/7: column attachments"), "{error}");
    assert!(batch.is_empty() && batch.bytes() == 0);
}
