//! Writes merged cursors to `chat.cursors`, in Kafka transactions that only the owner of the marks can commit.
//!
//! Each transaction carries the offsets of the marks with the group membership under which they were read. Kafka's
//! group coordinator refuses them from a member that was expelled, which aborts the transaction: a process that was
//! stopped can't put an old cursor over a newer one. (The group's offsets are otherwise unused; those in Postgres
//! count.) After any failure the producer is thrown away: the next one takes over the transactional id, which ends
//! whatever was left open.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use runtime::kafka;
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{Cursor, Encoder, FrameError};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::error::Error;
use crate::metrics;
use crate::projection::Fence;
use crate::runner::own_schema_id;
use crate::wiring::Wiring;

/// Each step of a transaction. Together they stay below the time that Postgres lets a transaction idle.
const STEP: Duration = Duration::from_secs(4);
/// After this the broker aborts a transaction whose producer has gone, so that readers of `chat.cursors` can go on.
const TRANSACTION_TIMEOUT_MS: &str = "10000";

type Transactional = ThreadedProducer<DefaultProducerContext>;

/// Why merged cursors aren't in `chat.cursors`. All of these pass, or are settled by reading the marks again.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Kafka refused or didn't answer.
    #[error("Kafka transaction of chat.cursors: {step} failed")]
    Kafka {
        /// What was tried.
        step: &'static str,
        /// What Kafka's client says.
        #[source]
        source: KafkaError,
    },
    /// The schema's id isn't known.
    #[error("the schema of Cursor can't be had")]
    Schema(#[source] Box<Error>),
    /// A cursor doesn't fit its schema.
    #[error(transparent)]
    Encode(#[from] FrameError),
    /// The batch wasn't read as a member of a group.
    #[error("the marks' reader isn't in its group")]
    NoGroup,
    /// The thread of the transaction broke off.
    #[error("the transaction broke off")]
    BrokeOff,
}

/// The writer of one process.
pub struct CursorWriter {
    settings: rdkafka::ClientConfig,
    topic: String,
    registry: Arc<Registry>,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    encoder: Option<Arc<Encoder<Cursor>>>,
    producer: Option<Transactional>,
}

impl CursorWriter {
    /// A writer that connects at its first transaction.
    pub fn new(wiring: &Wiring) -> Self {
        let names = wiring.config.names();
        let mut settings = kafka::producer_config(&wiring.config.kafka);
        settings
            .set("transactional.id", names.transactional_id(&format!("projection-cursor-{}", Uuid::now_v7())))
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
            .set("delivery.timeout.ms", TRANSACTION_TIMEOUT_MS);
        Self {
            settings,
            topic: names.topic(Topic::ChatCursors),
            registry: Arc::clone(&wiring.registry),
            parts: Mutex::default(),
        }
    }

    /// Writes the cursors and the fence's offsets together, or neither.
    pub async fn write(&self, cursors: &[Cursor], fence: &Arc<Fence>) -> Result<(), PublishError> {
        let mut parts = self.parts.lock().await;
        let encoder = if let Some(encoder) = &parts.encoder {
            Arc::clone(encoder)
        } else {
            let id = own_schema_id::<Cursor>(&self.registry)
                .await
                .map_err(|failure| PublishError::Schema(failure.into()))?;
            Arc::clone(parts.encoder.insert(Arc::new(Encoder::new(id))))
        };
        let records = cursors
            .iter()
            .map(|cursor| Ok((cursor.key(), encoder.encode(cursor)?)))
            .collect::<Result<Vec<_>, FrameError>>()?;
        let (settings, topic, fence) = (self.settings.clone(), self.topic.clone(), Arc::clone(fence));
        let count = records.len() as u64;
        let producer = parts.producer.take();
        let blocking = tokio::task::spawn_blocking(move || {
            let producer = producer.map_or_else(|| open(&settings), Ok)?;
            transaction(&producer, &topic, &records, &fence)?;
            Ok::<_, PublishError>(producer)
        });
        parts.producer = Some(blocking.await.map_err(|_| PublishError::BrokeOff)??);
        ::metrics::counter!(metrics::CURSORS).increment(count);
        Ok(())
    }
}

fn open(settings: &rdkafka::ClientConfig) -> Result<Transactional, PublishError> {
    let producer: Transactional = settings.create().map_err(failed("making the producer"))?;
    producer.init_transactions(STEP).map_err(failed("taking the transactional id"))?;
    Ok(producer)
}

fn transaction(
    producer: &Transactional,
    topic: &str,
    records: &[(String, Vec<u8>)],
    fence: &Fence,
) -> Result<(), PublishError> {
    let group = fence.group.as_ref().ok_or(PublishError::NoGroup)?;
    let mut offsets = TopicPartitionList::new();
    for (topic, partition, next) in &fence.offsets {
        offsets.add_partition_offset(topic, *partition, Offset::Offset(*next)).map_err(failed("naming offsets"))?;
    }
    producer.begin_transaction().map_err(failed("beginning"))?;
    for (key, value) in records {
        producer
            .send(BaseRecord::to(topic).key(key).payload(value))
            .map_err(|(source, _)| PublishError::Kafka { step: "sending", source })?;
    }
    // If it takes longer, the commit says so.
    kafka::flush(producer.client(), STEP);
    producer.send_offsets_to_transaction(&offsets, group, STEP).map_err(failed("sending offsets"))?;
    producer.commit_transaction(STEP).map_err(failed("committing"))
}

fn failed(step: &'static str) -> impl FnOnce(KafkaError) -> PublishError {
    move |source| PublishError::Kafka { step, source }
}
