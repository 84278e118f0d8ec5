//! `explain` of messages that haven't come all the way: where they are, and why they are there.

use anyhow::{Context, Result, bail, ensure};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use runtime::Config;
use runtime::kafka::producer_config;
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{ChatCommand, Encoder, command_type};
use serde_json::{Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, read_all, until};

/// What every message says and no explanation may.
const CANARY: &str = "canary in the coal mine";

/// What a command prints.
async fn run(installation: &Installation, arguments: &[&str]) -> Result<String> {
    let mut command = installation.command()?;
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!text.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(!text.contains(CANARY), "{text}");
    Ok(text)
}

async fn explain(installation: &Installation, message_id: Uuid) -> Result<Value> {
    Ok(serde_json::from_str(&run(installation, &["explain", &message_id.to_string(), "--json"]).await?)?)
}

/// Why a message isn't stored.
async fn why(installation: &Installation, message_id: Uuid) -> Result<String> {
    let explained = explain(installation, message_id).await?;
    ensure!(explained["is_persisted"] == false, "{explained}");
    Ok(explained["why"].as_str().context("no reason")?.to_owned())
}

/// Where a message's command is, as an explanation says it.
async fn place_of(config: &Config, message_id: Uuid) -> Result<String> {
    let id = message_id.to_string();
    let commands = read_all(config, Topic::ChatCommands).await?;
    let has_id = |value: &[u8]| value.windows(id.len()).any(|part| part == id.as_bytes());
    let found = commands.iter().find(|command| command.value.as_deref().is_some_and(has_id));
    let found = found.context("no such command")?;
    Ok(format!("{}/{} offset {}", config.names().topic(Topic::ChatCommands), found.partition, found.offset))
}

/// Puts a send into chat.commands, past the gateway.
async fn put(config: &Config, message_id: Uuid, chat_id: &str, user_id: &str, key: &str) -> Result<()> {
    let names = config.names();
    let registry = Registry::new(config.registry.url.expose(), names.prefix())?;
    let encoder = Encoder::<ChatCommand>::new(registry.id_of::<ChatCommand>().await?);
    let command = ChatCommand {
        command_id: Uuid::now_v7().to_string(),
        command_type: command_type::MESSAGE_SEND.into(),
        chat_id: chat_id.into(),
        user_id: user_id.into(),
        message_id: Some(message_id.to_string()),
        content: Some(CANARY.into()),
        ..ChatCommand::default()
    };
    let (topic, value) = (names.topic(Topic::ChatCommands), encoder.encode(&command)?);
    let producer: FutureProducer = producer_config(&config.kafka).create()?;
    let record = FutureRecord::to(&topic).key(key).payload(&value);
    producer.send(record, Timeout::After(LONG)).await.map_err(|(error, _)| error)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_has_not_come_all_the_way_says_where_it_is_and_why() -> Result<()> {
    let installation = Installation::make("explain").await?;
    let gateway = installation.run(&["gateway"]).await?;
    let persister = installation.run(&["persister"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, gateway.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    let mut socket = alice.connect().await?;
    ensure!(persister.stop().await?.success(), "a persister ends well");

    // Nobody persists.
    let message_id = Uuid::now_v7();
    let payload = json!({ "chat_id": chat_id, "message_id": message_id, "content": CANARY });
    let id = socket.send("send_message", payload).await?;
    socket.answer(id, |frame| frame["payload"]["state"] == "accepted").await?;
    let place = place_of(&config, message_id).await?;
    let said = why(&installation, message_id).await?;
    ensure!(said.starts_with(&format!("accepted as {place} at ")) && said.contains("not persisted"), "{said}");
    // Behind the chat's own command.
    ensure!(said.contains("it is at offset 1 "), "{said}");

    // Nobody publishes.
    let persister = installation.run(&["persister"]).await?;
    let truth = installation.truth().await?;
    let sql = "SELECT count(*) FROM message_key WHERE message_id = $1";
    until("the message to be persisted", LONG, async || {
        Ok((truth.query_one(sql, &[&message_id]).await?.get::<_, i64>(0) == 1).then_some(()))
    })
    .await?;
    let explained = explain(&installation, message_id).await?;
    let stations = explained["stations"].as_array().context("no stations")?;
    let [accepted, persisted, history] = stations.as_slice() else { bail!("{explained}") };
    let is_at = |station: &Value, place: &str| station["place"].as_str().is_some_and(|at| at.starts_with(place));
    ensure!(accepted["station"] == "accepted" && is_at(accepted, &place), "{explained}");
    ensure!(persisted["station"] == "persisted" && persisted["at"].is_string(), "{explained}");
    ensure!(history["station"] == "history" && history["at"].is_null(), "{explained}");
    ensure!(is_at(history, "NOT in chat.events yet") && explained["is_withheld"] == false, "{explained}");

    // Somebody gives it up.
    let give_up = "INSERT INTO cdc_withheld VALUES ($1, 2, 'alice', now(), now())";
    truth.execute(give_up, &[&chat_id]).await?;
    let text = run(&installation, &["explain", &message_id.to_string()]).await?;
    ensure!(text.contains("withheld: it could not be published"), "{text}");

    // Nobody can decide it: it is in no order under another chat's key.
    let buried = Uuid::now_v7();
    put(&config, buried, &chat_id, "alice", "another chat").await?;
    let said = until("the dead letter", LONG, async || {
        let said = why(&installation, buried).await?;
        Ok(said.contains("dead letter").then_some(said))
    })
    .await?;
    let (place, dead) = (place_of(&config, buried).await?, config.names().topic(Topic::ChatCommandsDlq));
    let letter = format!("dead letter 0 of {dead}, put aside by persister at ");
    ensure!(said.starts_with(&format!("accepted as {place} at ")) && said.contains(&letter), "{said}");
    ensure!(said.contains(&format!(", from {place}: the key isn't the command's chat_id; it is open")), "{said}");
    run(&installation, &["dlq", "drop", "0"]).await?;
    let said = why(&installation, buried).await?;
    ensure!(said.ends_with("somebody has dropped it"), "{said}");

    // It may not be sent.
    let refused = Uuid::now_v7();
    put(&config, refused, &chat_id, "mallory", &chat_id).await?;
    until("the refusal", LONG, async || {
        let said = why(&installation, refused).await?;
        Ok(said.ends_with("the persister refused it: chat_not_found").then_some(()))
    })
    .await?;

    // It is sent again, and waits.
    ensure!(persister.stop().await?.success(), "a persister ends well");
    put(&config, refused, &chat_id, "mallory", &chat_id).await?;
    let said = why(&installation, refused).await?;
    ensure!(said.contains("the persister hasn't come to it"), "{said}");
    Ok(())
}
