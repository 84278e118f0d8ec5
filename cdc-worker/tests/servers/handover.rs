//! A planned move of the database to another server, under load, and the ways in which it is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::completing::complete;
use crate::support::moving::{CHATS, Persister, copy_tables, send_commands};
use crate::support::{PATIENCE, Running, Stack, connect, env, eventually, read_events, read_positions, start};
use anyhow::{Context, Result, ensure};
use cdc_worker::failpoint::Failpoints;
use cdc_worker::handover::{self, Finished};
use local_stack::{LonePostgres, PostgresVersion};
use runtime::names::Database;
use runtime::{Config, Secret, Shutdown};
use schemas::Position;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const SETTINGS: [(&str, &str); 2] = [("shared_buffers", "32MB"), ("max_wal_size", "256MB")];

async fn count(client: &Client, table: &str) -> Result<i64> {
    Ok(client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?.get(0))
}

/// Why a worker ended.
async fn reason(running: Running) -> Result<String> {
    let error = tokio::time::timeout(PATIENCE, running.task).await??.expect_err("the worker ends");
    ensure!(!error.is_transient(), "{}", error.chain());
    Ok(error.chain())
}

/// Why a hand-over isn't finished.
async fn unfinished(config: &Config) -> String {
    handover::finish(config).await.expect_err("it isn't finished").chain()
}

/// `seq` and message of each event by chat, as the tables have them.
async fn tables(client: &Client) -> Result<BTreeMap<String, Vec<(i64, Option<String>)>>> {
    let sql = "SELECT chat_id, sequence_number, message_id::text FROM message
               UNION ALL SELECT chat_id, sequence_number, NULL FROM chat_change ORDER BY 1, 2";
    let mut chats = BTreeMap::<_, Vec<_>>::new();
    for row in client.query(sql, &[]).await? {
        chats.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
    }
    Ok(chats)
}

/// The same as the history has it.
async fn history(config: &Config) -> Result<BTreeMap<String, Vec<(i64, Option<String>)>>> {
    let mut chats = BTreeMap::<_, Vec<_>>::new();
    for logged in read_events(config).await? {
        let event = logged.event;
        chats.entry(event.chat_id).or_default().push((event.seq, event.message.map(|message| message.message_id)));
    }
    Ok(chats)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_from_17_to_18_under_load_loses_and_repeats_nothing() -> Result<()> {
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let old_server = LonePostgres::start(PostgresVersion::V17, dirs[0].path(), &SETTINGS).await?;
    let new_server = LonePostgres::start(PostgresVersion::V18, dirs[1].path(), &SETTINGS).await?;
    age(&old_server).await?;
    let mut stack = Stack::on(old_server.url("postgres")).await?;
    let mut config = (*stack.config).clone();
    config.redis.url = Secret::new(env("WALTALKIE_TEST_REDIS"));
    // The load isn't what is tried here.
    (config.limits.chat_sends_per_s, config.limits.chat_sends_burst) = (1_000_000, 1_000_000);
    let old = Arc::new(config.clone());
    let database = config.names().database(Database::Truth);
    config.postgres.truth_url = Secret::new(new_server.url(&database));
    let new = Arc::new(config);

    let (accepted, enough) = (Arc::new(AtomicUsize::new(0)), Shutdown::new());
    let sending = tokio::spawn(send_commands(Arc::clone(&old), Arc::clone(&accepted), enough.clone()));
    let sends_more = async |more: usize| {
        let until = accepted.load(Ordering::SeqCst) + more;
        eventually("commands are accepted", async || Ok(accepted.load(Ordering::SeqCst) >= until)).await
    };
    let persister = Persister::start(Arc::clone(&old));
    let worker = start(Arc::clone(&old), Failpoints::default());
    let people = ingest::users::Users::new(runtime::postgres::pool(&old.postgres.truth_url, "postgres.truth_url", 2)?);
    ensure!(people.create("alice", Some("Alice"), None).await.is_ok());
    sends_more(100).await?;
    eventually("messages are persisted", async || Ok(count(&stack.sql, "message").await? >= 100)).await?;

    // From here on nothing is committed on the old server, and all that was is published.
    handover::begin(&old, PATIENCE).await?;
    let at_the_pause = tables(&stack.sql).await?;
    ensure!(history(&old).await? == at_the_pause, "everything is published");
    ensure!(reason(worker).await?.contains("cdc handover finish"));
    sends_more(100).await?;
    eventually("the persister says why it waits", async || Ok(persister.problem().contains("writing is paused")))
        .await?;
    ensure!(people.create("bob", None, None).await.is_err(), "a new person waits");
    ensure!(people.create("alice", None, None).await.is_ok(), "one who is there doesn't");
    ensure!(tables(&stack.sql).await? == at_the_pause);
    persister.stop().await?;
    handover::begin(&old, PATIENCE).await.context("asked again, it says the same")?;

    // Whatever isn't the data of the pause is refused.
    ensure!(unfinished(&old).await.contains("the server that was handed over"));
    migrations::ensure_database(&Secret::new(new_server.url("postgres")), &database).await?;
    migrations::migrate_truth(&new.postgres.truth_url).await?;
    ensure!(unfinished(&new).await.contains("no row `handover`"));
    let mut new_sql = connect(new.postgres.truth_url.expose()).await?;
    copy_tables(&mut stack.sql, &mut new_sql).await?;
    new_sql.execute("UPDATE consumer_offset SET next_offset = next_offset - 1", &[]).await?;
    ensure!(unfinished(&new).await.contains("consumer_offset"));
    copy_tables(&mut stack.sql, &mut new_sql).await?;
    new_sql
        .execute("DELETE FROM message WHERE (chat_id, sequence_number) IN (SELECT chat_id, last_seq FROM chat_counter LIMIT 1)", &[])
        .await?;
    ensure!(unfinished(&new).await.contains("in the tables and at"));
    copy_tables(&mut stack.sql, &mut new_sql).await?;
    new_sql
        .execute(
            "INSERT INTO user_change (user_id, version, is_removed, changed_at) VALUES ('carol', 1, false, now())",
            &[],
        )
        .await?;
    ensure!(unfinished(&new).await.contains("person carol"));
    copy_tables(&mut stack.sql, &mut new_sql).await?;

    // Roles that are started too early wait, or refuse.
    ensure!(reason(start(Arc::clone(&new), Failpoints::default())).await?.contains("cdc handover finish"));
    let persister = Persister::start(Arc::clone(&new));
    eventually("the new persister waits", async || Ok(persister.problem().contains("hand-over is under way"))).await?;
    let finished = handover::finish(&new).await?;
    ensure!(matches!(finished, Finished::Now { chats: CHATS, people: 1, .. }), "{finished:?}");
    ensure!(handover::finish(&new).await? == Finished::Before);
    ensure!(handover::cancel(&old).await.is_err(), "too late");

    let worker = start(Arc::clone(&new), Failpoints::default());
    sends_more(100).await?;
    enough.begin();
    let message_ids: BTreeSet<String> = sending.await??.iter().map(ToString::to_string).collect();
    eventually(
        "every command is persisted",
        async || Ok(count(&new_sql, "message").await? >= message_ids.len() as i64),
    )
    .await?;
    let in_tables = tables(&new_sql).await?;
    eventually("everything is published", async || Ok(history(&new).await? == in_tables)).await?;
    persister.stop().await?;
    worker.stop().await?;
    ensure!(history(&new).await? == tables(&new_sql).await?, "nothing came after");
    for (chat, events) in &in_tables {
        ensure!(events.iter().map(|(seq, _)| *seq).eq(1..=events.len() as i64), "{chat} isn't dense");
    }
    let persisted: Vec<String> = in_tables.into_values().flatten().filter_map(|(_, message_id)| message_id).collect();
    ensure!(persisted.len() == message_ids.len(), "each once");
    ensure!(persisted.into_iter().collect::<BTreeSet<_>>() == message_ids);
    ensure!(tables(&stack.sql).await? == at_the_pause, "the old server stays as it was");
    let positions = read_positions(&new).await?;
    let systems: BTreeSet<&str> = positions.iter().map(|position| position.system_identifier.as_str()).collect();
    ensure!(systems.len() == 2, "two servers");
    let last = positions.last().context("a position")?;
    ensure!(last.handed_over_at.is_none() && last.commit_lsn > 0, "{last:?}");

    // The new server's slot is lost. Its WAL ends before the places of most events, which are the old server's.
    stack.config = Arc::clone(&new);
    stack.sql = new_sql;
    let furthest = read_events(&new).await?.iter().map(|logged| logged.event.origin.commit_lsn).max();
    ensure!(furthest > Some(stack.wal_lsn().await? as i64), "the new server has passed the old one");
    stack.drop_slot().await?;
    let seq = history(&new).await?.get("chat-1").map_or(0, Vec::len) as i64;
    stack.send("chat-1", seq + 1, "in no slot").await?;
    // Whose places they are nobody knows where the position is of another server yet.
    let of_another = Position { system_identifier: "7".into(), ..last.clone() };
    stack.write_position(of_another).await?;
    let why = complete(&stack).await.expect_err("another server").to_string();
    ensure!(why.contains("new events would stand before old ones"), "{why}");
    stack.write_position(last.clone()).await?;
    let summary = complete(&stack).await?;
    ensure!((summary.events_added, summary.users) == (1, 0), "{summary:?}");
    let running = stack.start();
    stack.send("chat-1", seq + 2, "by the new slot").await?;
    let in_tables = tables(&stack.sql).await?;
    eventually("everything is published", async || Ok(history(&new).await? == in_tables)).await?;
    running.stop().await
}

/// Moves a server's WAL far past the end of a new one's.
async fn age(server: &LonePostgres) -> Result<()> {
    let sql = connect(&server.url("postgres")).await?;
    for _ in 0..12 {
        sql.batch_execute("SELECT pg_logical_emit_message(false, 'age', ''); SELECT pg_switch_wal()").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_that_is_cancelled_goes_on_where_it_was() -> Result<()> {
    let stack = Stack::new().await?;
    stack.send("c", 1, "before").await?;
    // Without a worker nothing is published: it isn't handed over, but writing is paused.
    let early = handover::begin(&stack.config, Duration::from_millis(500)).await.expect_err("no worker").chain();
    ensure!(early.contains("is a worker running"), "{early}");
    let refused = stack.send("c", 2, "in the pause").await.expect_err("paused");
    let code = refused.downcast_ref::<tokio_postgres::Error>().and_then(|error| error.code()).map(SqlState::code);
    ensure!(code == Some("57W01"), "{refused:#}");
    handover::cancel(&stack.config).await?;
    stack.send("c", 2, "between").await?;

    let running = stack.start();
    let begun = handover::begin(&stack.config, PATIENCE).await?;
    ensure!(read_events(&stack.config).await?.len() == 2, "{begun:?}");
    ensure!(reason(running).await?.contains("cdc handover cancel"));
    ensure!(stack.send("c", 3, "in the pause").await.is_err());
    handover::cancel(&stack.config).await?;
    handover::cancel(&stack.config).await.context("a second time it changes nothing")?;
    stack.send("c", 3, "after").await?;
    let running = stack.start();
    eventually("all is published", async || Ok(read_events(&stack.config).await?.len() == 3)).await?;
    running.stop().await?;
    ensure!(read_events(&stack.config).await?.len() == 3);
    Ok(())
}
