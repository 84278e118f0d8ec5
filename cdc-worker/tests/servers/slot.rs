//! The slot: moved while idle, never told more than what is in Kafka, and not started where something would be lost.

use std::sync::Arc;
use std::time::Duration;

use crate::support::completing::{complete, goes_on};
use crate::support::{self, Stack, eventually, read_events, read_positions};
use anyhow::{Result, ensure};
use cdc_worker::failpoint::Failpoints;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use runtime::{Secret, kafka};
use schemas::topics::Topic;

async fn published(stack: &Stack, count: usize) -> Result<()> {
    eventually(&format!("{count} events"), async || Ok(read_events(&stack.config).await?.len() == count)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_slot_moves() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.send("c", 1, "the only one").await?;
    published(&stack, 1).await?;
    // Changes of unpublished tables: WAL that the slot has to let go of.
    stack.sql.batch_execute("CREATE TABLE noise AS SELECT generate_series(1, 10000)").await?;
    let reached = stack.wal_lsn().await?;
    eventually("the slot has moved", async || Ok(stack.confirmed().await? >= reached)).await?;
    let status = cdc_worker::status(&stack.config).await?;
    ensure!(status.is_active && status.lease_holder.is_some() && status.problems.is_empty(), "{status:?}");
    running.stop().await?;
    let positions = read_positions(&stack.config).await?;
    let idle = positions.windows(2).filter(|pair| pair[0].commit_lsn == pair[1].commit_lsn).count();
    ensure!((1..=8).contains(&idle), "{idle} transactions that hold a position only");
    ensure!(read_events(&stack.config).await?.len() == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_leaves_the_slot_confirmed_and_the_lease_free() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.send_many("c", 1, 100).await?;
    published(&stack, 100).await?;
    running.stop().await?;
    let positions = read_positions(&stack.config).await?;
    let confirmable = positions.last().map_or(0, |position| position.confirmable_lsn as u64);
    ensure!(stack.confirmed().await? == confirmable, "confirmed up to what is published");
    let leases = stack.sql.query("SELECT 1 FROM cdc_lease", &[]).await?;
    ensure!(leases.is_empty(), "the lease is given back");
    let topics: Vec<_> = positions.last().map(|position| position.partitions.clone()).unwrap_or_default();
    ensure!(topics.iter().all(|end| !end.topic_uuid.is_empty()), "topic ids are known: {topics:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_not_there_names_migrate() -> Result<()> {
    let stack = Stack::new().await?;
    stack.drop_slot().await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("`waltalkie migrate`"), "{why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_was_made_anew_is_refused() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.send("c", 1, "published").await?;
    published(&stack, 1).await?;
    running.stop().await?;
    stack.drop_slot().await?;
    stack.send("c", 2, "in no slot").await?;
    let made = stack.make_slot().await.expect_err("the first position would hide a hole");
    ensure!(format!("{made:#}").contains("made after rows had been written"), "{made:#}");
    let why = stack.start().refusal().await?;
    ensure!(why.contains("made anew") && why.contains("`waltalkie cdc resnapshot`"), "{why}");
    ensure!(read_events(&stack.config).await?.len() == 1);
    let summary = complete(&stack).await?;
    ensure!(summary.makes_slot && summary.events_added == 1, "{summary:?}");
    goes_on(&stack, 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_position_is_accepted_only_where_nothing_was_written() -> Result<()> {
    let stack = Stack::new().await?;
    let mut config = (*stack.config).clone();
    // The same database and slot, as another installation's Kafka topics would show it: without a position.
    let admin = runtime::kafka::admin::Admin::new(&config.kafka)?;
    admin.delete_topics(&config.names()).await?;
    eventually("the topics are gone", async || {
        Ok(admin.topic_facts(&stack.config.names().topic(schemas::topics::Topic::CdcPositions)).await?.partitions == 0)
    })
    .await?;
    config.kafka.partitions = 3;
    eventually("the topics are made", async || Ok(admin.make_topics(&config.kafka, &config.names()).await.is_ok()))
        .await?;
    let running = stack.start();
    eventually("it streams", async || Ok(running.health.is_ready())).await?;
    stack.send("c", 1, "first").await?;
    published(&stack, 1).await?;
    running.stop().await?;
    admin.delete_topics(&config.names()).await?;
    eventually("the topics are made again", async || {
        Ok(admin.make_topics(&config.kafka, &config.names()).await?.len() > 1)
    })
    .await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("has no position"), "{why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_publication_is_refused_at_the_start_and_stops_in_mid_stream() -> Result<()> {
    let stack = Stack::new().await?;
    let publication = stack.config.names().publication();
    let running = stack.start();
    stack.send("c", 1, "published").await?;
    published(&stack, 1).await?;
    stack
        .sql
        .batch_execute(&format!(
            "ALTER PUBLICATION \"{publication}\" SET (publish = 'insert, update, delete, truncate')"
        ))
        .await?;
    stack.sql.execute("UPDATE message SET is_delete = true", &[]).await?;
    let why = running.refusal().await?;
    ensure!(why.contains("UPDATE of table message"), "{why}");
    let why = stack.start().refusal().await?;
    ensure!(why.contains("changed by somebody"), "{why}");
    stack.sql.batch_execute(&format!("ALTER PUBLICATION \"{publication}\" SET (publish = 'insert')")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_other_tables_are_passed_over() -> Result<()> {
    let stack = Stack::new().await?;
    let publication = stack.config.names().publication();
    let running = stack.start();
    stack.send("c", 1, "published").await?;
    published(&stack, 1).await?;
    stack
        .sql
        .batch_execute(&format!("CREATE TABLE other (n int); ALTER PUBLICATION \"{publication}\" ADD TABLE other"))
        .await?;
    stack
        .sql
        .batch_execute(
            "BEGIN; INSERT INTO other VALUES (1); INSERT INTO message
                (message_id, chat_id, sender_id, content, sequence_number, created_at)
             VALUES (gen_random_uuid(), 'c', 'alice', 'after it', 2, now()); COMMIT",
        )
        .await?;
    published(&stack, 2).await?;
    running.stop().await?;
    let events = read_events(&stack.config).await?;
    ensure!(events[1].event.origin.ordinal == 0, "a row of another table doesn't count");
    // The next start does the same; what is too much is told.
    let running = stack.start();
    stack.send("c", 3, "after a start").await?;
    published(&stack, 3).await?;
    let status = cdc_worker::status(&stack.config).await?;
    ensure!(status.problems.len() == 1 && status.problems[0].contains("public.other"), "{:?}", status.problems);
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_in_the_url_are_those_of_the_stream() -> Result<()> {
    let stack = Stack::new().await?;
    let mut config = (*stack.config).clone();
    let url = config.postgres.truth_url.expose();
    config.postgres.replication_url = Secret::new(format!("{url}?options=-c%20logical_decoding_work_mem%3D64kB"));
    let running = support::start(Arc::new(config), Failpoints::default());
    stack.send_many("c", 1, 2_000).await?;
    published(&stack, 2_000).await?;
    running.stop().await?;
    // The server of the tests has memory for all of it: only one that was told otherwise spills.
    eventually("the transaction was spilled to disk", async || {
        let spilled = "SELECT spill_txns FROM pg_stat_replication_slots WHERE slot_name = $1";
        Ok(stack.sql.query_one(spilled, &[&stack.slot()]).await?.get::<_, i64>(0) > 0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_published_over_records_that_kafka_never_decided() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.send("c", 1, "decided").await?;
    published(&stack, 1).await?;
    running.stop().await?;
    // As a broker leaves it that was killed while it wrote the markers: records whose producer nobody can ask.
    let names = stack.config.names();
    let topic = names.topic(Topic::ChatEvents);
    let stranger: BaseProducer = kafka::client_config(&stack.config.kafka)
        .set("transactional.id", names.transactional_id("stranger"))
        .set("transaction.timeout.ms", "300000")
        .create()?;
    stranger.init_transactions(support::PATIENCE)?;
    stranger.begin_transaction()?;
    stranger.send(BaseRecord::to(&topic).key("c").payload("undecided")).map_err(|(error, _)| error)?;
    eventually("the record is written", async || {
        stranger.poll(Duration::ZERO);
        Ok(stranger.in_flight_count() == 0)
    })
    .await?;
    stack.send("c", 2, "waits").await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("neither committed nor aborted") && why.contains("find-hanging"), "{why}");
    ensure!(read_events(&stack.config).await?.len() == 1, "published over it");
    // Decided, it is in nobody's way any more.
    stranger.abort_transaction(support::PATIENCE)?;
    let running = stack.start();
    published(&stack, 2).await?;
    running.stop().await
}
