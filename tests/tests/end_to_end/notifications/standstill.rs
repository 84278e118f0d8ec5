//! What stands still or is cut off in the middle: a notifier, the projector, gateways from Redis. Nobody else waits for it for
//! long, and nobody is told of what they have seen.

use anyhow::{Result, ensure};
use faults::Proxy;
use notify::fakes::Instead;
use rustix::process::Signal;
use serde_json::json;
use tokio_postgres::Client;
use waltalkie_tests::harness::{LONG, until};

use super::company::{Pair, take};
use super::world::{OTHERS, World};

async fn there_is(client: &Client, what: &str, sql: &str) -> Result<()> {
    until(what, LONG, async || {
        let count: i64 = client.query_one(sql, &[]).await?.get(0);
        Ok((count > 0).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notifier_that_stops_in_the_middle_of_a_transaction_holds_nobody_up() -> Result<()> {
    let world = World::make("frozen-notifier", &[("notify.mail_after_ms", "3600000")]).await?;
    let rest = world.installation.run(&OTHERS).await?;
    let frozen = world.installation.run(&["notifier"]).await?;
    let Pair { alice, bob, chat_id } = world.pair(&rest).await?;
    let truth = world.installation.truth().await?;
    truth.execute("UPDATE \"user\" SET email = 'bob@mail.example' WHERE id = 'bob'", &[]).await?;
    bob.patch("/v1/users/me/settings", json!({ "email": true })).await?.expect(200)?;
    alice.say(&chat_id, "before").await?;
    world.apple_has(1, 1).await?;
    world.settled().await?;
    // It has moved its offsets and waits for bob's digest when it is stopped; then it holds what it has locked.
    let (holder, read) = (world.installation.read().await?, world.installation.read().await?);
    holder.batch_execute("BEGIN; SELECT 1 FROM notify_digest WHERE user_id = 'bob' FOR UPDATE").await?;
    alice.say(&chat_id, "in the middle").await?;
    let sessions =
        |state: &str| format!("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {state}");
    there_is(&read, "the notifier to wait for the row", &sessions("wait_event_type = 'Lock'")).await?;
    frozen.signal(Signal::STOP)?;
    holder.batch_execute("COMMIT").await?;
    there_is(&read, "it to hold its locks", &sessions("state = 'idle in transaction'")).await?;
    let _next = world.installation.run(&["notifier"]).await?;
    let pushed = world.apple_has(1, 2).await?;
    ensure!(pushed[1].payload["aps"]["alert"]["body"] == "in the middle", "{pushed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_that_stand_still_make_nobody_look_as_if_they_had_taken_nothing() -> Result<()> {
    let world = World::make("stopped-projector", &[("notify.look_again_ms", "6000")]).await?;
    let rest = world.installation.run(&["gateway", "persister", "cdc", "publisher", "notifier"]).await?;
    let mut projector = world.installation.run(&["projector"]).await?;
    let Pair { alice, bob, chat_id } = world.pair(&rest).await?;
    let mut there = bob.connect().await?;
    alice.say(&chat_id, "before").await?;
    take(&mut there, "before").await?;
    world.settled().await?;
    projector.kill()?;
    alice.say(&chat_id, "while cursors stand still").await?;
    take(&mut there, "while cursors stand still").await?;
    let read = world.installation.read().await?;
    let overdue = "SELECT count(*) FROM notify_look WHERE due_at < clock_timestamp() - interval '3 seconds'";
    there_is(&read, "the second look to be put off", overdue).await?;
    let _again = world.installation.run(&["projector"]).await?;
    world.settled().await?;
    ensure!(world.apple(1).is_empty(), "bob took both: {:?}", world.apple(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_are_cut_from_redis_make_nobody_offline() -> Result<()> {
    let world = World::make("cut-from-redis", &[]).await?;
    let (proxy, through) = Proxy::before_url(&world.installation.servers().redis).await?;
    let rest = world.installation.run_with(&OTHERS, &[("redis.url", &through)]).await?;
    // It sees no failure at all: what it is told is only out of date.
    let _notifier = world.installation.run(&["notifier"]).await?;
    let mut company = world.company(&rest).await?;
    proxy.refuse();
    sessions_run_out(&world).await?;
    ensure!(proxy.resets() > 0, "the fault never hit");
    company.say("after").await?;
    proxy.heal();
    // Who is really away hears of it, later.
    world.only_who_is_away_is_told(2).await
}

/// No witness tells of this: the other gateway keeps them.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_alone_is_cut_from_redis_makes_nobody_offline() -> Result<()> {
    // Without Redis bob has it from a heartbeat's heads.
    let world = World::make("one-cut-from-redis", &[("notify.look_again_ms", "20000")]).await?;
    let process = world.run().await?;
    let (proxy, through) = Proxy::before_url(&world.installation.servers().redis).await?;
    let his = world.installation.run_with(&["gateway"], &[("redis.url", &through)]).await?;
    let mut company = world.company_at(&process, &his, "bob").await?;
    proxy.refuse();
    sessions_run_out(&world).await?;
    ensure!(proxy.resets() > 0, "the fault never hit");
    company.say("after").await?;
    world.only_who_is_away_is_told(2).await
}

async fn sessions_run_out(world: &World) -> Result<()> {
    let mut redis = runtime::redis::commands(&world.config.redis)?;
    let pattern = format!("{}session:*", world.installation.names().prefix());
    until("sessions to run out", LONG, async || {
        let keys: Vec<String> = redis::cmd("KEYS").arg(&pattern).query_async(&mut redis).await?;
        Ok(keys.is_empty().then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_a_try_is_written_only_while_nobody_has_begun_another() -> Result<()> {
    let world = World::make("late-outcome", &[]).await?;
    let process = world.run().await?;
    let Pair { alice, chat_id, .. } = world.pair(&process).await?;
    world.apns.next(Instead::Hang);
    alice.say(&chat_id, "taken over").await?;
    let read = world.installation.read().await?;
    there_is(&read, "the call to be under way", "SELECT count(*) FROM notify_task WHERE attempt = 1").await?;
    // As another process does it after the lease.
    let taken_over = "UPDATE notify_task SET attempt = 2, due_at = clock_timestamp() + interval '1 hour'";
    ensure!(read.execute(taken_over, &[]).await? == 1);
    until("the call to come back", LONG, async || {
        Ok((process.metric("waltalkie_notifier_tries_total").await? > 0.5).then_some(()))
    })
    .await?;
    // What came of the next one is written after it.
    alice.say(&chat_id, "the next").await?;
    world.apple_has(1, 1).await?;
    there_is(&read, "the next one to be done", "SELECT (count(*) = 1)::int::bigint FROM notify_task").await?;
    let untouched =
        "SELECT count(*) FROM notify_task WHERE attempt = 2 AND due_at > clock_timestamp() + interval '50 minutes'";
    ensure!(read.query_one(untouched, &[]).await?.get::<_, i64>(0) == 1, "the late outcome was written");
    Ok(())
}
