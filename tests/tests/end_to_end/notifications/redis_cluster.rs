//! Presence on Redis Cluster: one master that forgets makes nobody offline, though the others remember.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{LONG, Servers, until};

use super::world::World;
use crate::redis_cluster::cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_forgets_makes_nobody_offline() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut cluster, config) = cluster(folder.path()).await?;
    let servers = Servers { redis: config.url.expose().to_owned(), ..Servers::shared()? };
    let world = World::make_on(servers, "notified-on-cluster", &[("redis.ca_file", &config.ca_file)]).await?;
    let process = world.run().await?;
    let alice = world.arrive(&process, "alice").await?;
    let names = world.installation.names();
    let mut master_of = async |key: &str| -> Result<usize> {
        for master in cluster.masters().await {
            if !cluster.ask(master, &format!("EXISTS {key}")).await?.starts_with("-MOVED") {
                return Ok(master);
            }
        }
        anyhow::bail!("nobody has the slot of {key}")
    };
    // Somebody whose sessions are on another master than the first witness: that one alone wouldn't tell of it.
    let first = master_of(&names.witness_key(0)).await?;
    let mut found = None;
    for number in 0..100 {
        let user_id = format!("bob-{number}");
        let master = master_of(&names.sessions_key(&user_id)).await?;
        if master != first {
            found = Some((user_id, master));
            break;
        }
    }
    let (user_id, master) = found.context("all on one master")?;
    let bob = world.arrive_with_phone(&process, &user_id, 1).await?;
    let carol = world.arrive_with_phone(&process, "carol", 2).await?;
    let chat_id = alice.make_group(&[&bob, &carol], json!({})).await?;
    let mut there = bob.connect().await?;
    alice.say(&chat_id, "before").await?;
    world.apple_has(2, 1).await?;
    let message = there.wait("message", |message| message["content"] == "before").await?;
    there.send("mark_delivered", json!({ "marks": { &chat_id: message["seq"] } })).await?;

    cluster.order(master, "FLUSHALL").await?;
    alice.say(&chat_id, "after").await?;
    let read = world.installation.read().await?;
    until("both to be looked at again", LONG, async || {
        let sql = "SELECT coalesce(max(cardinality(user_ids)), 0) FROM notify_look";
        Ok((read.query_one(sql, &[]).await?.get::<_, i32>(0) == 2).then_some(()))
    })
    .await?;
    let message = there.wait("message", |message| message["content"] == "after").await?;
    there.send("mark_delivered", json!({ "marks": { &chat_id: message["seq"] } })).await?;
    world.apple_has(2, 2).await?;
    world.settled().await?;
    ensure!(world.apple(1).is_empty(), "bob was here all the time: {:?}", world.apple(1));
    Ok(())
}
