//! The history is for other people's programs: `tail`, and a Python consumer that knows nothing of us but Avro.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use schemas::topics::Topic;
use serde_json::{Value, json};
use waltalkie_tests::harness::{Installation, LONG, Lines, Person, python, repository};

/// An installation with one conversation: a chat, a message, its edit, its delete, one more message.
async fn conversation(test: &str) -> Result<(Installation, waltalkie_tests::harness::RoleProcess, String)> {
    let installation = Installation::make(test).await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({ "name": "Grüße 👋" })).await?;
    let said = alice.say(&chat_id, "first").await?;
    let message = format!("/v1/chats/{chat_id}/messages/{}", said["message_id"].as_str().context("no id")?);
    alice.patch(&message, json!({ "content": "first, edited" })).await?.expect(200)?;
    alice.delete(&message).await?.expect(200)?;
    bob.say(&chat_id, "last").await?;
    Ok((installation, process, chat_id))
}

/// The five events, as any reader must see them.
fn check(events: &[Value], chat_id: &str) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let types: Vec<String> = events.iter().map(|event| text(&event["event_type"])).collect();
    let expected = ["chat.created", "message.persisted", "message.edited", "message.deleted", "message.persisted"];
    ensure!(types == expected, "{types:?}");
    for (number, event) in events.iter().enumerate() {
        ensure!(event["seq"] == number as i64 + 1 && event["chat_id"] == chat_id, "{event}");
        ensure!(event["event_id"] == format!("{chat_id}/{}", number + 1), "{event}");
    }
    ensure!(
        events[0]["chat"]["chat_name"] == "Grüße 👋" && events[0]["memberships"][1]["user_id"] == "bob",
        "{}",
        events[0]
    );
    ensure!(events[1]["message"]["content"] == "first" && events[2]["message"]["content"] == "first, edited");
    ensure!(
        events[3]["message"]["content"].is_null() && !events[3]["message"]["deleted_at"].is_null(),
        "{}",
        events[3]
    );
    ensure!(events[4]["message"]["content"] == "last" && events[4]["actor_id"] == "bob", "{}", events[4]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_shows_the_conversation() -> Result<()> {
    let (installation, _process, chat_id) = conversation("tail").await?;
    let mut command = installation.command()?;
    command.args(["tail", "--from", "beginning", "--chat", &chat_id, "--max", "5"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let events = lines_of_json(&String::from_utf8_lossy(&output.stdout))?;
    check(&events, &chat_id)?;
    for event in &events {
        ensure!(event["origin"]["commit_lsn"].as_str().is_some_and(|lsn| lsn.contains('/')), "{event}");
        ensure!(event["partition"].is_i64() && event["offset"].is_i64(), "{event}");
        ensure!(event["occurred_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{event}");
    }
    let mut command = installation.command()?;
    command.args(["tail", "--from", "beginning", "--type", "message.deleted", "--max", "1"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let events = lines_of_json(&String::from_utf8_lossy(&output.stdout))?;
    ensure!(events.len() == 1 && events[0]["seq"] == 4, "{events:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_consumer_reads_the_history() -> Result<()> {
    let (installation, _process, chat_id) = conversation("python").await?;
    let names = installation.names();
    let mut command = Command::new(python()?);
    command.arg(repository().join("tests/interop/python/consumer.py"));
    command.args(["-b", &installation.servers().kafka, "-s", &installation.servers().registry]);
    command.args(["-t", &names.topic(Topic::ChatEvents), "-g", &format!("{}python", names.prefix())]);
    let mut consumer = Lines::of(command)?;
    let consumer = tokio::task::spawn_blocking(move || {
        consumer.wait(|line| line.contains("\"last\""), LONG)?;
        Ok::<_, anyhow::Error>(consumer)
    })
    .await??;
    let printed: Vec<String> = consumer.printed.iter().filter(|line| line.starts_with('{')).cloned().collect();
    let lines = lines_of_json(&printed.join("\n"))?;
    ensure!(lines.iter().all(|line| line["key"] == chat_id), "{lines:?}");
    let events: Vec<Value> = lines.into_iter().map(|mut line| line["event"].take()).collect();
    check(&events, &chat_id)
}

fn lines_of_json(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}
