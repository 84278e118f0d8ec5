//! The worker on every version of PostgreSQL that it is promised for, each a server of its own that is stopped and killed.

use crate::support::{Stack, eventually, history_is_the_tables, read_events};
use anyhow::{Context, Result, ensure};
use local_stack::{LonePostgres, PostgresVersion};

async fn published(stack: &Stack, count: usize) -> Result<()> {
    eventually(&format!("{count} events"), async || Ok(read_events(&stack.config).await?.len() >= count)).await
}

async fn edit(stack: &Stack, chat: &str, message_seq: i64, seq: i64) -> Result<()> {
    stack
        .sql
        .execute(
            "INSERT INTO chat_change (chat_id, sequence_number, event_type, actor_id, occurred_at, message_seq, content, message)
             SELECT chat_id, $3, 'message.edited', sender_id, now(), sequence_number, 'edited',
                    jsonb_build_object('message_id', message_id, 'message_seq', sequence_number,
                                       'sender_id', sender_id, 'created_at', 1)
               FROM message WHERE chat_id = $1 AND sequence_number = $2",
            &[&chat, &message_seq, &seq],
        )
        .await?;
    Ok(())
}

async fn everything_arrives_once_on(version: PostgresVersion) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = LonePostgres::start(version, dir.path(), &[]).await?;
    let mut stack = Stack::on(server.url("postgres")).await?;
    let found: String = stack.sql.query_one("SHOW server_version", &[]).await?.get(0);
    ensure!(found.starts_with(&version.major().to_string()), "{found}");
    let slot: String = stack.sql.query_one("SELECT to_jsonb(s)::text FROM pg_replication_slots s", &[]).await?.get(0);
    let keeps_on_standby = slot.contains("\"failover\": true");
    ensure!(keeps_on_standby == (version >= PostgresVersion::V17), "{slot}");

    let running = stack.start();
    for seq in 1..=20 {
        stack.send("small", seq, &format!("hello {seq}")).await?;
    }
    edit(&stack, "small", 7, 21).await?;
    stack.send_many("large", 1, 20_000).await?;
    stack.send("small", 22, "after it").await?;
    published(&stack, 20_022).await?;
    running.stop().await?;
    ensure!(history_is_the_tables(&stack).await? == 20_022);

    // What is written while no worker runs waits in the slot.
    stack.send("small", 23, "while nobody reads").await?;
    let running = stack.start();
    published(&stack, 20_023).await?;
    stack.send("small", 24, "read").await?;
    published(&stack, 20_024).await?;

    // Killed: the worker says so, and goes on by itself when the server is back.
    stack.send_many("large", 20_001, 30_000).await?;
    server.kill().await?;
    eventually("the worker misses the server", async || Ok(!running.health.is_ready())).await?;
    let lost = stack.send("small", 25, "to nobody").await;
    ensure!(lost.is_err(), "the server still takes rows");
    server.start_again().await?;
    stack.sql = stack.connect().await?;
    stack.send("small", 25, "to the same server").await?;
    published(&stack, 30_025).await?;
    eventually("the worker is content", async || Ok(running.health.is_ready())).await?;
    ensure!(!running.task.is_finished(), "one worker over all of it");
    let status = cdc_worker::status(&stack.config).await.context("status")?;
    ensure!(status.is_active && status.problems.is_empty(), "{status:?}");
    running.stop().await?;
    ensure!(history_is_the_tables(&stack).await? == 30_025);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_once_on_15() -> Result<()> {
    everything_arrives_once_on(PostgresVersion::V15).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_once_on_16() -> Result<()> {
    everything_arrives_once_on(PostgresVersion::V16).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_once_on_17() -> Result<()> {
    everything_arrives_once_on(PostgresVersion::V17).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_once_on_18() -> Result<()> {
    everything_arrives_once_on(PostgresVersion::V18).await
}
