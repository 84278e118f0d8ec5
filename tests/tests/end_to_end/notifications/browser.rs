//! Web Push in the web client: decrypted by the push service in this process and shown by the service worker; and the browser's own
//! subscription, made by a click, pushed to and given up.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{LONG, RoleProcess, repository, target_dir, until};

use super::world::World;

/// Runs a file of `web/e2e-push`.
async fn in_browser(process: &RoleProcess, file: &str, variables: &[(&str, &str)]) -> Result<()> {
    let mut command = Command::new("node");
    command
        .args(["--experimental-websocket", "--test", &format!("e2e-push/{file}")])
        .current_dir(repository().join("web"))
        .env("WALTALKIE_URL", process.gateway()?)
        .env("SCREENSHOTS", target_dir()?.join("screenshots"))
        .envs(variables.iter().copied());
    std::fs::create_dir_all(target_dir()?.join("screenshots"))?;
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context("node")?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{said}\n{complained}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_shown_by_the_service_worker_and_a_browser_is_subscribed_by_a_click() -> Result<()> {
    let world = World::make("push-in-browser", &[]).await?;
    let process = world.run().await?;
    let (alice, bob) = (world.arrive(&process, "alice").await?, world.arrive(&process, "bob").await?);
    let browser = world.give_browser(&bob).await?;
    let chat_id = alice.make_group(&[&bob], json!({ "name": "Launch" })).await?;
    alice.say(&chat_id, "Lunch at noon?").await?;
    let pushed = until("the push", LONG, async || Ok(world.browser(&browser).pop())).await?;
    in_browser(&process, "push.test.mjs", &[("PUSHED", &pushed.to_string()), ("CHAT", &chat_id)]).await?;

    let own = world.push.subscribe(Some(&world.web_push_key));
    let subscription = json!({
        "endpoint": own.endpoint, "p256dh": own.p256dh, "auth": own.auth, "server_key": world.web_push_key,
    });
    let (subscription, folder) = (subscription.to_string(), tempfile::tempdir()?);
    let state = folder.path().join("state.json");
    let variables = [("SUBSCRIPTION", subscription.as_str()), ("STATE", state.to_str().context("a path")?)];
    in_browser(&process, "turn-on.test.mjs", &variables).await?;
    alice.say(&chat_id, "to a page that is closed").await?;
    let pushed = until("a push to it", LONG, async || Ok(world.browser(&own).pop())).await?;
    ensure!(pushed["body"] == "to a page that is closed", "{pushed}");
    in_browser(&process, "turn-off.test.mjs", &variables).await?;
    let listed = bob.get("/v1/users/me/devices").await?.expect(200)?;
    ensure!(listed["devices"] == json!([]), "{listed}");
    alice.say(&chat_id, "to nobody").await?;
    world.settled().await?;
    ensure!(world.browser(&own).len() == 1 && world.browser(&browser).len() == 2, "a removed browser was pushed to");
    Ok(())
}
