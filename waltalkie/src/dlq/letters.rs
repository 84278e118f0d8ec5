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
use schemas::{ChatCommand, ChatEvent, Decoder, Notification};
use serde_json::{Value, json};

use super::DlqTopic;
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
    /// What the key is.
    pub(super) key_name: &'static str,
    pub(super) source_topic: String,
    pub(super) source_partition: String,
    pub(super) source_offset: String,
    /// Who put it aside; unknown of older ones.
    pub(super) consumer: Option<String>,
}

impl Letter {
    /// The key as text.
    pub(super) fn key_text(&self) -> String {
        self.key.as_deref().map(|key| String::from_utf8_lossy(key).escape_debug().to_string()).unwrap_or_default()
    }
}

/// Reads what is in them.
enum Reading {
    Command(Decoder<ChatCommand>),
    Notification(Decoder<Notification>),
    Event(Decoder<ChatEvent>),
}

/// All of them, oldest first.
pub(super) struct Letters {
    all: Vec<Letter>,
    source: String,
    producer: FutureProducer,
    decoder: Option<Reading>,
}

impl Letters {
    /// Reads the topic from its beginning to its present end.
    pub(super) async fn read(config: &Config, which: DlqTopic) -> Result<Self> {
        let names = config.names();
        let (kafka_config, topic) = (config.kafka.clone(), names.topic(which.dead()));
        let letters = tokio::task::spawn_blocking(move || read_all(&kafka_config, &topic, which)).await??;
        // Without a registry there are still bytes to show, retry and drop.
        let registry = Arc::new(Registry::new(config.registry.url.expose(), names.prefix())?);
        let decoder = match which {
            DlqTopic::Commands => {
                let schema_id = registry.id_of::<ChatCommand>().await.ok();
                schema_id.map(|id| Reading::Command(Decoder::new(registry, id)))
            }
            DlqTopic::Notifications => {
                let schema_id = registry.id_of::<Notification>().await.ok();
                schema_id.map(|id| Reading::Notification(Decoder::new(registry, id)))
            }
            DlqTopic::Events => {
                let schema_id = registry.id_of::<ChatEvent>().await.ok();
                schema_id.map(|id| Reading::Event(Decoder::new(registry, id)))
            }
        };
        Ok(Self {
            all: letters,
            source: names.topic(which.source()),
            producer: kafka::producer_config(&config.kafka).create()?,
            decoder,
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

    /// The newest command that is the one. What can't be read isn't what is looked for.
    pub(super) async fn newest_command(&self, is_it: impl Fn(&ChatCommand) -> bool) -> Result<Option<&Letter>> {
        let Some(Reading::Command(decoder)) = &self.decoder else { bail!("the schema registry doesn't answer") };
        for letter in self.all.iter().rev() {
            match decoder.decode(letter.value.as_deref().unwrap_or_default()).await {
                Ok(command) if is_it(&command) => return Ok(Some(letter)),
                Err(error) if error.is_transient() => return Err(error).context("the registry"),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(None)
    }

    /// The original bytes under the original key.
    pub(super) async fn send_again(&self, letter: &Letter) -> Result<()> {
        ensure!(
            letter.source_topic == self.source,
            "it came from the topic {:?}, and only what came from {} can be tried again",
            letter.source_topic,
            self.source
        );
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.source);
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
            Some(Reading::Command(decoder)) => {
                decoder.decode(value).await.map_err(|error| error.to_string()).map(|command| {
                    let hidden = command.content.as_ref().filter(|_| !with_body);
                    let content = hidden.map(|content| format!("{} bytes; --body shows them", content.len()));
                    ("command", json!(ChatCommand { content: content.or(command.content.clone()), ..command }))
                })
            }
            Some(Reading::Notification(decoder)) => {
                let decoded = decoder.decode(value).await.map_err(|error| error.to_string());
                decoded.map(|notification| ("notification", json!(notification)))
            }
            Some(Reading::Event(decoder)) => {
                let decoded = decoder.decode(value).await.map_err(|error| error.to_string());
                decoded.map(|mut event| {
                    let content = event.message.as_mut().and_then(|message| message.content.as_mut());
                    if let Some(content) = content.filter(|_| !with_body) {
                        *content = format!("{} bytes; --body shows them", content.len());
                    }
                    ("event", json!(event))
                })
            }
            None => Err("the schema registry doesn't answer".to_owned()),
        };
        match decoded {
            Ok((name, record)) => shown[name] = record,
            Err(problem) => {
                let name = match self.decoder {
                    Some(Reading::Notification(_)) => "notification_problem",
                    Some(Reading::Event(_)) => "event_problem",
                    _ => "command_problem",
                };
                shown[name] = problem.into();
                shown["value_hex"] = hex(value).into();
            }
        }
        shown
    }
}

fn read_all(kafka_config: &runtime::config::Kafka, topic: &str, which: DlqTopic) -> Result<Vec<Letter>> {
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
                letters.push(letter_of(&message, which));
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

fn letter_of(message: &BorrowedMessage<'_>, which: DlqTopic) -> Letter {
    let header = |name: &str| {
        let found = message.headers()?.iter().find(|header| header.key == name)?.value?;
        Some(String::from_utf8_lossy(found).into_owned())
    };
    Letter {
        offset: message.offset(),
        buried_at_ms: message.timestamp().to_millis().unwrap_or_default(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        key_name: which.key_name(),
        reason: header("reason").unwrap_or_default(),
        source_topic: header("source_topic").unwrap_or_default(),
        source_partition: header("source_partition").unwrap_or_default(),
        source_offset: header("source_offset").unwrap_or_default(),
        consumer: header("consumer"),
    }
}
