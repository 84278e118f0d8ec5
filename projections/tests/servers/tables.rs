//! What the tables hold, projected by the whole role.

use std::sync::Arc;

use crate::support::{Stack, created, event, mark, metric, sent, until, with_stack};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use runtime::{Health, Shutdown, clock};
use schemas::topics::Topic;
use schemas::{ChatEvent, Cursor, Decoder, Mark, MessageState, event_type};

/// The whole role; ends with the returned shutdown.
fn start(stack: &Stack) -> (Health, Shutdown, tokio::task::JoinHandle<Result<(), projections::Error>>) {
    let (health, shutdown) = (Health::default(), Shutdown::new());
    let role = tokio::spawn(projections::run(Arc::clone(&stack.config), health.role("projector"), shutdown.clone()));
    (health, shutdown, role)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_ends_up_in_the_tables() {
    with_stack(|stack| async move {
        let (health, shutdown, role) = start(&stack);
        until("ready", || async { health.is_ready() }).await;
        stack.event(&created("c", &["alice", "bob", "carol"])).await;

        // Bob's cursor is there before the message: no row is ever made for him.
        stack.mark(&mark("c", "bob", 2, 0)).await;
        stack.until_count("SELECT count(*) FROM inbox_cursor WHERE user_id = 'bob' AND delivered_seq = 2", 1).await;
        let hello = sent("c", 2, "alice");
        stack.event(&hello).await;
        stack.until_count("SELECT count(*) FROM inbox WHERE user_id = 'carol' AND NOT is_delivered", 1).await;
        assert_eq!(stack.count("SELECT count(*) FROM inbox").await, 1);

        // The head is the newest message sent; an edit of it shows, one of an older message doesn't.
        let second = sent("c", 3, "bob");
        stack.event(&second).await;
        for (seq, of, text) in [(4, &hello, "old"), (5, &second, "new")] {
            let state = of.message.clone().map(|message| MessageState { content: Some(text.into()), ..message });
            stack.event(&ChatEvent { message: state, ..event("c", seq, event_type::MESSAGE_EDITED) }).await;
        }
        let head = |seq| format!("SELECT count(*) FROM chat_head WHERE head_seq = {seq}");
        stack.until_count(&head(5), 1).await;
        let row = stack.db.query_one("SELECT message_seq, message->>'content', last_activity_at FROM chat_head", &[]);
        let row = row.await.expect("a row");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (3, "new"));

        // A delete empties it, and marks the rows that wait.
        let gone = second.message.clone().map(|message| MessageState { content: None, deleted_at: Some(1), ..message });
        stack.event(&ChatEvent { message: gone, ..event("c", 6, event_type::MESSAGE_DELETED) }).await;
        stack.until_count(&head(6), 1).await;
        stack
            .until_count("SELECT count(*) FROM chat_head WHERE message->>'content' IS NULL AND message_seq = 3", 1)
            .await;
        stack
            .until_count("SELECT count(*) FROM inbox WHERE is_deleted AND sequence_number = 3 AND user_id = 'carol'", 1)
            .await;

        // Carol comes: what waited is delivered. Reading is delivery, and late marks change nothing.
        stack.mark(&mark("c", "carol", 0, 3)).await;
        stack.mark(&mark("c", "carol", 1, 1)).await;
        stack.until_count("SELECT count(*) FROM inbox WHERE user_id = 'carol' AND is_delivered", 2).await;
        stack
            .until_count(
                "SELECT count(*) FROM chat_cursor WHERE user_id = 'carol' AND delivered_seq = 3 AND read_seq = 3",
                1,
            )
            .await;

        // Whoever leaves has no rows, of before or after.
        let mut leave = created("c", &["carol"]);
        leave.memberships[0].left_seq = Some(7);
        stack.event(&ChatEvent { memberships: leave.memberships, ..event("c", 7, event_type::MEMBER_LEFT) }).await;
        stack.event(&sent("c", 8, "alice")).await;
        stack.event(&event("c", 9, "poll.closed")).await;
        stack.until_count(&head(9), 1).await;
        stack.until_count("SELECT count(*) FROM inbox WHERE user_id = 'bob' AND sequence_number = 8", 1).await;
        assert_eq!(stack.count("SELECT count(*) FROM inbox WHERE user_id = 'carol'").await, 0);
        stack.until_count("SELECT count(*) FROM membership WHERE user_id = 'carol' AND left_seq = 7", 1).await;
        assert!(metric(projections::metrics::UNKNOWN, "chat_head") >= 1.0);

        shutdown.begin();
        role.await.expect("no panic").expect("ends well");
        assert!(!health.is_healthy(), "a role that has ended says so");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inbox_stays_behind_and_cursors_do_not_wait_for_it() {
    with_stack(|stack| async move {
        const DELAY_MS: u64 = 1_500;
        let mut config = (*stack.config).clone();
        config.projector.inbox_delay_ms = DELAY_MS;
        let (health, shutdown) = (Health::default(), Shutdown::new());
        let role = tokio::spawn(projections::run(Arc::new(config), health.role("projector"), shutdown.clone()));
        until("ready", || async { health.is_ready() }).await;
        let message = sent("c", 2, "alice");
        stack.event(&created("c", &["alice", "bob"])).await;
        stack.event(&message).await;
        stack.until_count("SELECT count(*) FROM chat_head", 1).await;
        stack.mark(&mark("other", "bob", 2, 0)).await;
        stack.until_count("SELECT count(*) FROM inbox_cursor", 1).await;
        stack.until_count("SELECT count(*) FROM inbox", 1).await;
        let age_ms = clock::now_ms() - message.occurred_at;
        assert!(age_ms >= DELAY_MS as i64, "the row was there after {age_ms} ms");
        shutdown.begin();
        role.await.expect("no panic").expect("ends well");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_are_published_once_they_move_and_never_go_back() {
    with_stack(|stack| async move {
        let (_health, shutdown, role) = start(&stack);
        for round in 1..=20 {
            for user in ["alice", "bob"] {
                stack.mark(&mark("c", user, round, round / 2)).await;
                stack.mark(&mark("c", user, round - 1, 0)).await;
            }
        }
        stack.until_count("SELECT count(*) FROM chat_cursor WHERE delivered_seq = 20 AND read_seq = 10", 2).await;
        stack.until_count("SELECT count(*) FROM inbox_cursor WHERE delivered_seq = 20", 2).await;
        shutdown.begin();
        role.await.expect("no panic").expect("ends well");

        let decoder = Decoder::<Cursor>::new(
            Arc::clone(&stack.wiring.registry),
            stack.wiring.registry.id_of::<Cursor>().await.expect("id"),
        );
        for user in ["alice", "bob"] {
            let key = format!("c/{user}");
            let mut last = (0, 0);
            for (_, value) in read_all(&stack, Topic::ChatCursors).into_iter().filter(|(found, _)| *found == key) {
                let cursor = decoder.decode(&value).await.expect("a cursor");
                let reached = (cursor.delivered_seq, cursor.read_seq);
                assert!(reached > last, "{reached:?} after {last:?}");
                last = reached;
            }
            assert_eq!(last, (20, 10));
        }
    })
    .await;
}

/// Every committed record of a topic, by partition.
fn read_all(stack: &Stack, topic: Topic) -> Vec<(String, Vec<u8>)> {
    let mut client = runtime::kafka::client_config(&stack.config.kafka);
    client
        .set("group.id", "unused")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true");
    let consumer: BaseConsumer = client.create().expect("consumer");
    let name = stack.names.topic(topic);
    let mut partitions = rdkafka::TopicPartitionList::new();
    for partition in 0..3 {
        partitions.add_partition_offset(&name, partition, rdkafka::Offset::Beginning).expect("place");
    }
    consumer.assign(&partitions).expect("assigned");
    let mut records = Vec::new();
    let mut ends = 0;
    while ends < 3 {
        match consumer.poll(std::time::Duration::from_secs(10)).expect("an answer") {
            Ok(record) => {
                let text = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
                records.push((String::from_utf8(text(record.key())).expect("text"), text(record.payload())));
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ends += 1,
            Err(error) => panic!("{error}"),
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_record_stops_its_projection_at_its_place_and_no_other() {
    with_stack(|stack| async move {
        let (health, shutdown, role) = start(&stack);
        until("ready", || async { health.is_ready() }).await;
        stack.mark(&mark("c", "alice", 1, 1)).await;
        stack.until_count("SELECT count(*) FROM chat_cursor", 1).await;
        stack.value::<Mark>("c", b"not framed".to_vec(), clock::now_ms()).await;
        stack.mark(&mark("c", "alice", 9, 9)).await;
        until("the reason in the health", || async {
            let problem = health.statuses()[0].problem.clone().unwrap_or_default();
            problem.starts_with("cursor: ")
                && problem.contains("chat.marks, partition")
                && problem.contains("offset 1 ")
        })
        .await;
        assert!(!health.is_ready());
        // The others go on, and nothing went past the poison.
        stack.event(&created("c", &["alice"])).await;
        stack.until_count("SELECT count(*) FROM membership", 1).await;
        stack.until_count("SELECT count(*) FROM inbox_member", 1).await;
        assert_eq!(stack.count("SELECT count(*) FROM chat_cursor WHERE delivered_seq > 1").await, 0);
        assert_eq!(stack.count("SELECT max(next_offset) FROM consumer_offset WHERE consumer = 'cursor'").await, 1);
        assert!(metric(projections::metrics::POISON, "cursor") >= 1.0);
        shutdown.begin();
        let failure = role.await.expect("no panic").expect_err("says why");
        assert!(matches!(failure, projections::Error::Poison { projection: "cursor", offset: 1, .. }), "{failure}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_of_another_cluster_are_refused() {
    with_stack(|stack| async move {
        let row = "INSERT INTO consumer_offset VALUES ('chat_head', $1, 0, 7, 'another-cluster/topic')";
        stack.db.execute(row, &[&stack.names.topic(Topic::ChatEvents)]).await.expect("inserted");
        let (health, shutdown, role) = start(&stack);
        until("the reason in the health", || async {
            health.statuses()[0].problem.as_ref().is_some_and(|problem| problem.contains("another-cluster"))
        })
        .await;
        shutdown.begin();
        let failure = role.await.expect("no panic").expect_err("says why");
        assert!(matches!(failure, projections::Error::OtherLog { projection: "chat_head", .. }), "{failure}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_has_cursors_and_no_rows() {
    with_stack(|stack| async move {
        let mut config = (*stack.config).clone();
        // One event a transaction, so that each finds the chat as the one before left it.
        (config.projector.inbox_members, config.projector.batch_records) = (2, 1);
        let (health, shutdown) = (Health::default(), Shutdown::new());
        let role = tokio::spawn(projections::run(Arc::new(config), health.role("projector"), shutdown.clone()));
        until("ready", || async { health.is_ready() }).await;
        stack.event(&created("small", &["alice", "bob"])).await;
        stack.event(&created("crowd", &["alice", "bob", "carol", "dave"])).await;
        for chat in ["small", "crowd"] {
            stack.event(&sent(chat, 2, "alice")).await;
        }
        // Two leave: what is said after that is said to two again.
        let mut seq = 3;
        for user in ["carol", "dave"] {
            let mut leave = created("crowd", &[user]);
            leave.memberships[0].left_seq = Some(seq);
            stack
                .event(&ChatEvent { memberships: leave.memberships, ..event("crowd", seq, event_type::MEMBER_LEFT) })
                .await;
            stack.event(&sent("crowd", seq + 1, "alice")).await;
            seq += 2;
        }
        stack.until_count("SELECT count(*) FROM inbox WHERE chat_id = 'crowd'", 1).await;
        stack.until_count("SELECT count(*) FROM inbox WHERE chat_id = 'crowd' AND sequence_number = 6", 1).await;
        stack.until_count("SELECT count(*) FROM inbox WHERE chat_id = 'small'", 1).await;
        shutdown.begin();
        role.await.expect("no panic").expect("ends well");
    })
    .await;
}
