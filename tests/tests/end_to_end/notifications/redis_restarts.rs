//! Redis is restarted while people are connected: with what it had saved, and with nothing. Nobody looks offline.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use local_stack::{LocalStack, Options, Service, Silent, Wanted};
use waltalkie_tests::harness::{LONG, Servers, data_dir, until};

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_restarted_makes_nobody_offline() -> Result<()> {
    let elsewhere = Wanted::External;
    let options = Options {
        postgres: elsewhere,
        kafka: elsewhere,
        registry: elsewhere,
        usual_ports: false,
        ..Options::new(data_dir("restarted-redis")?)
    };
    let mut stack = LocalStack::start(options, Arc::new(Silent)).await?;
    let url = stack.endpoints().redis_url.clone().context("no Redis")?;
    let servers = Servers { redis: url.clone(), ..Servers::shared()? };
    // While Redis is away bob has it from a heartbeat's heads.
    let world = World::make_on(servers, "restarted-redis", &[("notify.look_again_ms", "10000")]).await?;
    let process = world.run().await?;
    let mut company = world.company(&process).await?;

    // What it saves knows nothing of bob's connection, though the witnesses in it may still live when it is read.
    let client = redis::Client::open(url.as_str())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    drop(company.there);
    let sessions = world.installation.names().sessions_key("bob");
    let mut is_there = async || redis::cmd("EXISTS").arg(&sessions).query_async::<bool>(&mut redis).await;
    until("bob to be away", LONG, async || Ok((!is_there().await?).then_some(()))).await?;
    redis::cmd("SAVE").exec_async(&mut redis).await?;
    company.there = company.bob.connect().await?;
    let mut is_there = async || redis::cmd("EXISTS").arg(&sessions).query_async::<bool>(&mut redis).await;
    until("bob to be back", LONG, async || Ok(is_there().await?.then_some(()))).await?;
    let (_, folder): (String, String) = redis::cmd("CONFIG").arg(&["GET", "dir"]).query_async(&mut redis).await?;
    let saved = PathBuf::from(folder).join("dump.rdb");
    ensure!(saved.is_file(), "nothing was saved at {}", saved.display());
    stack.kill(Service::Redis).await?;
    stack.start_again(Service::Redis).await?;
    company.say("with what it had saved").await?;
    world.only_who_is_away_is_told(2).await?;

    stack.kill(Service::Redis).await?;
    std::fs::remove_file(&saved)?;
    stack.start_again(Service::Redis).await?;
    company.say("with nothing").await?;
    world.only_who_is_away_is_told(3).await?;
    drop(process);
    stack.stop().await?;
    Ok(())
}
