//! Servers that aren't set up for this: each is refused with what is wrong and how to mend it.

use std::sync::Arc;

use crate::support::{self, Stack, eventually, read_events};
use anyhow::{Result, ensure};
use cdc_worker::failpoint::Failpoints;
use cdc_worker::replication::Connection;
use local_stack::{LonePostgres, PostgresVersion};
use runtime::kafka::admin::Admin;
use runtime::names::Database;
use runtime::{Config, Secret};
use schemas::registry::Registry;

/// Everything of an installation that a server without logical replication can have.
async fn tables_and_topics(server: &LonePostgres) -> Result<Config> {
    let config = Stack::draft(&server.url("postgres"));
    let names = config.names();
    migrations::ensure_database(&Secret::new(server.url("postgres")), &names.database(Database::Truth)).await?;
    migrations::migrate_truth(&config.postgres.truth_url).await?;
    Admin::new(&config.kafka)?.make_topics(&config.kafka, &names).await?;
    Registry::new(config.registry.url.expose(), names.prefix())?.register_all().await?;
    Ok(config)
}

async fn refused_with(settings: &[(&str, &str)], expected: &[&str]) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = LonePostgres::start(PostgresVersion::V18, dir.path(), settings).await?;
    let config = tables_and_topics(&server).await?;
    let sql = support::connect(config.postgres.truth_url.expose()).await?;
    let problems = migrations::server_problems(&sql).await?.join("; ");
    let why = support::start(Arc::new(config.clone()), Failpoints::default()).refusal().await?;
    Admin::new(&config.kafka)?.delete_topics(&config.names()).await?;
    for expected in expected {
        ensure!(problems.contains(expected) && why.contains(expected), "{expected}: {problems}: {why}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_logical_decoding() -> Result<()> {
    refused_with(&[("wal_level", "replica")], &["wal_level is `replica`", "ALTER SYSTEM SET wal_level = 'logical'"])
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_senders_and_slots() -> Result<()> {
    let settings = [("max_wal_senders", "0"), ("max_replication_slots", "0")];
    refused_with(&settings, &["max_replication_slots is 0 and max_wal_senders 0", "ALTER SYSTEM"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_slots_are_all_taken() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = LonePostgres::start(PostgresVersion::V18, dir.path(), &[("max_replication_slots", "1")]).await?;
    let sql = support::connect(&server.url("postgres")).await?;
    sql.batch_execute("SELECT pg_create_physical_replication_slot('of_somebody_else')").await?;
    let config = tables_and_topics(&server).await?;
    let client = support::connect(config.postgres.truth_url.expose()).await?;
    let why = migrations::ensure_slot(&client, &config.names()).await.expect_err("there is no room").to_string();
    Admin::new(&config.kafka)?.delete_topics(&config.names()).await?;
    ensure!(why.contains("all of the server's slots are taken") && why.contains("max_replication_slots"), "{why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_senders_are_all_busy_is_waited_for() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = LonePostgres::start(PostgresVersion::V18, dir.path(), &[("max_wal_senders", "1")]).await?;
    let stack = Stack::on(server.url("postgres")).await?;
    let parsed = runtime::postgres::parse(&stack.config.postgres.truth_url, "postgres.truth_url")?;
    // The one that made the first position may take a moment to be gone.
    eventually("no sender is left", async || {
        let row = stack.sql.query_one("SELECT count(*) FROM pg_stat_replication", &[]).await?;
        Ok(row.get::<_, i64>(0) == 0)
    })
    .await?;
    let other = Connection::open(&parsed).await?;
    let running = stack.start();
    eventually("the worker says what it waits for", async || {
        let report = format!("{:?}", running.health.statuses());
        Ok(report.contains("max_wal_senders") && report.contains("53300"))
    })
    .await?;
    drop(other);
    stack.send("c", 1, "waited").await?;
    eventually("the event", async || Ok(read_events(&stack.config).await?.len() == 1)).await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_is_missing_or_publishes_less() -> Result<()> {
    let stack = Stack::new().await?;
    let publication = format!("\"{}\"", stack.config.names().publication());
    let cases = [
        ("SET TABLE message, chat_change", "was changed by somebody"),
        ("SET TABLE message WHERE (sequence_number > 1), chat_change, user_change", "was changed by somebody"),
        ("SET TABLE message, chat_change, user_change (user_id, version)", "was changed by somebody"),
        ("SET (publish_via_partition_root = false)", "was changed by somebody"),
    ];
    for (change, expected) in cases {
        stack.sql.batch_execute(&format!("ALTER PUBLICATION {publication} {change}")).await?;
        let why = stack.start().refusal().await?;
        ensure!(why.contains(expected), "{change}: {why}");
        // What it says mends it.
        let (_, remedy) = why.split_once("put it back: ").unwrap_or_default();
        let (remedy, then) = remedy.split_once(". Then run ").unwrap_or_default();
        ensure!(then.starts_with("`waltalkie cdc resnapshot`"), "{why}");
        ensure!(remedy.starts_with("ALTER PUBLICATION"), "{why}");
        stack.sql.batch_execute(remedy).await?;
        let problem = migrations::publication_problem(&stack.sql, &stack.config.names()).await?;
        ensure!(problem.is_none(), "{change}: {problem:?}");
    }
    stack.sql.batch_execute(&format!("DROP PUBLICATION {publication}")).await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("isn't there; `waltalkie migrate` makes it"), "{why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_replicate() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = LonePostgres::start(PostgresVersion::V15, dir.path(), &[]).await?;
    let stack = Stack::on(server.url("postgres")).await?;
    stack
        .sql
        .batch_execute(
            "CREATE ROLE weak LOGIN PASSWORD 'weak'; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO weak",
        )
        .await?;
    let mut config = (*stack.config).clone();
    let database = config.names().database(Database::Truth);
    config.postgres.truth_url = Secret::new(format!("postgres://weak:weak@127.0.0.1:{}/{database}", server.port()));
    let why = support::start(Arc::new(config), Failpoints::default()).refusal().await?;
    ensure!(why.contains("attribute REPLICATION"), "{why}");
    Ok(())
}
