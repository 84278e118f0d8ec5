//! The records of the dead-letter topic.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use rdkafka::{Offset, TopicPartitionList};
use runtime::{Config, kafka};
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{ChatCommand, Decoder};
use serde_json::{Value, json};

use super::settled::Outcome;

/// How long Kafka may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// One dead letter.
pub(super) struct Letter {
    pub(super) offset: i64,
    pub(super) buried_at_ms: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) reason: String,
    pub(super) source_topic: String,
    pub(super) source_partition: String,
    pub(super) source_offset: String,
}

impl Letter {
    /// The key as text: the chat, where it was one.
    pub(super) fn chat(&self) -> String {
        self.key.as_deref().map(|key| String::from_utf8_lossy(key).escape_debug().to_string()).unwrap_or_default()
    }
}

/// All of them, oldest first.
pub(super) struct Letters {
    all: Vec<Letter>,
    commands: String,
    producer: FutureProducer,
    decoder: Option<Decoder<ChatCommand>>,
}

impl Letters {
    /// Reads the topic from its beginning to its present end.
    pub(super) async fn read(config: &Config) -> Result<Self> {
        let names = config.names();
        let (kafka_config, topic) = (config.kafka.clone(), names.topic(Topic::ChatCommandsDlq));
        let letters = tokio::task::spawn_blocking(move || read_all(&kafka_config, &topic)).await??;
        // Without a registry there are still bytes to show, retry and drop.
        let registry = Arc::new(Registry::new(config.registry.url.expose(), names.prefix())?);
        let schema_id = registry.id_of::<ChatCommand>().await.ok();
        Ok(Self {
            all: letters,
            commands: names.topic(Topic::ChatCommands),
            producer: kafka::producer_config(&config.kafka).create()?,
            decoder: schema_id.map(|id| Decoder::new(registry, id)),
        })
    }

    pub(super) fn all(&self) -> &[Letter] {
        &self.all
    }

    pub(super) fn at(&self, offset: i64) -> Result<&Letter> {
        let found = self.all.iter().find(|letter| letter.offset == offset);
        found.with_context(|| {
            format!("there is no dead letter {offset}; `waltalkie dlq list --all` shows which there are")
        })
    }

    /// The original bytes under the original key.
    pub(super) async fn send_again(&self, letter: &Letter) -> Result<()> {
        ensure!(
            letter.source_topic == self.commands,
            "it came from the topic {:?}, and only commands ({}) can be tried again",
            letter.source_topic,
            self.commands
        );
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.commands);
        if let Some(key) = &letter.key {
            record = record.key(key);
        }
        if let Some(value) = &letter.value {
            record = record.payload(value);
        }
        match self.producer.send(record, Timeout::After(PATIENCE)).await {
            Ok(_) => Ok(()),
            Err((error, _)) => bail!("Kafka didn't take it: {error}"),
        }
    }

    /// All that can be said of one.
    pub(super) async fn show(&self, letter: &Letter, outcome: Option<Outcome>, with_body: bool) -> Value {
        let mut shown = super::line_of(letter, outcome);
        let value = letter.value.as_deref().unwrap_or_default();
        let decoded = match &self.decoder {
            Some(decoder) => decoder.decode(value).await.map_err(|error| error.to_string()),
            None => Err("the schema registry doesn't answer".to_owned()),
        };
        match decoded {
            Ok(mut command) => {
                if let (Some(content), false) = (&command.content, with_body) {
                    command.content = Some(format!("{} bytes; --body shows them", content.len()));
                }
                shown["command"] = json!(command);
            }
            Err(problem) => {
                shown["command_problem"] = problem.into();
                shown["value_hex"] = hex(value).into();
            }
        }
        shown
    }
}

fn read_all(kafka_config: &runtime::config::Kafka, topic: &str) -> Result<Vec<Letter>> {
    let consumer: BaseConsumer = kafka::client_config(kafka_config)
        // No group: nothing is committed.
        .set("group.id", "waltalkie-dlq")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .context("Kafka's client")?;
    let (first, end) = consumer.fetch_watermarks(topic, 0, PATIENCE).with_context(|| {
        format!("topic {topic} can't be read: is kafka.brokers right, and has `waltalkie migrate` made it?")
    })?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Offset(first))?;
    consumer.assign(&assignment)?;
    let mut letters = Vec::new();
    if first == end {
        return Ok(letters);
    }
    let mut news = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                news = Instant::now();
                letters.push(letter_of(&message));
                if message.offset() + 1 >= end {
                    return Ok(letters);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(letters),
            Some(Err(error)) => return Err(error).with_context(|| format!("reading {topic}")),
            None => ensure!(news.elapsed() < PATIENCE, "{topic} can't be read: Kafka is silent"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn letter_of(message: &BorrowedMessage<'_>) -> Letter {
    let header = |name: &str| {
        let found = message.headers()?.iter().find(|header| header.key == name)?.value?;
        Some(String::from_utf8_lossy(found).into_owned())
    };
    Letter {
        offset: message.offset(),
        buried_at_ms: message.timestamp().to_millis().unwrap_or_default(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        reason: header("reason").unwrap_or_default(),
        source_topic: header("source_topic").unwrap_or_default(),
        source_partition: header("source_partition").unwrap_or_default(),
        source_offset: header("source_offset").unwrap_or_default(),
    }
}
