//! A Web Push, decrypted by the push service in this process, in the web client's service worker.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{LONG, repository, target_dir, until};

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_shown_by_the_service_worker_and_opens_its_chat() -> Result<()> {
    let world = World::make("push-in-browser", &[]).await?;
    let process = world.run().await?;
    let (alice, bob) = (world.arrive(&process, "alice").await?, world.arrive(&process, "bob").await?);
    let browser = world.give_browser(&bob).await?;
    let chat_id = alice.make_group(&[&bob], json!({ "name": "Launch" })).await?;
    alice.say(&chat_id, "Lunch at noon?").await?;
    let pushed = until("the push", LONG, async || Ok(world.browser(&browser).pop())).await?;
    let mut command = Command::new("node");
    command
        .args(["--experimental-websocket", "--test", "e2e-push"])
        .current_dir(repository().join("web"))
        .env("WALTALKIE_URL", process.gateway()?)
        .env("PUSHED", pushed.to_string())
        .env("CHAT", &chat_id)
        .env("SCREENSHOTS", target_dir()?.join("screenshots"));
    std::fs::create_dir_all(target_dir()?.join("screenshots"))?;
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context("node")?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{said}\n{complained}");
    Ok(())
}
