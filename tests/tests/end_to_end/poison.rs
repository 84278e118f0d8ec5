//! Commands that nobody can decide are put aside, and their partition goes on.

use anyhow::{Result, ensure};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use runtime::kafka::producer_config;
use schemas::topics::Topic;
use serde_json::json;
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
    .await
}
