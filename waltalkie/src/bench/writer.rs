//! Many records into Kafka before anything is measured, as fast as it takes them.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use runtime::config::Compression;
use runtime::{Config, kafka};

const PATIENCE: Duration = Duration::from_mins(1);

/// A producer that waits where its queue is full. Blocks.
pub(super) struct Writer {
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Writer {
    /// Compressed as whoever writes the topic in service does it, in batches as large as they come.
    pub(super) fn new(config: &Config, compression: Compression) -> Result<Self> {
        let mut client = kafka::producer_config(&config.kafka);
        client.set("linger.ms", "20").set("batch.size", "1000000").set("compression.type", compression.name());
        Ok(Self { producer: client.create()? })
    }

    pub(super) fn put(&self, mut record: BaseRecord<'_, str, Vec<u8>>) -> Result<()> {
        while let Err((error, same)) = self.producer.send(record) {
            match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => {
                    self.producer.flush(PATIENCE).context("Kafka takes nothing")?;
                }
                error => return Err(error.into()),
            }
            record = same;
        }
        Ok(())
    }

    /// Returns once Kafka has them all.
    pub(super) fn finish(&self) -> Result<()> {
        self.producer.flush(PATIENCE).context("Kafka doesn't take what was prepared")
    }
}
