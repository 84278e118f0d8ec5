//! Every kind of message as a real server sends it is decoded. With `WALTALKIE_CAPTURE_DIR` the messages are also written
//! there, one a file: the seeds of `fuzz/`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cdc_worker::pgoutput::{self, Message};
use cdc_worker::replication::{Connection, Incoming};
use local_stack::{LonePostgres, PostgresVersion};
use runtime::Secret;

/// Longest time without a message.
const PATIENCE: Duration = Duration::from_secs(60);
/// Prefix of the messages that say what comes next.
const LABEL: &str = "what comes next";

const TABLES: &str = "
    CREATE TYPE mood AS ENUM ('calm', 'cross');
    CREATE TABLE kinds (
        id int PRIMARY KEY, flag bool, small int2, large int8, half float4, whole float8, exact numeric, name varchar(20),
        bytes bytea, uuid uuid, document jsonb, text_document json, at timestamptz, local_at timestamp, day date,
        span interval, host inet, words text[], feeling mood, rights aclitem);
    CREATE TABLE wide (id int PRIMARY KEY, note text, body text);
    CREATE TABLE other (id int PRIMARY KEY);
    ALTER TABLE wide ALTER body SET STORAGE EXTERNAL;
    SELECT pg_replication_origin_create('elsewhere');
    CREATE PUBLICATION everything FOR TABLE kinds, wide, other, message, chat_change, user_change
      WITH (publish_via_partition_root = true);";

/// A label, and what is done then.
const STEPS: &[(&str, &str)] = &[
    ("message", "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
        VALUES ('01980000-0000-7000-8000-000000000001', 'c', 'alice', 'hello', 1, '2026-01-02 03:04:05.678+00')"),
    ("message-reply", "INSERT INTO message (message_id, chat_id, sender_id, content, parent_message_id, parent_seq,
            sequence_number, app_data, attachments, created_at)
        VALUES ('01980000-0000-7000-8000-000000000002', 'c', 'bob', 'grüß dich 👋', '01980000-0000-7000-8000-000000000001', 1,
            2, '{\"colour\":\"red\"}', '[{\"media_id\":\"m\",\"kind\":\"image\",\"file_name\":\"a.png\",\"content_type\":\"image/png\",\"size_bytes\":7}]', '2026-01-02 03:04:06+00')"),
    ("message-deleted", "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, is_delete, created_at, deleted_at)
        VALUES ('01980000-0000-7000-8000-000000000003', 'c', 'bob', NULL, 3, true, '2026-01-02 03:04:07+00', '2026-01-02 03:04:08+00')"),
    ("message-toasted", "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
        SELECT '01980000-0000-7000-8000-000000000004', 'c', 'alice', string_agg(md5(n::text), ''), 4, '2026-01-02 03:04:09+00'
          FROM generate_series(1, 90) n"),
    ("infinite", "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
        VALUES ('01980000-0000-7000-8000-000000000005', 'c', 'alice', 'for ever', 5, 'infinity')"),
    ("infinite-minus", "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
        VALUES ('01980000-0000-7000-8000-000000000006', 'c', 'alice', 'since ever', 6, '-infinity')"),
    ("change-edit", "INSERT INTO chat_change (chat_id, sequence_number, event_type, actor_id, occurred_at, message_seq, content, message)
        VALUES ('c', 7, 'message.edited', 'alice', '2026-01-02 03:04:10+00', 1, 'hello there',
            '{\"message_id\":\"01980000-0000-7000-8000-000000000001\",\"message_seq\":1,\"sender_id\":\"alice\",\"created_at\":1}')"),
    ("change-joined", "INSERT INTO chat_change (chat_id, sequence_number, event_type, actor_id, occurred_at, memberships)
        VALUES ('c', 8, 'member.joined', 'alice', '2026-01-02 03:04:11+00',
            '[{\"user_id\":\"carol\",\"member_role\":\"member\",\"joined_seq\":8,\"visible_from_seq\":8}]')"),
    ("change-chat", "INSERT INTO chat_change (chat_id, sequence_number, event_type, actor_id, occurred_at, chat)
        VALUES ('c', 9, 'chat.updated', 'alice', '2026-01-02 03:04:12+00',
            '{\"chat_name\":\"c\",\"is_group\":true,\"created_at\":1,\"deleted_shown_as\":\"tombstone\",\"history_for_new_members\":true}')"),
    ("user", "INSERT INTO user_change (user_id, version, name, email, is_removed, changed_at)
        VALUES ('alice', 1, 'Alice', 'alice@example.com', false, '2026-01-02 03:04:13+00')"),
    ("user-removed", "INSERT INTO user_change (user_id, version, is_removed, changed_at)
        VALUES ('alice', 2, true, '2026-01-02 03:04:14+00')"),
    ("kinds", "INSERT INTO kinds VALUES (1, true, -2, 1::bigint << 40, 1.5, 'NaN', 12345678901234567890.123, 'name', '\\x00ff',
        '01980000-0000-7000-8000-000000000007', '{\"a\":[1,null]}', '{ \"a\" : 1 }', '2026-01-02 03:04:15+00', '2026-01-02 03:04:15',
        '2026-01-02', '1 mon 2 days 3 s', '192.0.2.1/24', '{a,NULL,\"\"}', 'cross', ('=r/' || current_user)::aclitem)"),
    ("kinds-infinite", "INSERT INTO kinds (id, at, local_at, day) VALUES (2, 'infinity', '-infinity', 'infinity')"),
    ("kinds-null", "INSERT INTO kinds (id) VALUES (3)"),
    ("wide", "INSERT INTO wide SELECT 1, 'note', string_agg(md5(n::text), '') FROM generate_series(1, 70) n"),
    ("wide-unchanged", "UPDATE wide SET note = 'other'"),
    ("wide-key", "UPDATE wide SET id = 2"),
    ("wide-full", "ALTER TABLE wide REPLICA IDENTITY FULL; UPDATE wide SET note = NULL"),
    ("wide-full", "DELETE FROM wide"),
    ("wide-nothing", "ALTER TABLE wide REPLICA IDENTITY DEFAULT; ALTER TABLE wide ADD added int4;
        INSERT INTO wide (id) VALUES (3)"),
    ("other", "INSERT INTO other VALUES (1); DELETE FROM other"),
    ("one", "TRUNCATE other"),
    ("many", "TRUNCATE kinds, wide RESTART IDENTITY CASCADE"),
    ("inside", "SELECT pg_logical_emit_message(true, 'ours', 'inside')"),
    ("outside", "SELECT pg_logical_emit_message(false, 'waltalkie.heartbeat', '1764000000000')"),
    ("empty", "SELECT pg_logical_emit_message(false, '', ''::bytea)"),
    ("bytes", "SELECT pg_logical_emit_message(true, 'bytes', '\\x00fffe'::bytea)"),
    ("savepoint", "BEGIN; INSERT INTO other VALUES (2); SAVEPOINT s; INSERT INTO other VALUES (3); ROLLBACK TO s; COMMIT"),
    ("origin", "SELECT pg_replication_origin_session_setup('elsewhere'); BEGIN;
        SELECT pg_replication_origin_xact_setup('0/ABCDEF', '2026-01-02 03:04:16+00');
        INSERT INTO other VALUES (4); COMMIT; SELECT pg_replication_origin_session_reset()"),
];

/// The kind of a message, and what is special in it.
fn name_of(message: &Message<'_>, label: &str) -> String {
    match message {
        Message::Begin { .. } => "begin-any".into(),
        Message::Commit { .. } => "commit-any".into(),
        Message::Origin { .. } => "origin-any".into(),
        Message::Relation(relation) => format!("relation-{}-of-{}", relation.name, relation.columns.len()),
        Message::Type { name, .. } => format!("type-{name}"),
        Message::Insert { .. } => format!("insert-{label}"),
        Message::Update { .. } => format!("update-{label}"),
        Message::Delete { .. } => format!("delete-{label}"),
        Message::Truncate { .. } => format!("truncate-{label}"),
        Message::Logical { .. } => format!("logical-{label}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_message_decodes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = LonePostgres::start(PostgresVersion::V18, dir.path(), &[]).await?;
    let url = Secret::new(server.url("postgres"));
    migrations::migrate_truth(&url).await?;
    let parsed = runtime::postgres::parse(&url, "the server under test")?;
    let client = runtime::postgres::connect(&parsed).await?;
    client.batch_execute(TABLES).await?;
    client.batch_execute("SELECT pg_create_logical_replication_slot('capture', 'pgoutput')").await?;
    for (label, sql) in STEPS {
        client.execute("SELECT pg_logical_emit_message(false, $1, $2)", &[&LABEL, label]).await?;
        client.batch_execute(sql).await.with_context(|| format!("{label}: {sql}"))?;
    }
    client.execute("SELECT pg_logical_emit_message(false, $1, 'the end')", &[&LABEL]).await?;

    let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut stream = Connection::open(&parsed).await?.start("capture", "everything", "0/0".parse()?).await?;
    let mut label = String::new();
    while label != "the end" {
        match stream.next_message()? {
            Some(Incoming::Data { payload, .. }) => match pgoutput::decode(payload)? {
                Message::Logical { prefix: LABEL, content, .. } => label = std::str::from_utf8(content)?.to_owned(),
                message => {
                    found.entry(name_of(&message, &label)).or_insert_with(|| payload.to_vec());
                }
            },
            Some(Incoming::Keepalive { .. }) => {}
            None => {
                tokio::time::timeout(PATIENCE, stream.fill(false)).await.context("nothing comes any more")??;
            }
        }
    }
    for kind in ["begin", "commit", "origin", "relation", "type", "insert", "update", "delete", "truncate", "logical"] {
        ensure!(found.keys().any(|name| name.split('-').next() == Some(kind)), "no {kind} among {:?}", found.keys());
    }
    let tags: String = found.values().map(|bytes| char::from(bytes[0])).collect();
    for tag in "BCORYIUDTM".chars() {
        ensure!(tags.contains(tag), "no {tag} in {tags}");
    }
    if let Some(dir) = std::env::var_os("WALTALKIE_CAPTURE_DIR").map(PathBuf::from) {
        std::fs::create_dir_all(&dir)?;
        for (name, bytes) in &found {
            std::fs::write(dir.join(name), bytes)?;
        }
    }
    Ok(())
}
