//! `rebuild`, `verify` and `explain`, as an operator uses them.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use waltalkie_tests::harness::{Installation, LONG, Person, until};

const PROJECTIONS: [&str; 4] = ["membership", "chat_head", "cursor", "inbox"];

async fn run(installation: &Installation, arguments: &[&str]) -> Result<Output> {
    let mut command: Command = installation.command()?;
    command.args(arguments);
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

fn lines(output: &Output) -> Result<Vec<Value>> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    lines.with_context(|| format!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn read_models_are_verified_rebuilt_and_a_message_is_explained() -> Result<()> {
    let installation = Installation::make("read-models").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let carol = Person::arrive(&config, process.gateway()?, "carol").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let said = alice.say(&chat_id, "canary in the coal mine").await?;
    let message_id = said["message_id"].as_str().context("no id")?.to_owned();
    let gone = alice.say(&chat_id, "soon gone").await?;
    let gone = gone["message_id"].as_str().context("no id")?;
    alice.patch(&format!("/v1/chats/{chat_id}/messages/{gone}"), json!({ "content": "edited" })).await?.expect(200)?;
    alice.delete(&format!("/v1/chats/{chat_id}/messages/{gone}")).await?.expect(200)?;
    bob.post(&format!("/v1/chats/{chat_id}/read"), json!({ "seq": 2 })).await?.expect(202)?;
    let added = json!({ "user_ids": [carol.user_id] });
    alice.post(&format!("/v1/chats/{chat_id}/members"), added).await?.expect(201)?;

    let output = run(&installation, &["verify", "history", "--json"]).await?;
    let history = lines(&output)?;
    ensure!(output.status.success() && history[0]["is_equal"] == true, "{history:?}");
    ensure!(history[0]["found"]["events"].as_u64() >= Some(6), "{history:?}");

    // Read models follow a moment later.
    let read = installation.read().await?;
    until("the cursor and the heads are there", LONG, async || {
        let sql = "SELECT (SELECT count(*) FROM chat_cursor WHERE read_seq >= 2) +
                          (SELECT count(*) FROM chat_head WHERE head_seq >= 6)";
        Ok((read.query_one(sql, &[]).await?.get::<_, i64>(0) == 2).then_some(()))
    })
    .await?;
    let verify: Vec<&str> = ["verify"].into_iter().chain(PROJECTIONS).chain(["--json"]).collect();
    let output = run(&installation, &verify).await?;
    let verdicts = lines(&output)?;
    ensure!(output.status.success() && verdicts.len() == 4, "{verdicts:?}");
    ensure!(verdicts.iter().all(|verdict| verdict["is_equal"] == true), "{verdicts:?}");

    read.batch_execute("UPDATE chat_head SET head_seq = head_seq - 1").await?;
    let output = run(&installation, &["rebuild", "chat_head", "--dry-run"]).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!output.status.success() && text.contains("DIFFERENT") && text.contains(&chat_id), "{text}");
    ensure!(text.contains("waltalkie tail --chat") && text.contains("waltalkie rebuild chat_head"), "{text}");
    ensure!(!text.contains("canary"), "{text}");
    // The events that it follows from, by place and without what was said.
    ensure!(text.contains("       2  message.persisted") && text.contains(", offset "), "{text}");
    let output = run(&installation, &["verify", "chat_head", "--json"]).await?;
    let verdict = &lines(&output)?[0];
    let newest = verdict["events"][0]["newest"].as_array().context("no events")?;
    ensure!(verdict["events"][0]["chat_id"] == chat_id && newest.len() >= 6, "{verdict}");
    ensure!(newest[1]["seq"] == 2 && newest[1]["event_type"] == "message.persisted", "{verdict}");
    ensure!(!verdict.to_string().contains("canary"), "{verdict}");
    let rebuild: Vec<&str> = ["rebuild"].into_iter().chain(PROJECTIONS).chain(["--json"]).collect();
    let output = run(&installation, &rebuild).await?;
    let rebuilt = lines(&output)?;
    ensure!(output.status.success() && rebuilt.len() == 4, "{rebuilt:?} {}", String::from_utf8_lossy(&output.stderr));
    ensure!(rebuilt[1]["projection"] == "chat_head" && rebuilt[1]["records"].as_u64() >= Some(6), "{rebuilt:?}");
    let output = run(&installation, &verify).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    // What a killed comparison has left is named, and taken away by the next one.
    let left = "CREATE SCHEMA verify_inbox; COMMENT ON SCHEMA verify_inbox IS 'waltalkie: rebuild of inbox, killed'";
    read.batch_execute(left).await?;
    let output = run(&installation, &["doctor"]).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!output.status.success() && text.contains("DROP SCHEMA verify_inbox CASCADE"), "{text}");
    run(&installation, &["verify", "inbox"]).await?;
    let output = run(&installation, &["doctor"]).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!text.contains("verify_inbox"), "{text}");

    let output = run(&installation, &["rebuild", "inbox", "--until", "2026-01-31"]).await?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && error.contains("compacted"), "{error}");
    let output = run(&installation, &["rebuild", "chat_head", "--until", "yesterday"]).await?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && error.contains("2026-01-31T12:00:00Z"), "{error}");

    let output = run(&installation, &["export", "--user", "alice"]).await?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && error.contains("waltalkie rebuild user_export"), "{error}");
    let output = run(&installation, &["rebuild", "user_export", "chat_activity", "timeline"]).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = run(&installation, &["export", "--user", "alice"]).await?;
    let messages = lines(&output)?;
    ensure!(output.status.success() && messages.len() == 2, "{messages:?}");
    ensure!(messages[0]["content"] == "canary in the coal mine" && messages[0]["chat_id"] == chat_id, "{messages:?}");
    ensure!(messages[1]["content"].is_null() && messages[1]["deleted_at"].is_string(), "{messages:?}");
    let output = run(&installation, &["export", "--user", "bob"]).await?;
    ensure!(output.status.success() && lines(&output)?.is_empty(), "bob has said nothing");

    let output = run(&installation, &["explain", &message_id, "--json"]).await?;
    let explained = &lines(&output)?[0];
    ensure!(output.status.success() && explained["seq"] == 2 && explained["chat_id"] == chat_id, "{explained}");
    let stations = explained["stations"].as_array().context("no stations")?;
    let names: Vec<&str> = stations.iter().filter_map(|station| station["station"].as_str()).collect();
    ensure!(names.starts_with(&["accepted", "persisted", "history", "read model"]), "{names:?}");
    let state = |user: &str| {
        let members = explained["members"].as_array().into_iter().flatten();
        members.filter(|member| member["user_id"] == user).map(|member| member["state"].clone()).collect::<Vec<_>>()
    };
    ensure!(state("alice") == ["sender"] && state("bob") == ["read"], "{explained}");
    ensure!(!explained.to_string().contains("canary"), "{explained}");
    let output = run(&installation, &["explain", &message_id]).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.contains("chat.events") && text.contains("has read it") && !text.contains("canary"), "{text}");
    // The pipeline page asks the same.
    let page = reqwest::get(format!("{}/ops/explain/{message_id}", process.ops_url)).await?.text().await?;
    ensure!(page.contains("chat.events") && page.contains("has read it") && !page.contains("canary"), "{page}");
    let refused = reqwest::get(format!("{}/ops/explain/canary", process.ops_url)).await?;
    ensure!(refused.status() == 400, "{refused:?}");
    let output = run(&installation, &["explain", &uuid::Uuid::new_v4().to_string()]).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!output.status.success() && text.contains("never accepted"), "{text}");
    Ok(())
}
