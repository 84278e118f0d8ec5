//! `@waltalkie/client` in Node, and the page in a browser, when their gateway dies; what they do through a network that is cut
//! is `web/e2e`'s. And those who don't come back are offline for the others.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Installation, LONG, Lines, Person, repository, until};

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_when_its_gateway_is_killed() -> Result<()> {
    let installation = Installation::make("node-client-survives").await?;
    let _behind = installation.run(&["persister", "cdc", "projector", "publisher"]).await?;
    let mut first = installation.run(&["gateway"]).await?;
    let second = installation.run(&["gateway"]).await?;
    for user_id in ["alice", "bob", "carol"] {
        Person::arrive(&installation.config()?, second.gateway()?, user_id).await?;
    }
    // Somebody who has no second address, and somebody who looks at them from the other node.
    let config = installation.config()?;
    let erin = Person::arrive(&config, first.gateway()?, "erin").await?;
    let frank = Person::arrive(&config, second.gateway()?, "frank").await?;
    frank.make_group(&[&erin], json!({})).await?;
    let (_here, mut there) = (erin.connect().await?, frank.connect().await?);
    there.wait("presence", |presence| presence["users"]["erin"]["state"] == "online").await?;
    let mut command = Command::new("node");
    command
        .args(["--experimental-websocket", "survival.mjs"])
        .current_dir(repository().join("web/e2e"))
        .env("WALTALKIE_URL", first.gateway()?)
        .env("WALTALKIE_OTHER_URL", second.gateway()?);
    let mut lines = Lines::of(command)?;
    let mut lines = tokio::task::spawn_blocking(move || {
        lines.wait(|line| line == "kill the gateway of alice", LONG)?;
        Ok::<_, anyhow::Error>(lines)
    })
    .await??;
    first.kill()?;
    let killed = Instant::now();
    let gone = until("erin to be offline", LONG, async || {
        Ok(Some(there.wait("presence", |presence| presence["users"]["erin"]["state"] == "offline").await?))
    })
    .await?;
    println!("offline {:?} after the kill: {gone}", killed.elapsed());
    ensure!(gone["users"]["erin"]["last_seen_at"].is_string(), "{gone}");
    // A failure ends it without this line, and is told with all that it printed.
    tokio::task::spawn_blocking(move || lines.wait(|line| line == "survived", LONG)).await??;
    Ok(())
}
