//! What people do to the tables and in their sessions while the worker streams: each has a defined result.

use crate::support::completing::{complete, goes_on};
use crate::support::{self, Stack, eventually, history_is_the_tables, read_events};
use anyhow::{Context, Result, ensure};

/// The `seq`s of a chat in the order of the log.
fn seqs(events: &[support::Logged], chat: &str) -> Vec<i64> {
    events.iter().filter(|logged| logged.key == chat).map(|logged| logged.event.seq).collect()
}

async fn arrived(stack: &Stack, count: usize) -> Result<Vec<support::Logged>> {
    eventually(&format!("{count} events"), async || Ok(read_events(&stack.config).await?.len() >= count)).await?;
    read_events(&stack.config).await
}

/// The partition that holds a chat, and its remainder.
async fn partition_of(stack: &Stack, chat: &str) -> Result<(String, String)> {
    let sql = "SELECT tableoid::regclass::text FROM message WHERE chat_id = $1 LIMIT 1";
    let name: String = stack.sql.query_one(sql, &[&chat]).await?.get(0);
    let remainder = name.strip_prefix("message_p").context("another name than migrations give")?.to_owned();
    Ok((name, remainder))
}

/// A row written with plain SQL, into any table of that shape.
fn row(table: &str, chat: &str, seq: i64) -> String {
    format!(
        "INSERT INTO {table} (message_id, chat_id, sender_id, content, sequence_number, created_at)
         VALUES (gen_random_uuid(), '{chat}', 'alice', 'text', {seq}, now());"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_may_come_and_other_ones_must_stay() -> Result<()> {
    let mut stack = Stack::new().await?;
    let running = stack.start();
    stack.send("c", 1, "one").await?;
    let transaction = stack.sql.transaction().await?;
    support::insert(&transaction, "c", 2, "two").await?;
    transaction.batch_execute("ALTER TABLE message ADD COLUMN colour text").await?;
    support::insert(&transaction, "c", 3, "three").await?;
    transaction.commit().await?;
    let events = arrived(&stack, 3).await?;
    assert_eq!(seqs(&events, "c"), [1, 2, 3]);
    stack.sql.batch_execute("ALTER TABLE message RENAME COLUMN sender_id TO sent_by").await?;
    stack
        .sql
        .batch_execute(
            "INSERT INTO message (message_id, chat_id, sent_by, content, sequence_number, created_at)
             VALUES (gen_random_uuid(), 'c', 'alice', 'four', 4, now())",
        )
        .await?;
    let error = tokio::time::timeout(support::PATIENCE, running.task).await??.expect_err("the worker stops");
    assert!(!error.is_transient());
    assert!(error.chain().contains("table message has no column sender_id"), "{}", error.chain());
    // Renaming it back is no way out: the stream describes a row as its table was when it was written.
    stack.sql.batch_execute("ALTER TABLE message RENAME COLUMN sent_by TO sender_id").await?;
    stack.send("c", 5, "five").await?;
    let running = stack.start();
    let error =
        tokio::time::timeout(support::PATIENCE, running.task).await??.expect_err("the row is as it was written");
    assert!(error.chain().contains("sender_id"), "{}", error.chain());
    assert_eq!(seqs(&read_events(&stack.config).await?, "c"), [1, 2, 3]);
    // The tables are as they should be again, and hold the rows that the stream can't show.
    complete(&stack).await?;
    assert_eq!(seqs(&read_events(&stack.config).await?, "c"), [1, 2, 3, 4, 5]);
    goes_on(&stack, 6).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_renamed_within_the_transaction_stops_at_its_rows() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack
        .sql
        .batch_execute(&format!(
            "BEGIN; {} ALTER TABLE message RENAME COLUMN content TO body; ALTER TABLE message RENAME COLUMN body TO content;
             {} ALTER TABLE message RENAME COLUMN created_at TO sent_at;
             INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, sent_at)
             VALUES (gen_random_uuid(), 'c', 'alice', 'text', 3, now()); COMMIT",
            row("message", "c", 1),
            row("message", "c", 2)
        ))
        .await?;
    let why = running.refusal().await?;
    ensure!(why.contains("table message has no column created_at"), "{why}");
    ensure!(seqs(&read_events(&stack.config).await?, "c") == [1, 2], "what came before it in the same transaction");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_events_need_may_not_be_dropped() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.sql.batch_execute("ALTER TABLE message DROP COLUMN file_url").await?;
    stack.send("c", 1, "nothing is made from that one").await?;
    arrived(&stack, 1).await?;
    stack.sql.batch_execute("ALTER TABLE message DROP COLUMN parent_seq").await?;
    stack.send("c", 2, "lacks one").await?;
    let why = running.refusal().await?;
    ensure!(why.contains("table message has no column parent_seq"), "{why}");
    ensure!(seqs(&read_events(&stack.config).await?, "c") == [1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_may_change_to_one_that_reads_the_same() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.sql.batch_execute("ALTER TABLE message ALTER COLUMN sender_id TYPE varchar(200)").await?;
    stack.send("c", 1, "text all the same").await?;
    arrived(&stack, 1).await?;
    stack.sql.batch_execute("ALTER TABLE message ALTER COLUMN parent_seq TYPE numeric").await?;
    stack.send("c", 2, "of another type").await?;
    let why = running.refusal().await?;
    ensure!(why.contains("column message.parent_seq has type id 1700, where bigint is needed"), "{why}");
    ensure!(seqs(&read_events(&stack.config).await?, "c") == [1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_come_and_go() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.send("c", 1, "by the root").await?;
    let (partition, remainder) = partition_of(&stack, "c").await?;
    stack.sql.batch_execute(&row(&partition, "c", 2)).await?;
    arrived(&stack, 2).await?;

    // Detached, it is a table that is none of ours: its rows aren't published, and the root takes none of its chats.
    let attach = format!("FOR VALUES WITH (MODULUS 8, REMAINDER {remainder})");
    stack.sql.batch_execute(&format!("ALTER TABLE message DETACH PARTITION {partition}")).await?;
    ensure!(stack.send("c", 3, "nowhere to go").await.is_err(), "the root took a row");
    stack.sql.batch_execute(&row(&partition, "c", 3)).await?;
    stack.sql.batch_execute(&format!("DELETE FROM {partition} WHERE sequence_number = 3")).await?;
    stack.sql.batch_execute(&format!("ALTER TABLE message ATTACH PARTITION {partition} {attach}")).await?;
    stack.send("c", 3, "attached again").await?;
    arrived(&stack, 3).await?;

    // A new table in its place, with its columns in another order and one dropped.
    let columns: String = stack
        .sql
        .query_one(
            "SELECT string_agg(format('%I %s%s', attname, format_type(atttypid, atttypmod),
                               CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END), ', ' ORDER BY attnum DESC)
               FROM pg_attribute WHERE attrelid = 'message'::regclass AND attnum > 0",
            &[],
        )
        .await?
        .get(0);
    stack
        .sql
        .batch_execute(&format!(
            "BEGIN;
             ALTER TABLE message DETACH PARTITION {partition};
             CREATE TABLE message_new (dropped text, {columns});
             ALTER TABLE message_new DROP COLUMN dropped, ALTER COLUMN is_delete SET DEFAULT false;
             ALTER TABLE message ATTACH PARTITION message_new {attach};
             {} {} COMMIT",
            row("message", "c", 4),
            row("message_new", "c", 5),
        ))
        .await?;
    let events = arrived(&stack, 5).await?;
    running.stop().await?;
    assert_eq!(seqs(&events, "c"), [1, 2, 3, 4, 5]);
    ensure!(events.iter().all(|logged| logged.event.actor_id == "alice"), "columns went astray");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_past_two_to_the_53_pass_exactly() -> Result<()> {
    const BIG: i64 = (1 << 53) + 1;
    let stack = Stack::new().await?;
    let running = stack.start();
    stack
        .sql
        .batch_execute(&format!(
            r#"INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at, parent_seq)
               VALUES (gen_random_uuid(), 'c', 'alice', 'far', {BIG}, now(), {});
               INSERT INTO chat_change (chat_id, sequence_number, event_type, actor_id, occurred_at, memberships)
               VALUES ('c', {}, 'member.joined', 'alice', now(),
                       '[{{"user_id":"bob","member_role":"member","joined_seq":{},"left_seq":null,"visible_from_seq":{BIG}}}]')"#,
            i64::MAX,
            BIG + 1,
            BIG + 1,
        ))
        .await?;
    let events = arrived(&stack, 2).await?;
    running.stop().await?;
    assert_eq!(seqs(&events, "c"), [BIG, BIG + 1]);
    assert_eq!(events[0].event.event_id, "c/9007199254740993");
    assert_eq!(events[0].event.message.as_ref().and_then(|message| message.parent_seq), Some(i64::MAX));
    let stay = &events[1].event.memberships[0];
    assert_eq!((stay.joined_seq, stay.visible_from_seq), (BIG + 1, BIG));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_arrive_whole_however_they_are_stored() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    let body = "so compressible ".repeat(80_000);
    stack.send("compressed", 1, &body).await?;
    let (partition, _) = partition_of(&stack, "compressed").await?;
    stack.sql.batch_execute(&format!("ALTER TABLE {partition} ALTER COLUMN content SET STORAGE EXTERNAL")).await?;
    stack.send("compressed", 2, &body).await?;
    let stored = "SELECT pg_column_compression(content) IS NOT NULL, pg_column_size(content) FROM message ORDER BY sequence_number";
    let stored: Vec<(bool, i32)> =
        stack.sql.query(stored, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    ensure!(stored[0].0 && stored[0].1 < 100_000, "compressed: {stored:?}");
    ensure!(!stored[1].0 && stored[1].1 > 1_000_000, "uncompressed, out of line: {stored:?}");
    let events = arrived(&stack, 2).await?;
    running.stop().await?;
    for logged in &events {
        ensure!(logged.event.message.as_ref().and_then(|message| message.content.as_ref()) == Some(&body));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_types_and_origins_in_the_stream_are_passed_over() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack
        .sql
        .batch_execute(&format!(
            "SELECT pg_logical_emit_message(false, 'somebody', 'outside');
             SELECT pg_logical_emit_message(false, '{}', 'no number');
             BEGIN;
             SELECT pg_logical_emit_message(true, 'somebody', 'first in its transaction');
             {}
             SELECT pg_logical_emit_message(true, 'somebody', 'inside');
             SELECT pg_logical_emit_message(false, 'somebody', 'inside, and at once');
             {}
             COMMIT;
             BEGIN; SELECT pg_logical_emit_message(true, 'somebody', 'alone'); COMMIT;",
            "waltalkie.heartbeat",
            row("message", "c", 1),
            row("message", "c", 2)
        ))
        .await?;
    arrived(&stack, 2).await?;

    // Types of somebody's own are described before the table that has them.
    stack
        .sql
        .batch_execute(&format!(
            "CREATE TYPE mood AS ENUM ('fine', 'well');
             CREATE TYPE place AS (x int, y text);
             ALTER TABLE message ADD COLUMN mood mood NOT NULL DEFAULT 'fine', ADD COLUMN place place DEFAULT ROW(1, 'here');
             {}",
            row("message", "c", 3)
        ))
        .await?;
    arrived(&stack, 3).await?;

    // Rows that came here by somebody's replication.
    let origin = stack.slot();
    let session = stack.connect().await?;
    session.execute("SELECT pg_replication_origin_create($1)", &[&origin]).await?;
    session.execute("SELECT pg_replication_origin_session_setup($1)", &[&origin]).await?;
    session
        .batch_execute(&format!(
            "BEGIN; SELECT pg_replication_origin_xact_setup('0/1234', now()); {} COMMIT; {}",
            row("message", "c", 4),
            row("message", "c", 5)
        ))
        .await?;
    session.batch_execute("SELECT pg_replication_origin_session_reset()").await?;
    session.execute("SELECT pg_replication_origin_drop($1)", &[&origin]).await?;
    let events = arrived(&stack, 5).await?;
    running.stop().await?;
    assert_eq!(seqs(&events, "c"), [1, 2, 3, 4, 5]);
    let ordinals: Vec<i64> = events[..2].iter().map(|logged| logged.event.origin.ordinal).collect();
    assert_eq!(ordinals, [0, 1], "messages don't count");
    ensure!(history_is_the_tables(&stack).await? == 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_subtransaction_takes_back_never_was() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack
        .sql
        .batch_execute(&format!(
            "BEGIN; {}
             SAVEPOINT a; {}
             SAVEPOINT b; ALTER TABLE message ADD COLUMN never text; {} ROLLBACK TO b; RELEASE b;
             SAVEPOINT c; {} RELEASE c;
             RELEASE a;
             SAVEPOINT d;
             INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
             SELECT gen_random_uuid(), 'c', 'alice', 'taken back', n, now() FROM generate_series(4, 5000) n;
             ROLLBACK TO d;
             DO $$ BEGIN
                 {} RAISE EXCEPTION 'taken back';
             EXCEPTION WHEN raise_exception THEN NULL; END $$;
             {} COMMIT",
            row("message", "c", 1),
            row("message", "c", 2),
            row("message", "c", 3),
            row("message", "c", 3),
            row("message", "c", 4),
            row("message", "c", 4),
        ))
        .await?;
    let events = arrived(&stack, 4).await?;
    running.stop().await?;
    assert_eq!(seqs(&events, "c"), [1, 2, 3, 4]);
    let ordinals: Vec<i64> = events.iter().map(|logged| logged.event.origin.ordinal).collect();
    assert_eq!(ordinals, [0, 1, 2, 3]);
    ensure!(history_is_the_tables(&stack).await? == 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_and_truncates_of_a_changed_publication_stop_the_worker() -> Result<()> {
    for (statement, expected) in [
        ("DELETE FROM message WHERE chat_id = 'c'", "DELETE of table message"),
        ("TRUNCATE message", "TRUNCATE of table message"),
        ("TRUNCATE user_change", "TRUNCATE of table user_change"),
    ] {
        let stack = Stack::new().await?;
        let publication = stack.config.names().publication();
        let running = stack.start();
        stack.send("c", 1, "published").await?;
        arrived(&stack, 1).await?;
        let change = format!("ALTER PUBLICATION \"{publication}\" SET (publish = 'insert, delete, truncate')");
        stack.sql.batch_execute(&change).await?;
        stack.sql.batch_execute(statement).await?;
        let why = running.refusal().await?;
        ensure!(why.contains(expected) && why.contains("changed by somebody"), "{statement}: {why}");
    }
    Ok(())
}
