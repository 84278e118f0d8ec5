//! Two people in two pages of a real browser, against everything real. The pages' own test is `web/e2e`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Installation, Person, repository, target_dir};

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_in_two_pages() -> Result<()> {
    let installation = Installation::make("browser").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    alice.post("/v1/chats", json!({ "is_group": false, "member_ids": ["bob"] })).await?.expect(201)?;
    alice.make_group(&[&bob], json!({ "name": "Launch" })).await?;
    let mut command = Command::new("npm");
    command
        .args(["run", "--silent", "e2e"])
        .current_dir(repository().join("web"))
        .env("WALTALKIE_URL", process.gateway()?)
        .env("SCREENSHOTS", target_dir()?.join("screenshots"));
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context("npm")?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    ensure!(output.status.success(), "npm run e2e: {}\n{complained}", output.status);
    let is_none_skipped = said.lines().any(|line| line.trim_start_matches(['#', 'ℹ', ' ']) == "skipped 0");
    ensure!(is_none_skipped, "some of the pages' tests were skipped");
    Ok(())
}
