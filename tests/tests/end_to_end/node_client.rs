//! `@waltalkie/client` in Node when its gateway dies; what it does through a network that is cut is `web/e2e`'s.

use std::process::Command;

use anyhow::Result;
use waltalkie_tests::harness::{Installation, LONG, Lines, Person, repository};

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_when_its_gateway_is_killed() -> Result<()> {
    let installation = Installation::make("node-client-survives").await?;
    let _behind = installation.run(&["persister", "cdc", "projector", "publisher"]).await?;
    let mut first = installation.run(&["gateway"]).await?;
    let second = installation.run(&["gateway"]).await?;
    for user_id in ["alice", "bob"] {
        Person::arrive(&installation.config()?, second.gateway()?, user_id).await?;
    }
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
    // A failure ends it without this line, and is told with all that it printed.
    tokio::task::spawn_blocking(move || lines.wait(|line| line == "survived", LONG)).await??;
    Ok(())
}
