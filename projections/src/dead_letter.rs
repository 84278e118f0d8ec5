//! What is no event in `chat.events`, put aside with the reason so that the projections go on.
//!
//! Each projection puts it aside for itself, before it moves its offset: killed in between, or overtaken by another runner, it is
//! put aside again, at the same place.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use runtime::kafka::{Received, dead_letter};
use runtime::{Config, clock, kafka};
use schemas::topics::Topic;

use crate::error::Error;
use crate::metrics;

/// Longer than a record may try to reach the brokers.
const PATIENCE: Duration = Duration::from_secs(60);

/// The dead-letter topic of the history, for every loop of a process. Connects at the first dead letter.
#[derive(Clone)]
pub struct DeadLetters(Arc<Inner>);

struct Inner {
    settings: ClientConfig,
    topic: String,
    producer: Mutex<Option<FutureProducer>>,
}

impl DeadLetters {
    pub(crate) fn new(config: &Config) -> Self {
        let topic = config.names().topic(Topic::ChatEventsDlq);
        Self(Arc::new(Inner { settings: kafka::producer_config(&config.kafka), topic, producer: Mutex::default() }))
    }

    /// Writes a record's original bytes and returns once Kafka has them.
    pub(crate) async fn bury(&self, projection: &'static str, received: &Received, reason: &str) -> Result<(), Error> {
        let mut dead = FutureRecord::<[u8], [u8]>::to(&self.0.topic);
        if let Some(key) = &received.key {
            dead = dead.key(key);
        }
        if let Some(value) = &received.value {
            dead = dead.payload(value);
        }
        dead = dead.headers(dead_letter::headers(received, projection, reason));
        let producer = self.producer().map_err(Error::DeadLetter)?;
        producer.send(dead, Timeout::After(PATIENCE)).await.map_err(|(source, _)| Error::DeadLetter(source))?;
        ::metrics::counter!(metrics::DEAD_LETTERS, "projection" => projection).increment(1);
        ::metrics::gauge!(metrics::DEAD_LETTER_AT, "projection" => projection).set(clock::now_ms() as f64 / 1_000.0);
        tracing::error!(
            projection,
            topic = &*received.topic,
            partition = received.partition,
            offset = received.offset,
            error = reason,
            "a record is no event and went to the dead-letter topic"
        );
        Ok(())
    }

    fn producer(&self) -> Result<FutureProducer, KafkaError> {
        let mut producer = self.0.producer.lock().unwrap_or_else(PoisonError::into_inner);
        match &*producer {
            Some(producer) => Ok(producer.clone()),
            None => Ok(producer.insert(self.0.settings.create()?).clone()),
        }
    }
}
