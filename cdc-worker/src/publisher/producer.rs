//! Producers that are alone under their slot's transactional ids.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use runtime::config::Compression;
use runtime::{Config, kafka};
use schemas::{Encoder, Position};

use crate::error::Error;

/// How long a transaction may stay open before Kafka aborts it and frees its readers.
const TRANSACTION_TIMEOUT_MS: u64 = 10_000;
/// Largest record that is tried; the topic's own limit, after compression, decides.
const RECORD_BYTES: usize = 64 << 20;
/// Most that records may hold while they wait for the brokers; a single larger one still goes.
const QUEUED_KIB: usize = 8 << 10;
/// How long one call to Kafka may block.
pub(super) const CALL: Duration = Duration::from_secs(5);

/// The transactional ids of a slot, which take turns.
///
/// Kafka says that a transaction is committed when that can't be undone any more, and writes the markers then. Until it
/// has, it takes no next transaction of the same id, and its client looks again after 20 ms: one id alone waits for the
/// markers, and now and then for the client.
const IDS: [&str; 2] = ["a", "b"];

/// Producers that have fenced every earlier one of their slot. Delivery reports are served by threads of their own.
///
/// Transactions still follow one another: the next is begun when the one before is committed, so each partition has
/// their records in order, and its readers see them in order.
pub struct Fenced {
    producers: [ThreadedProducer<Ends>; 2],
    turn: usize,
}

impl Fenced {
    /// New producers under the slot's transactional ids; blocks. Earlier ones can't commit anything after this, and what
    /// they left open is aborted.
    pub fn take_over(config: &Config, slot: &str) -> Result<Self, Error> {
        // Side by side: what an earlier producer left open takes the coordinator a while to abort.
        let [first, second] = IDS;
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| init(config, slot, first));
            let second = init(config, slot, second);
            (first.join().unwrap_or(Err(Error::PublisherGone)), second)
        });
        Ok(Self { producers: [first?, second?], turn: 0 })
    }

    /// The producer whose turn it is.
    pub(super) const fn producer(&self) -> &ThreadedProducer<Ends> {
        &self.producers[self.turn]
    }

    /// To be called after a commit.
    pub(super) const fn take_turns(&mut self) {
        self.turn = 1 - self.turn;
    }

    /// Publishes one position on its own; blocks.
    pub fn publish_position(&self, topic: &str, position: &Position, encoder: &Encoder<Position>) -> Result<(), Error> {
        let value = encoder.encode(position)?;
        let failed = |source| Error::Kafka { what: format!("writing the position to {topic}"), source };
        self.producer().begin_transaction().map_err(failed)?;
        self.producer()
            .send(BaseRecord::to(topic).partition(0).key(&position.slot).payload(&value))
            .map_err(|(source, _)| failed(source))?;
        kafka::flush(self.producer().client(), CALL);
        self.producer().commit_transaction(CALL * 2).map_err(failed)
    }
}

fn init(config: &Config, slot: &str, id: &str) -> Result<ThreadedProducer<Ends>, Error> {
    let producer: ThreadedProducer<Ends> = settings(config, &format!("cdc-{slot}-{id}"))
        .create_with_context(Ends::default())
        .map_err(Error::kafka("the transactional producer can't be made"))?;
    let deadline = Instant::now() + CALL * 2;
    loop {
        match producer.init_transactions(CALL) {
            Ok(()) => return Ok(producer),
            // The coordinator is still aborting what an earlier producer left.
            Err(error) if is_retriable(&error) && Instant::now() < deadline => {}
            Err(source) => {
                return Err(Error::Kafka { what: "taking over the transactional id".into(), source });
            }
        }
    }
}

/// Settings of a producer of the history under a transactional id.
pub fn settings(config: &Config, id: &str) -> ClientConfig {
    let mut settings = runtime::kafka::producer_config(&config.kafka);
    settings
        .set("transactional.id", config.names().transactional_id(id))
        .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string())
        .set("delivery.timeout.ms", config.kafka.delivery_timeout_ms.min(TRANSACTION_TIMEOUT_MS).to_string())
        .set("message.max.bytes", RECORD_BYTES.to_string())
        // Records wait in the client until the brokers have them: a bound of memory, not of a transaction.
        .set("queue.buffering.max.kbytes", QUEUED_KIB.to_string())
        .set("compression.type", config.cdc.compression.name())
        // The commit flushes, so that waiting for fuller batches costs a lone record nothing.
        .set("linger.ms", "20");
    if config.cdc.compression == Compression::Zstd {
        // The client's default would take most of the worker's time and save little.
        settings.set("compression.level", "1");
    }
    settings
}

/// Whether the same call may be made again.
pub(super) fn is_retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.is_retriable(),
        KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) => true,
        _ => false,
    }
}

/// Last offsets by topic and partition.
pub(super) type TopicEnds = BTreeMap<String, BTreeMap<i32, i64>>;

/// What became of the open transaction's records.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) delivered: Mutex<TopicEnds>,
    pub(super) failed: Mutex<Option<KafkaError>>,
}

impl ClientContext for Ends {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::trace!(error = %error, reason, "Kafka's client reports");
    }
}

impl ProducerContext for Ends {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                let mut delivered = self.delivered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                match delivered.get_mut(topic) {
                    Some(ends) => {
                        ends.entry(partition).and_modify(|end| *end = offset.max(*end)).or_insert(offset);
                    }
                    None => {
                        delivered.insert(topic.to_owned(), BTreeMap::from([(partition, offset)]));
                    }
                }
            }
            Err((error, _)) => {
                self.failed
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .get_or_insert_with(|| error.clone());
            }
        }
    }
}
