//! A message that can't be published is given up by hand, and stands as `withheld` for every reader. Nothing else is.

use std::sync::Arc;

use crate::support::history::{check, check_when_arrived};
use crate::support::{Stack, eventually, read_events};
use anyhow::{Result, ensure};
use cdc_worker::resnapshot::{self, Options, Report};
use cdc_worker::withhold::{Decided, withhold};
use runtime::Shutdown;
use schemas::event_type;

async fn give_up(stack: &Stack, chat: &str, seq: i64) -> Result<Decided> {
    let decided = Box::pin(withhold(Arc::clone(&stack.config), chat, seq, &Shutdown::new())).await;
    decided.map_err(|error| anyhow::Error::msg(error.chain()))
}

/// A chat of four, of which the third was sent at no time.
async fn with_a_bad_row() -> Result<Stack> {
    let stack = Stack::new().await?;
    stack.busy_chat("c", 0, 2).await?;
    stack
        .sql
        .batch_execute(
            "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
             VALUES (gen_random_uuid(), 'c', 'mallory', 'at no time', 3, 'infinity'),
                    (gen_random_uuid(), 'c', 'alice', 'after it', 4, now())",
        )
        .await?;
    Ok(stack)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_stops_the_worker_is_given_up_by_hand() -> Result<()> {
    let stack = with_a_bad_row().await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("message c/3") && why.contains("`waltalkie cdc withhold c 3`"), "{why}");
    ensure!(why.contains("infinity"), "{why}");
    let published = give_up(&stack, "c", 2).await.expect_err("it is published");
    ensure!(format!("{published:#}").contains("published already"), "{published:#}");
    let nothing = give_up(&stack, "c", 9).await.expect_err("there is none");
    ensure!(format!("{nothing:#}").contains("no such row"), "{nothing:#}");
    ensure!(!give_up(&stack, "c", 3).await?.was_decided);
    ensure!(give_up(&stack, "c", 3).await?.was_decided, "said twice, done once");
    let running = stack.start();
    check_when_arrived(&stack).await?;
    let streams = give_up(&stack, "c", 4).await.expect_err("nothing stops the worker");
    ensure!(format!("{streams:#}").contains("a worker streams"), "{streams:#}");
    running.stop().await?;
    check(&stack).await?;
    let events = read_events(&stack.config).await?;
    let (before, withheld) = (&events[1].event, &events[2].event);
    ensure!(withheld.event_type == event_type::WITHHELD && withheld.message.is_none(), "{withheld:?}");
    ensure!((withheld.actor_id.as_str(), withheld.occurred_at) == ("mallory", before.occurred_at), "{withheld:?}");
    ensure!(events[2].timestamp_ms == withheld.occurred_at && events.len() == 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_completes_the_history_withholds_the_same() -> Result<()> {
    let stack = with_a_bad_row().await?;
    stack.drop_slot().await?;
    let complete = || {
        let config = Arc::clone(&stack.config);
        async move { resnapshot::run(config, Options::default(), Report::default(), &Shutdown::new()).await }
    };
    let why = complete().await.expect_err("the row is as it was written").chain();
    ensure!(why.contains("message c/3") && why.contains("`waltalkie cdc withhold c 3`"), "{why}");
    give_up(&stack, "c", 3).await?;
    complete().await?;
    check(&stack).await?;
    // Also where it is the last event of its chat that is compared.
    stack
        .sql
        .batch_execute(
            "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
             VALUES (gen_random_uuid(), 'c', 'mallory', 'at no time', 5, 'infinity')",
        )
        .await?;
    stack.start().refusal().await?;
    give_up(&stack, "c", 5).await?;
    let running = stack.start();
    eventually("all five", async || Ok(read_events(&stack.config).await?.len() == 5)).await?;
    running.stop().await?;
    // A start compares it too.
    let running = stack.start();
    eventually("it streams", async || Ok(running.health.is_ready())).await?;
    running.stop().await?;
    ensure!(complete().await?.was_whole);
    check(&stack).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_members_is_never_given_up() -> Result<()> {
    let stack = Stack::new().await?;
    stack
        .sql
        .batch_execute(
            r#"INSERT INTO chat_change (chat_id, sequence_number, event_type, actor_id, occurred_at, memberships)
               VALUES ('c', 1, 'member.left', 'alice', now(), '[{"user_id": 7}]')"#,
        )
        .await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("change c/1") && !why.contains("cdc withhold"), "{why}");
    let refused = give_up(&stack, "c", 1).await.expect_err("it is no message");
    ensure!(format!("{refused:#}").contains("no message but a member.left"), "{refused:#}");
    // Nor does a decision that was written by hand help.
    stack.sql.batch_execute("INSERT INTO cdc_withheld VALUES ('c', 1, 'x', now(), now())").await?;
    let why = stack.start().refusal().await?;
    ensure!(why.contains("change c/1"), "{why}");
    ensure!(read_events(&stack.config).await?.is_empty());
    Ok(())
}
