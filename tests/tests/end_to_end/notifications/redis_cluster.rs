//! Presence on Redis Cluster: one master that forgets makes nobody offline, though the others remember.

use anyhow::{Context, Result};
use waltalkie_tests::harness::{LONG, Servers, until};

use super::company::take;
use super::world::World;
use crate::redis_cluster::cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_forgets_makes_nobody_offline() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut cluster, config) = cluster(folder.path()).await?;
    let servers = Servers { redis: config.url.expose().to_owned(), ..Servers::shared()? };
    let world = World::make_on(servers, "notified-on-cluster", &[("redis.ca_file", &config.ca_file)]).await?;
    let process = world.run().await?;
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
    let mut company = world.company_at(&process, &process, &user_id).await?;

    cluster.order(master, "FLUSHALL").await?;
    company.alice.say(&company.chat_id, "after").await?;
    let read = world.installation.read().await?;
    until("both to be looked at again", LONG, async || {
        let sql = "SELECT coalesce(max(cardinality(user_ids)), 0) FROM notify_look";
        Ok((read.query_one(sql, &[]).await?.get::<_, i32>(0) == 2).then_some(()))
    })
    .await?;
    take(&mut company.there, "after").await?;
    world.only_who_is_away_is_told(2).await
}
