//! What is committed arrives, once, in order, as the event that it is.

use crate::support::{self, Stack, eventually, read_events, read_positions, read_users};
use anyhow::{Context, Result, ensure};
use schemas::event_type;

/// The `seq`s of a chat in the order of the log.
fn seqs(events: &[support::Logged], chat: &str) -> Vec<i64> {
    events.iter().filter(|logged| logged.key == chat).map(|logged| logged.event.seq).collect()
}

async fn arrived(stack: &Stack, count: usize) -> Result<Vec<support::Logged>> {
    eventually(&format!("{count} events"), async || Ok(read_events(&stack.config).await?.len() >= count)).await?;
    read_events(&stack.config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_arrive_once_and_in_order() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    for seq in 1..=50 {
        stack.send("chat-a", seq, &format!("hello {seq}")).await?;
        stack.send("chat-b", seq, &format!("ahoj {seq}")).await?;
    }
    arrived(&stack, 100).await?;
    running.stop().await?;
    let events = read_events(&stack.config).await?;
    assert_eq!(seqs(&events, "chat-a"), (1..=50).collect::<Vec<_>>());
    assert_eq!(seqs(&events, "chat-b"), (1..=50).collect::<Vec<_>>());
    assert_eq!(events.len(), 100);
    // A stopped worker has confirmed what it published, and another goes on after it.
    let running = stack.start();
    stack.send("chat-a", 51, "again").await?;
    let events = arrived(&stack, 101).await?;
    running.stop().await?;
    assert_eq!(seqs(&events, "chat-a"), (1..=51).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_all_three_tables_become_what_they_are() -> Result<()> {
    let mut stack = Stack::new().await?;
    let running = stack.start();
    let transaction = stack.sql.transaction().await?;
    transaction
        .batch_execute(
            r#"INSERT INTO chat_change (chat_id, sequence_number, event_type, actor_id, occurred_at, memberships, chat)
               VALUES ('c', 1, 'chat.created', 'alice', '2026-01-31 12:00:00.123456+00',
                       '[{"user_id":"alice","member_role":"owner","joined_seq":1,"left_seq":null,"visible_from_seq":1}]',
                       '{"chat_name":"Tea","is_group":true,"created_at":5,"deleted_shown_as":"tombstone","history_for_new_members":true}');
               INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
               VALUES ('0192f0c1-2b3c-7d4e-8f90-a1b2c3d4e5f6', 'c', 'alice', 'hello', 2, '2026-01-31 12:00:01+00');
               INSERT INTO chat_change (chat_id, sequence_number, event_type, actor_id, occurred_at, message_seq, content, message)
               VALUES ('c', 3, 'message.edited', 'alice', '2026-01-31 12:00:02+00', 2, 'hello!',
                       '{"message_id":"0192f0c1-2b3c-7d4e-8f90-a1b2c3d4e5f6","message_seq":2,"sender_id":"alice","created_at":1}');
               INSERT INTO user_change (user_id, version, name, email, is_removed, changed_at)
               VALUES ('alice', 1, 'Alice', 'alice@example.com', false, '2026-01-31 12:00:03+00'),
                      ('bob', 1, 'Bob', 'bob@example.com', false, '2026-01-31 12:00:03+00'),
                      ('bob', 2, NULL, NULL, true, '2026-01-31 12:00:04+00');"#,
        )
        .await?;
    transaction.commit().await?;
    let events = arrived(&stack, 3).await?;
    // Not a count: the topic is compacted, and with times this old Kafka rolls the segment at the transaction's marker, so
    // that what a key held before its last record may be gone at any moment.
    eventually("the last record of each profile", async || {
        let users = read_users(&stack.config).await?;
        let last = |name: &str| users.iter().rfind(|(key, _)| key == name).map(|(_, user)| user.is_some());
        Ok((last("alice"), last("bob")) == (Some(true), Some(false)))
    })
    .await?;
    running.stop().await?;

    let kinds: Vec<&str> = events.iter().map(|logged| logged.event.event_type.as_str()).collect();
    assert_eq!(kinds, [event_type::CHAT_CREATED, event_type::MESSAGE_PERSISTED, event_type::MESSAGE_EDITED]);
    let created = &events[0];
    assert_eq!(created.event.occurred_at, 1_769_860_800_123);
    assert_eq!(created.timestamp_ms, created.event.occurred_at);
    assert_eq!(created.event.memberships[0].member_role, "owner");
    assert_eq!(created.event.chat.as_ref().and_then(|chat| chat.chat_name.as_deref()), Some("Tea"));
    let expected = [
        ("ce_id", "c/1"),
        ("ce_source", &format!("/waltalkie/{}", stack.slot())),
        ("ce_specversion", "1.0"),
        ("ce_time", "2026-01-31T12:00:00.123Z"),
        ("ce_type", "chat.created"),
        ("content-type", "application/avro"),
    ];
    for (name, value) in expected {
        assert_eq!(created.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    let edited = events[2].event.message.as_ref().expect("a message");
    assert_eq!((edited.message_seq, edited.content.as_deref()), (2, Some("hello!")));
    // One transaction, ordinals over all three tables.
    let ordinals: Vec<i64> = events.iter().map(|logged| logged.event.origin.ordinal).collect();
    assert_eq!(ordinals, [0, 1, 2]);
    assert!(events.iter().all(|logged| logged.event.origin.commit_lsn == events[0].event.origin.commit_lsn));
    let users = read_users(&stack.config).await?;
    let alice = users.iter().find(|(key, _)| key == "alice").and_then(|(_, user)| user.clone()).expect("alice");
    assert_eq!((alice.display_name.as_deref(), alice.email), (Some("Alice"), None));
    assert!(users.iter().rfind(|(key, _)| key == "bob").is_some_and(|(_, user)| user.is_none()), "a tombstone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolled_back_rows_and_changed_state_leave_nothing() -> Result<()> {
    let mut stack = Stack::new().await?;
    let running = stack.start();
    stack.send_many("c", 1, 500).await?;
    let transaction = stack.sql.transaction().await?;
    support::insert(&transaction, "c", 501, "never said").await?;
    transaction.rollback().await?;
    let transaction = stack.sql.transaction().await?;
    support::insert(&transaction, "c", 501, "kept").await?;
    transaction.batch_execute("SAVEPOINT s").await?;
    support::insert(&transaction, "c", 502, "taken back").await?;
    transaction.batch_execute("ROLLBACK TO s").await?;
    support::insert(&transaction, "c", 502, "kept too").await?;
    transaction.commit().await?;
    let updated =
        stack.sql.execute("UPDATE message SET is_delete = true, content = NULL, deleted_at = now()", &[]).await?;
    assert_eq!(updated, 502);
    stack.send("c", 503, "last").await?;
    let events = arrived(&stack, 503).await?;
    running.stop().await?;
    assert_eq!(seqs(&events, "c"), (1..=503).collect::<Vec<_>>());
    let body = |seq: usize| events[seq - 1].event.message.as_ref().and_then(|message| message.content.clone());
    assert_eq!((body(501).as_deref(), body(502).as_deref()), (Some("kept"), Some("kept too")));
    let ordinals: Vec<i64> = events[500..502].iter().map(|logged| logged.event.origin.ordinal).collect();
    assert_eq!(ordinals, [0, 1], "rows that were taken back don't count");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_goes_in_several_kafka_transactions() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.send_many("c", 1, 50_000).await?;
    let events = arrived(&stack, 50_000).await?;
    running.stop().await?;
    assert_eq!(seqs(&events, "c"), (1..=50_000).collect::<Vec<_>>());
    assert!(events.iter().enumerate().all(|(number, logged)| logged.event.origin.ordinal == number as i64));
    let commit_lsn = events[0].event.origin.commit_lsn;
    let positions = read_positions(&stack.config).await?;
    let inside = positions
        .iter()
        .filter(|position| position.commit_lsn == commit_lsn && position.ordinal < 49_999)
        .inspect(|position| assert!(position.confirmable_lsn < commit_lsn, "not confirmable before its end"))
        .count();
    assert!(inside >= 2, "{inside} Kafka transactions inside the one of Postgres");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_over_a_megabyte_arrive_whole() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    // Hexadecimal digits: too many for one page and one read, half as many once compressed, below the topic's limit.
    let body: String = (0..1_600_000).map(|_| char::from(b"0123456789abcdef"[rand::random_range(0..16)])).collect();
    stack.send("c", 1, "before").await?;
    stack.send("c", 2, &body).await?;
    stack.send("c", 3, "after").await?;
    let events = arrived(&stack, 3).await?;
    running.stop().await?;
    assert_eq!(seqs(&events, "c"), [1, 2, 3]);
    assert!(events[1].event.message.as_ref().and_then(|message| message.content.as_ref()) == Some(&body));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_kafka_refuses_stops_the_worker_after_what_came_before() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.send("c", 1, "before").await?;
    arrived(&stack, 1).await?;
    let body: String = (0..2_000_000).map(|_| char::from(rand::random_range(33..127u8))).collect();
    stack.send("c", 2, &body).await?;
    let error = tokio::time::timeout(support::PATIENCE, running.task).await??.expect_err("the worker stops");
    assert!(!error.is_transient());
    assert!(error.chain().contains("max.message.bytes"), "{}", error.chain());
    assert_eq!(seqs(&read_events(&stack.config).await?, "c"), [1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_mapped_stops_after_what_came_before() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack
        .sql
        .batch_execute(
            "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
             VALUES (gen_random_uuid(), 'c', 'alice', 'fine', 1, now()),
                    (gen_random_uuid(), 'c', 'alice', 'at no time', 2, 'infinity')",
        )
        .await?;
    let error = tokio::time::timeout(support::PATIENCE, running.task).await??.expect_err("the worker stops");
    assert!(error.chain().contains("column message.created_at: infinity"), "{}", error.chain());
    assert_eq!(seqs(&read_events(&stack.config).await?, "c"), [1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_wait_share_transactions_and_one_alone_waits_for_nobody() -> Result<()> {
    const COMMITS: usize = 2_000;
    let stack = Stack::new().await?;
    stack
        .sql
        .batch_execute(&format!(
            "DO $$ BEGIN FOR seq IN 1..{COMMITS} LOOP
                 INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
                 VALUES (gen_random_uuid(), 'c', 'alice', 'text', seq, now());
                 COMMIT;
             END LOOP; END $$"
        ))
        .await?;
    let before = read_positions(&stack.config).await?.len();
    let running = stack.start();
    arrived(&stack, COMMITS).await?;
    let positions = read_positions(&stack.config).await?;
    let transactions = positions.len() - before;
    ensure!(transactions <= COMMITS / 20, "{transactions} Kafka transactions of {COMMITS} commits");

    // One after the other, each published before the next is written.
    let mut last = positions.last().context("a position")?.commit_lsn;
    let mut waited_ms = Vec::new();
    for seq in COMMITS + 1..=COMMITS + 10 {
        stack.send("c", seq as i64, "alone").await?;
        let committed_ms = runtime::clock::now_ms();
        let arrived = arrived(&stack, seq).await?.pop().context("an event")?.event.origin.commit_lsn;
        let positions = read_positions(&stack.config).await?;
        let own: Vec<_> = positions.iter().filter(|position| position.commit_lsn > last).collect();
        ensure!(own.first().is_some_and(|own| own.commit_lsn == arrived), "{seq} isn't in a transaction of its own");
        waited_ms.push(own[0].written_at - committed_ms);
        last = arrived;
    }
    running.stop().await?;
    // A timer would hold up each of them; a busy machine doesn't.
    let quickest_ms = waited_ms.iter().min().context("none")?;
    ensure!(*quickest_ms < 20, "the quickest waited {quickest_ms} ms: {waited_ms:?}");
    Ok(())
}
