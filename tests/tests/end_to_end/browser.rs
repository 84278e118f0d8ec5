//! People in pages of a real browser, against everything real: two who talk, files, a group, a long chat, the example of `examples/`;
//! and the client package in Node. The pages' own tests are `web/e2e`.

use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, ObjectStore, Person, Servers, repository, target_dir};

/// Messages of the long chat.
const LINES: usize = 5_000;
/// Sends between two waits: fewer than may be without an answer.
const PACE: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_in_two_pages() -> Result<()> {
    // The example's page comes from a backend of its own.
    let example = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let origin = format!("http://{example}");
    // One person says thousands of things at once.
    let store = ObjectStore::start().await?;
    let mut settings = store.settings().to_vec();
    settings.extend([
        ("gateway.allowed_origins", origin.as_str()),
        ("limits.requests_per_s", "100000"),
        ("limits.requests_burst", "100000"),
        ("limits.commands_per_s", "10000"),
        ("limits.commands_burst", "10000"),
        ("limits.chat_sends_per_s", "10000"),
        ("limits.chat_sends_burst", "10000"),
    ]);
    let installation = Installation::make_on(Servers::shared()?, "browser", &settings).await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    alice.post("/v1/chats", json!({ "is_group": false, "member_ids": ["bob"] })).await?.expect(201)?;
    alice.make_group(&[&bob], json!({ "name": "Launch" })).await?;
    let long = alice.make_group(&[&bob], json!({ "name": "Long" })).await?;
    let mut socket = alice.connect().await?;
    for number in 1..=LINES {
        let payload = json!({ "chat_id": long, "message_id": Uuid::now_v7(), "content": format!("line {number}") });
        let asked = socket.send("send_message", payload).await?;
        if number % PACE == 0 || number == LINES {
            socket.answer(asked, |frame| frame["payload"]["state"] == "persisted").await?;
        }
    }
    drop(socket);
    let mut command = Command::new("npm");
    command
        .args(["run", "--silent", "e2e"])
        .current_dir(repository().join("web"))
        .env("WALTALKIE_URL", process.gateway()?)
        .env("WALTALKIE_AUTH__HS256_SECRET", config.auth.hs256_secret.expose())
        .env("EXAMPLE_PORT", example.port().to_string())
        .env("LONG_CHAT", format!("{long},{LINES}"))
        .env("SCREENSHOTS", target_dir()?.join("screenshots"));
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context("npm")?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    ensure!(output.status.success(), "npm run e2e: {}\n{complained}", output.status);
    let is_none_skipped = said.lines().any(|line| line.trim_start_matches(['#', 'ℹ', ' ']) == "skipped 0");
    ensure!(is_none_skipped, "some of the pages' tests were skipped");
    Ok(())
}
