//! What the topics hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use runtime::Config;
use runtime::kafka::Quiet;
use schemas::registry::Registry;
use schemas::topics::{Partitions, Topic};
use schemas::{ChatEvent, Decoder, Position, User};

/// A record of `chat.events`.
#[derive(Debug, Clone)]
pub struct Logged {
    pub event: ChatEvent,
    pub key: String,
    pub timestamp_ms: i64,
    pub headers: BTreeMap<String, String>,
}

struct Raw {
    key: String,
    value: Option<Vec<u8>>,
    timestamp_ms: i64,
    headers: BTreeMap<String, String>,
}

/// Every record of a topic, partition by partition, to the present end.
async fn read(config: &Config, topic: Topic, isolation: &'static str) -> Result<Vec<Raw>> {
    let partitions = match topic.partitions() {
        Partitions::Configured => config.kafka.partitions,
        Partitions::Fixed(count) => count,
    };
    let topic = config.names().topic(topic);
    let mut client = runtime::kafka::client_config(&config.kafka);
    client
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .set("fetch.wait.max.ms", "10");
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer<Quiet> = client.create_with_context(Quiet)?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..i32::from(partitions) {
            assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let (mut open, mut silent, mut records) = (partitions, 0, Vec::new());
        while open > 0 {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    silent = 0;
                    let headers = message.headers().map(|headers| {
                        headers
                            .iter()
                            .map(|header| {
                                let value = header.value.unwrap_or_default();
                                (header.key.to_owned(), String::from_utf8_lossy(value).into_owned())
                            })
                            .collect()
                    });
                    records.push(Raw {
                        key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                        value: message.payload().map(<[u8]>::to_vec),
                        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
                        headers: headers.unwrap_or_default(),
                    });
                }
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                _ => silent += 1,
            }
            if silent > 600 {
                bail!("{topic} can't be read to its end");
            }
        }
        Ok(records)
    })
    .await?
}

/// The committed history.
pub async fn read_events(config: &Config) -> Result<Vec<Logged>> {
    let registry = Arc::new(Registry::new(config.registry.url.expose(), config.names().prefix())?);
    let decoder = Decoder::<ChatEvent>::new(Arc::clone(&registry), registry.id_of::<ChatEvent>().await?);
    let mut events = Vec::new();
    for raw in read(config, Topic::ChatEvents, "read_committed").await? {
        let event = decoder.decode(raw.value.as_deref().unwrap_or_default()).await?;
        events.push(Logged { event, key: raw.key, timestamp_ms: raw.timestamp_ms, headers: raw.headers });
    }
    Ok(events)
}

/// The committed profiles, tombstones as `None`.
pub async fn read_users(config: &Config) -> Result<Vec<(String, Option<User>)>> {
    let registry = Arc::new(Registry::new(config.registry.url.expose(), config.names().prefix())?);
    let decoder = Decoder::<User>::new(Arc::clone(&registry), registry.id_of::<User>().await?);
    let mut users = Vec::new();
    for raw in read(config, Topic::ChatUsers, "read_committed").await? {
        let user = match raw.value {
            Some(value) => Some(decoder.decode(&value).await?),
            None => None,
        };
        users.push((raw.key, user));
    }
    Ok(users)
}

/// Records of the history, those of aborted transactions and committed ones alike.
pub async fn count_all(config: &Config) -> Result<usize> {
    Ok(read(config, Topic::ChatEvents, "read_uncommitted").await?.len())
}

/// Every committed position, in order.
pub async fn read_positions(config: &Config) -> Result<Vec<Position>> {
    let registry = Arc::new(Registry::new(config.registry.url.expose(), config.names().prefix())?);
    let decoder = Decoder::<Position>::new(Arc::clone(&registry), registry.id_of::<Position>().await?);
    let mut positions = Vec::new();
    for raw in read(config, Topic::CdcPositions, "read_committed").await? {
        positions.push(decoder.decode(raw.value.as_deref().unwrap_or_default()).await?);
    }
    Ok(positions)
}
