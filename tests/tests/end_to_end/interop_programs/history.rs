//! A history that has what readers stumble over.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use runtime::kafka;
use schemas::partitioner::partition_of;
use schemas::registry::Registry;
use schemas::{ChatEvent, Encoder, Record, codec};
use serde_json::{Value, json};
use waltalkie_tests::harness::{Installation, LONG, Person, Servers, read_events, read_topic, until};

use super::golden::Golden;

/// Texts by chat and `seq`, as they were sent: of deleted ones the tables have none.
pub type Said = HashMap<(String, i64), String>;

/// An installation at rest, with a history in each codec, people who changed their names, messages that were edited and
/// deleted, an aborted transaction, an event of a type and a field that no version has yet, and records of every version that was.
pub async fn make(test: &str, goldens: &[Golden]) -> Result<(Installation, Said)> {
    let installation = Installation::make_on(Servers::shared()?, test, &[]).await?;
    let mut said = Said::new();
    for codec in ["zstd", "lz4", "snappy", "none"] {
        let process = installation.run_with(&["all"], &[("cdc.compression", codec)]).await?;
        let config = installation.config()?;
        let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
        let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
        alice.patch("/v1/users/me", json!({ "name": format!("Alice 👋 of {codec}") })).await?.expect(200)?;
        let chat_id = elsewhere(goldens, config.kafka.partitions, codec)?;
        talk(&alice, &bob, codec, &chat_id, &mut said).await?;
        published(&installation).await?;
        process.stop().await?;
    }
    add_by_hand(&installation, goldens).await?;
    Ok((installation, said))
}

/// A chat's id that isn't in the golden records' partitions: these are older than everything else, and whoever keeps time by
/// partition would take them for late.
fn elsewhere(goldens: &[Golden], partitions: u16, codec: &str) -> Result<String> {
    let partition = |chat_id: &str| partition_of(chat_id.as_bytes(), i32::from(partitions));
    let taken = goldens.iter().map(|golden| Ok(partition(golden.chat_id()?))).collect::<Result<BTreeSet<i32>>>()?;
    ensure!(taken.len() < usize::from(partitions), "no partition is left");
    let mut ids = (0..).map(|number| format!("{codec}-{number}"));
    ids.find(|id| !taken.contains(&partition(id))).context("no id")
}

async fn talk(alice: &Person, bob: &Person, codec: &str, chat_id: &str, said: &mut Said) -> Result<()> {
    let chat = json!({ "chat_id": chat_id, "name": format!("Grüße in {codec}") });
    let chat = alice.make_group(&[bob], chat).await?;
    let mut say = async |person: &Person, content: String| -> Result<String> {
        let message = person.say(&chat, &content).await?;
        said.insert((chat.clone(), message["seq"].as_i64().context("no seq")?), content);
        Ok(format!("/v1/chats/{chat}/messages/{}", message["message_id"].as_str().context("no id")?))
    };
    let edited = say(alice, "first, with \"quotes\" and }".to_owned()).await?;
    let deleted = say(bob, "not for long".to_owned()).await?;
    // What a codec has something to do with.
    say(alice, "lang und länger ".repeat(200)).await?;
    say(bob, "日本語 🎉".to_owned()).await?;
    alice.patch(&edited, json!({ "content": "first, edited" })).await?.expect(200)?;
    bob.patch(&deleted, json!({ "content": "not for long, edited" })).await?.expect(200)?;
    // After the group's creation, four messages and the first edit.
    said.insert((chat.clone(), 7), "not for long, edited".to_owned());
    bob.delete(&deleted).await?.expect(200)?;
    Ok(())
}

/// Waits until every row is an event.
async fn published(installation: &Installation) -> Result<()> {
    let (truth, config) = (installation.truth().await?, installation.config()?);
    let sql = "SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM chat_change)";
    let rows: i64 = truth.query_one(sql, &[]).await?.get(0);
    until("all rows to be published", LONG, async || {
        Ok((read_events(&config).await?.len() as i64 == rows).then_some(()))
    })
    .await
}

/// What no healthy installation has at will: a transaction that is aborted, what a later version writes and what earlier ones wrote.
async fn add_by_hand(installation: &Installation, goldens: &[Golden]) -> Result<()> {
    let (config, names) = (installation.config()?, installation.names());
    let registry = Registry::new(config.registry.url.expose(), &config.names.prefix)?;
    let own = Encoder::<ChatEvent>::new(registry.id_of::<ChatEvent>().await?);
    let mut schema: Value = serde_json::from_str(ChatEvent::SCHEMA)?;
    let reaction = json!({ "name": "reaction", "type": ["null", "string"], "default": null, "doc": "An emoji." });
    schema["fields"].as_array_mut().context("no fields")?.push(reaction);
    let next_id = registry.register(&registry.subject::<ChatEvent>(), &schema.to_string()).await?;
    let next = Encoder::<ChatEvent>::new(next_id);
    let mut of_old = Vec::new();
    for golden in goldens {
        let id = registry.register(&registry.subject::<ChatEvent>(), golden.schema).await?;
        of_old.push((golden.chat_id()?, golden.occurred_at(), [codec::header(id).as_slice(), &golden.datum].concat()));
    }

    let events: Vec<ChatEvent> = read_events(&config).await?.into_iter().map(|(event, _)| event).collect();
    let topic = names.topic(ChatEvent::TOPIC);
    let producer: BaseProducer = kafka::producer_config(&config.kafka)
        .set("transactional.id", names.transactional_id("by-hand"))
        .set("compression.type", "zstd")
        .create()?;
    let send = |event: &ChatEvent, value: &[u8]| {
        let record = BaseRecord::to(&topic).key(event.chat_id.as_str()).payload(value).timestamp(event.occurred_at);
        producer.send(record).map_err(|(error, _)| error)
    };
    let wait = Duration::from_secs(30);
    tokio::task::block_in_place(|| -> Result<()> {
        producer.init_transactions(wait)?;
        producer.begin_transaction()?;
        // In every chat, hence in many partitions: readers that take them see messages twice.
        for event in events.iter().filter(|event| event.event_type == "message.persisted") {
            let mut event = event.clone();
            event.message.as_mut().context("no message")?.content = Some("never said".to_owned());
            send(&event, &own.encode(&event)?)?;
        }
        producer.flush(wait)?;
        producer.abort_transaction(wait)?;
        producer.begin_transaction()?;
        let mut later = events.last().context("no events")?.clone();
        "reaction.added".clone_into(&mut later.event_type);
        later.seq += 1;
        later.event_id = ChatEvent::id_of(&later.chat_id, later.seq);
        later.message = None;
        let mut value = next.encode(&later)?;
        // The field that our own schema lacks: second branch of the union, a length, the text.
        let emoji = "👍".as_bytes();
        value.extend([2, emoji.len() as u8 * 2]);
        value.extend(emoji);
        send(&later, &value)?;
        for (chat_id, at_ms, value) in &of_old {
            let record = BaseRecord::to(&topic).key(*chat_id).payload(value).timestamp(*at_ms);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.commit_transaction(wait)?;
        Ok(())
    })?;
    let everything = read_topic(&config, ChatEvent::TOPIC, false).await?.len();
    let committed = read_topic(&config, ChatEvent::TOPIC, true).await?.len();
    let wanted = events.len() + goldens.len() + 1;
    ensure!(committed == wanted, "{committed} committed records of {wanted}");
    ensure!(everything > committed, "nothing in the log is aborted");
    Ok(())
}
