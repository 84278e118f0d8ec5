//! Commands that nobody can decide, put aside with the reason so that their partition goes on.

use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use runtime::config::Kafka;
use runtime::kafka::{Received, dead_letter};
use runtime::{Names, kafka};
use schemas::topics::Topic;

use crate::error::Error;
use crate::metrics;

/// The dead-letter topic of `chat.commands`.
pub(crate) struct DeadLetters {
    producer: FutureProducer,
    topic: String,
}

impl DeadLetters {
    pub(crate) fn new(kafka: &Kafka, names: &Names) -> Result<Self, Error> {
        let producer = kafka::producer_config(kafka).create()?;
        Ok(Self { producer, topic: names.topic(Topic::ChatCommandsDlq) })
    }

    /// Writes the record's original bytes with the reason in headers, and waits until Kafka has them. A crash after it
    /// and before the offset moves buries the record twice, at the same place.
    pub(crate) async fn bury(&self, record: &Received, reason: &str) -> Result<(), Error> {
        tracing::error!(
            topic = &*record.topic,
            partition = record.partition,
            offset = record.offset,
            error = reason,
            "a command can't be decided and goes to the dead-letter topic"
        );
        metrics::dead_letter();
        let headers = dead_letter::headers(record, "persister", reason);
        let mut dead = FutureRecord::<[u8], [u8]>::to(&self.topic).headers(headers);
        if let Some(key) = &record.key {
            dead = dead.key(key);
        }
        if let Some(value) = &record.value {
            dead = dead.payload(value);
        }
        self.producer
            .send(dead, Timeout::After(Duration::from_secs(60)))
            .await
            .map(drop)
            .map_err(|(error, _)| Error::DeadLetter(error))
    }
}
