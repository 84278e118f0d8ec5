//! A new generation of the history, as the operators' page has it: the topics are made anew and filled out of the tables, where
//! nothing else is true to them.

use std::sync::Arc;

use crate::support::completing::complete;
use crate::support::history::{check, check_when_arrived};
use crate::support::{Stack, eventually};
use anyhow::{Result, anyhow, ensure};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use runtime::Config;
use runtime::kafka::admin::Admin;
use schemas::topics::Topic;

/// Deletes the worker's topics, and makes them as `migrate` does.
async fn make_anew(config: &Config) -> Result<()> {
    let (names, admin) = (config.names(), Admin::new(&config.kafka)?);
    let topics = [Topic::ChatEvents, Topic::ChatUsers, Topic::CdcPositions].map(|topic| names.topic(topic));
    let mut former = Vec::new();
    for topic in &topics {
        former.push(admin.log_id(topic).await?);
    }
    let client: AdminClient<DefaultClientContext> = runtime::kafka::client_config(&config.kafka).create()?;
    let named = topics.each_ref().map(String::as_str);
    for deleted in client.delete_topics(&named, &AdminOptions::new()).await? {
        deleted.map_err(|(topic, code)| anyhow!("{topic}: {code}"))?;
    }
    eventually("the topics are made again", async || {
        // While one is being deleted, it can't be made.
        if admin.make_topics(&config.kafka, &names).await.is_err() {
            return Ok(false);
        }
        for (topic, former) in topics.iter().zip(&former) {
            let is_new = admin.log_id(topic).await.is_ok_and(|id| id != *former);
            if !is_new {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
}

/// Nobody streams into the empty topics; completed, they hold what the tables do, and a plain worker goes on.
async fn is_written_again(stack: &Stack) -> Result<()> {
    let why = stack.start().refusal().await?;
    ensure!(why.contains("has no position") && why.contains("`waltalkie cdc resnapshot`"), "{why}");
    ensure!(!cdc_worker::ensure_first_position(&stack.config).await?, "a first position would hide what is there");
    let summary = complete(stack).await?;
    ensure!(summary.events_before == 0 && summary.makes_slot && summary.users == 1, "{summary:?}");
    check(stack).await?;
    let running = stack.start();
    for chat in 0..20 {
        stack.busy_chat(&format!("after-{chat}"), 0, 5).await?;
    }
    check_when_arrived(stack).await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_the_tables_never_had_is_written_again() -> Result<()> {
    let stack = Stack::new().await?;
    let running = stack.start();
    stack.busy_chat("fine", 0, 20).await?;
    stack.change_user("alice", 1, "Alice", false).await?;
    stack.send_many("c", 1, 10).await?;
    check_when_arrived(&stack).await?;
    running.stop().await?;
    // As a backup brings them back, and as writers go on from there.
    stack.sql.batch_execute("DELETE FROM message WHERE chat_id = 'c' AND sequence_number > 8").await?;
    stack.send("c", 9, "in place of another").await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("chat c: the history goes to seq 10") && why.contains("\"A new generation"), "{why}");
    let why = complete(&stack).await.expect_err("nothing can complete it").to_string();
    ensure!(why.contains("chat c: the history goes to seq 10") && why.contains("\"A new generation"), "{why}");
    make_anew(&stack.config).await?;
    is_written_again(&stack).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_partitions_is_gone_on_with() -> Result<()> {
    let mut stack = Stack::new().await?;
    let running = stack.start();
    stack.busy_chat("a", 0, 20).await?;
    stack.change_user("alice", 1, "Alice", false).await?;
    check_when_arrived(&stack).await?;
    running.stop().await?;
    stack.add_partitions(&stack.config.names().topic(Topic::ChatEvents), 6).await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("has 6 partitions, and had 3") && why.contains("\"A new generation"), "{why}");
    let mut config = Config::clone(&stack.config);
    config.kafka.partitions = 6;
    stack.config = Arc::new(config);
    make_anew(&stack.config).await?;
    let facts = Admin::new(&stack.config.kafka)?.topic_facts(&stack.config.names().topic(Topic::ChatEvents)).await?;
    ensure!(facts.partitions == 6, "{facts:?}");
    is_written_again(&stack).await
}
