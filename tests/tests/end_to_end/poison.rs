//! Commands that nobody can decide are put aside, and their partition goes on.

use anyhow::{Context, Result, ensure};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use runtime::kafka::producer_config;
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{ChatCommand, Encoder, command_type};
use serde_json::{Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, read_all, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_command_is_put_aside_and_its_partition_goes_on() -> Result<()> {
    let installation = Installation::make("poison").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    alice.say(&chat_id, "before").await?;
    let producer: FutureProducer = producer_config(&config.kafka).create()?;
    let topic = config.names().topic(Topic::ChatCommands);
    let poisons: [&[u8]; 3] = [b"not Avro at all", &[0, 0, 0, 0, 99, 1, 2, 3], b""];
    for poison in poisons {
        let record = FutureRecord::to(&topic).key(&chat_id).payload(poison);
        producer.send(record, Timeout::After(LONG)).await.map_err(|(error, _)| error)?;
    }
    // Same key, same partition, behind the poison.
    ensure!(alice.say(&chat_id, "after").await?["seq"] == 3);
    let dead = read_all(&config, Topic::ChatCommandsDlq).await?;
    ensure!(dead.len() == poisons.len(), "{dead:?}");
    for (dead, poison) in dead.iter().zip(poisons) {
        ensure!(dead.value.as_deref().unwrap_or_default() == poison && dead.key == chat_id, "{dead:?}");
        ensure!(dead.header("reason").is_some_and(|reason| !reason.is_empty()), "{dead:?}");
        ensure!(dead.header("source_topic") == Some(&topic), "{dead:?}");
        ensure!(dead.header("source_offset").is_some_and(|offset| offset.parse::<i64>().is_ok()), "{dead:?}");
    }
    until("three dead letters in the metrics", LONG, async || {
        Ok((process.metric("waltalkie_persister_dead_letters_total").await? >= 3.0).then_some(()))
    })
    .await?;

    until("three dead letters to be open", LONG, async || {
        Ok((process.metric("waltalkie_persister_open_dead_letters").await? > 2.5).then_some(()))
    })
    .await?;

    // An operator sees them, drops one and tries one again, which is still poison and comes back as another.
    ensure!(offsets(&installation, &["list", "--json"]).await? == [0, 1, 2]);
    let shown = dlq(&installation, &["show", "0"]).await?.context("show")?;
    let shown: Value = serde_json::from_str(&shown)?;
    ensure!(shown["chat_id"] == chat_id && shown["value_hex"] == hex(poisons[0]), "{shown}");
    ensure!(dlq(&installation, &["drop", "0"]).await?.is_some());
    ensure!(dlq(&installation, &["drop", "0"]).await?.is_none(), "it was settled");
    ensure!(dlq(&installation, &["retry", "9"]).await?.is_none(), "there is no such");
    ensure!(dlq(&installation, &["retry", "1"]).await?.is_some());
    until("the one that was tried again", LONG, async || {
        Ok((offsets(&installation, &["list", "--json"]).await? == [2, 3]).then_some(()))
    })
    .await?;
    ensure!(dlq(&installation, &["drop", "--open"]).await?.is_some());
    ensure!(offsets(&installation, &["list", "--json"]).await?.is_empty());
    ensure!(offsets(&installation, &["list", "--all", "--json"]).await? == [0, 1, 2, 3]);
    until("no dead letter to be open", LONG, async || {
        Ok((process.metric("waltalkie_persister_open_dead_letters").await? < 0.5).then_some(()))
    })
    .await?;
    Ok(())
}

/// A command that could be decided but came under another chat's key is decided once it is under its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_retried_command_is_decided_where_its_key_says() -> Result<()> {
    let installation = Installation::make("poison-retry").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    // What an earlier version of the persister could not decide, say: a good command in the dead-letter topic.
    let registry = Registry::new(config.registry.url.expose(), config.names().prefix())?;
    let encoder = Encoder::<ChatCommand>::new(registry.id_of::<ChatCommand>().await?);
    let command = ChatCommand {
        command_id: Uuid::now_v7().to_string(),
        command_type: command_type::MESSAGE_SEND.into(),
        chat_id: chat_id.clone(),
        user_id: "alice".into(),
        message_id: Some(Uuid::now_v7().to_string()),
        content: Some("better late than never".into()),
        ..ChatCommand::default()
    };
    let value = encoder.encode(&command)?;
    let source = config.names().topic(Topic::ChatCommands);
    let headers = OwnedHeaders::new().insert(Header { key: "source_topic", value: Some(&source) });
    let dead = config.names().topic(Topic::ChatCommandsDlq);
    let producer: FutureProducer = producer_config(&config.kafka).create()?;
    let record = FutureRecord::to(&dead).key(&chat_id).payload(&value).headers(headers);
    producer.send(record, Timeout::After(LONG)).await.map_err(|(error, _)| error)?;
    let shown = dlq(&installation, &["show", "0"]).await?.context("show")?;
    ensure!(!shown.contains("better late") && shown.contains("--body shows them"), "{shown}");
    ensure!(dlq(&installation, &["retry", "0"]).await?.is_some());
    until("the message", LONG, async || {
        let page = alice.get(&format!("/v1/chats/{chat_id}/messages")).await?.expect(200)?;
        Ok((page["messages"][0]["content"] == "better late than never").then_some(()))
    })
    .await?;
    what_is_no_event_is_looked_at_and_dropped(&installation, &producer).await
}

/// What stream operators put aside: an event with an unknown schema, say.
async fn what_is_no_event_is_looked_at_and_dropped(
    installation: &Installation,
    producer: &FutureProducer,
) -> Result<()> {
    let names = installation.names();
    let (source, dead) = (names.topic(Topic::ChatEvents), names.topic(Topic::ChatEventsDlq));
    let headers = OwnedHeaders::new()
        .insert(Header { key: "reason", value: Some("not Avro") })
        .insert(Header { key: "source_topic", value: Some(&source) });
    let record = FutureRecord::to(&dead).key("somebody").payload("not Avro at all").headers(headers);
    producer.send(record, Timeout::After(LONG)).await.map_err(|(error, _)| error)?;
    let history = read_all(&installation.config()?, Topic::ChatEvents).await?.len();
    let events = |command: &'static str, which: &'static str| {
        let arguments = ["--topic", "events", command, which];
        async move { dlq(installation, &arguments[..if which.is_empty() { 3 } else { 4 }]).await }
    };
    let listed = events("list", "--json").await?.context("list")?;
    ensure!(listed.contains("\"reason\":\"not Avro\"") && listed.contains(&source), "{listed}");
    let shown: Value = serde_json::from_str(&events("show", "0").await?.context("show")?)?;
    ensure!(shown["key"] == "somebody" && shown["value_hex"] == hex(b"not Avro at all"), "{shown}");
    ensure!(shown["event_problem"].is_string(), "{shown}");
    ensure!(
        events("retry", "0").await?.is_none() && events("retry", "--open").await?.is_none(),
        "put into the history"
    );
    ensure!(read_all(&installation.config()?, Topic::ChatEvents).await?.len() == history, "put into the history");
    ensure!(events("list", "--json").await?.is_some_and(|lines| lines.lines().count() == 1), "settled by a refusal");
    ensure!(events("drop", "0").await?.is_some() && events("list", "--json").await? == Some(String::new()));
    Ok(())
}

/// Runs `waltalkie dlq …`; what it printed, or nothing if it failed.
async fn dlq(installation: &Installation, arguments: &[&str]) -> Result<Option<String>> {
    let mut command = installation.command()?;
    command.arg("dlq").args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

async fn offsets(installation: &Installation, arguments: &[&str]) -> Result<Vec<i64>> {
    let lines = dlq(installation, arguments).await?.context("dlq list")?;
    let offset = |line: &str| serde_json::from_str::<Value>(line).ok()?["offset"].as_i64();
    Ok(lines.lines().filter_map(offset).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
