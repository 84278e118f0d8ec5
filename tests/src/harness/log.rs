//! What is in Kafka, as any consumer would read it: committed records only.

use std::sync::Arc;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use runtime::{Config, kafka};
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{ChatEvent, Decoder, Record};

use super::wait::LONG;

/// A record as it stands in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Key, as text.
    pub key: String,
    /// Value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, as text.
    pub headers: Vec<(String, String)>,
    /// Timestamp in milliseconds.
    pub timestamp_ms: i64,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

impl Logged {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Everything that is committed in a topic, partition by partition.
pub async fn read_all(config: &Config, topic: Topic) -> Result<Vec<Logged>> {
    read_topic(config, topic, true).await
}

/// Everything in a topic; if not only what is committed, also records of transactions that are open or were aborted.
pub async fn read_topic(config: &Config, topic: Topic, only_committed: bool) -> Result<Vec<Logged>> {
    let config = config.clone();
    tokio::task::spawn_blocking(move || read_blocking(&config, topic, only_committed)).await?
}

/// The history, decoded, and each event's record.
pub async fn read_events(config: &Config) -> Result<Vec<(ChatEvent, Logged)>> {
    let registry = Arc::new(Registry::new(config.registry.url.expose(), &config.names.prefix)?);
    let own_id = registry.id_of::<ChatEvent>().await?;
    let decoder = Decoder::<ChatEvent>::new(registry, own_id);
    let mut events = Vec::new();
    for logged in read_all(config, ChatEvent::TOPIC).await? {
        let event = decoder.decode(logged.value.as_deref().unwrap_or_default()).await?;
        events.push((event, logged));
    }
    Ok(events)
}

fn read_blocking(config: &Config, topic: Topic, only_committed: bool) -> Result<Vec<Logged>> {
    let name = config.names().topic(topic);
    let consumer: BaseConsumer = kafka::client_config(&config.kafka)
        .set("group.id", "waltalkie-tests")
        .set("enable.auto.commit", "false")
        .set("isolation.level", if only_committed { "read_committed" } else { "read_uncommitted" })
        .set("enable.partition.eof", "true")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(&name), LONG)?;
    let partitions = metadata.topics().first().context("no such topic")?.partitions().len();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(&name, partition as i32, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut ended = vec![false; partitions];
    let mut records = Vec::new();
    while ended.iter().any(|ended| !ended) {
        match consumer.poll(LONG).with_context(|| format!("{name} ends nowhere"))? {
            Ok(message) => records.push(Logged {
                key: text(message.key()),
                value: message.payload().map(<[u8]>::to_vec),
                headers: message
                    .headers()
                    .into_iter()
                    .flat_map(Headers::iter)
                    .map(|header| (header.key.to_owned(), text(header.value)))
                    .collect(),
                timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
                partition: message.partition(),
                offset: message.offset(),
            }),
            Err(KafkaError::PartitionEOF(partition)) => ended[partition as usize] = true,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(records)
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}
