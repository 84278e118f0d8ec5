use super::*;

/// Two partitions with 30 events of three chats, and their rows.
fn history() -> (Vec<Vec<Fingerprint>>, Vec<Fingerprint>) {
    let event = |chat: &str, seq: i64, lsn: i64| Fingerprint {
        chat_id: chat.to_owned(),
        seq,
        content: (chat.len() as u64) << 32 | seq as u64,
        skeleton: seq as u64,
        has_body: true,
        is_emptied: false,
        // Two rows a transaction.
        origin: (lsn / 2, lsn % 2),
    };
    let mut log = vec![Vec::new(), Vec::new()];
    for seq in 1..=10 {
        log[0].push(event("a", seq, 4 * seq));
        log[0].push(event("bb", seq, 4 * seq + 1));
        log[1].push(event("ccc", seq, 4 * seq + 2));
    }
    let mut rows = log.concat();
    for row in &mut rows {
        row.origin = (0, 0);
    }
    (log, rows)
}

#[test]
fn the_same_is_clean() {
    let (log, rows) = history();
    let verdict = compare(log, rows);
    assert!(verdict.is_clean() && !verdict.is_late(), "{verdict}");
    assert_eq!((verdict.events, verdict.rows), (30, 30));
}

#[test]
fn an_event_that_was_dropped_is_missing() {
    for place in 0..20 {
        let (mut log, rows) = history();
        let dropped = log[0].remove(place);
        let verdict = compare(log, rows);
        assert!(!verdict.is_clean());
        assert_eq!(verdict.missing.first, [format!("{}/{}", dropped.chat_id, dropped.seq)]);
    }
}

#[test]
fn events_that_are_missing_at_the_end_are_late_and_a_hole_is_not() {
    let (mut log, rows) = history();
    log[0].truncate(10);
    assert!(compare(log, rows).is_late());
    let (mut log, rows) = history();
    log[0].remove(3);
    assert!(!compare(log, rows).is_late(), "what follows a hole is out of order");
}

#[test]
fn an_event_that_came_twice_is_repeated_wherever_the_second_stands() {
    for place in 0..20 {
        for later in place + 1..=20 {
            let (mut log, rows) = history();
            let twice = log[0][place].clone();
            log[0].insert(later, twice.clone());
            let verdict = compare(log, rows);
            assert!(!verdict.is_clean());
            assert_eq!(verdict.repeated.first, [format!("{}/{}", twice.chat_id, twice.seq)]);
        }
    }
}

#[test]
fn events_that_changed_places_are_out_of_order() {
    for place in 0..19 {
        let (mut log, rows) = history();
        log[0].swap(place, place + 1);
        let verdict = compare(log, rows);
        assert!(!verdict.is_clean() && verdict.out_of_order.count > 0, "{place}: {verdict}");
        assert_eq!((verdict.missing.count, verdict.repeated.count), (0, 0));
    }
}

#[test]
fn an_event_of_nothing_is_unknown_and_one_with_another_content_different() {
    let (mut log, mut rows) = history();
    rows.retain(|row| (row.chat_id.as_str(), row.seq) != ("ccc", 10));
    log[0][4].content += 1;
    let verdict = compare(log, rows);
    assert!(!verdict.is_clean());
    assert_eq!(verdict.unknown.first, ["ccc/10"]);
    assert_eq!(verdict.different.first, ["a/3"]);
    assert_eq!(verdict.to_string(), "30 events of 29 rows; 1 unknown (ccc/10); 1 different (a/3)");
}

#[test]
fn a_row_that_a_delete_emptied_says_the_rest_of_its_event() {
    let (log, mut rows) = history();
    rows[4].content = 0;
    assert_eq!(compare(log.clone(), rows.clone()).different.count, 1, "a body that is gone without a delete");
    rows[4].is_emptied = true;
    assert!(compare(log.clone(), rows.clone()).is_clean());
    rows[4].skeleton += 1;
    assert_eq!(compare(log, rows).different.count, 1, "another sender, say");
}

#[test]
fn a_fingerprint_holds_everything_but_the_origin() {
    let event = |content: &str, commit_lsn| {
        let row = schemas::history::MessageRow {
            chat_id: "a",
            sequence_number: 1,
            message_id: uuid::Uuid::nil(),
            sender_id: "alice",
            content: Some(content),
            parent_message_id: None,
            parent_seq: None,
            app_data: None,
            attachments: None,
            created_at_ms: 1,
            deleted_at_ms: None,
        };
        Fingerprint::of(row.into_event(Origin { shard: 0, commit_lsn, ordinal: 2 }).unwrap())
    };
    assert_eq!(event("x", 1).content, event("x", 7).content);
    assert_ne!(event("x", 1).content, event("y", 1).content);
    assert_eq!(event("x", 7).origin, (7, 2));
}
