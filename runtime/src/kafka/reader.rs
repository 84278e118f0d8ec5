//! Reading topics in batches, from offsets that are kept where the results are.
//!
//! ```text
//!   broker ──▶ consumer (own thread) ──▶ bounded channel of batches ──▶ Reader::next (the role's loop)
//!                 │  assignment
//!                 ▼
//!            OffsetStore::load  (the tables that the loop writes, or Kafka's own group offsets)
//! ```
//!
//! *Progress.* A partition starts where the store says, each time that it is assigned. Batches carry the generation of
//! the assignment that they were read under; [`Reader::next`] drops those of an earlier one. The loop advances offsets
//! in the transaction of its results by compare-and-set, which is what makes a zombie harmless; this reader only makes
//! it rare.
//!
//! *Failure.* An offset that is out of range ends the reader with an error: it never jumps. So does a topic or group that
//! the login has no right to. Brokers that are away are waited for, and so is a topic that isn't there.

mod context;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use schemas::trace::{self, TraceContext};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use context::Assignment;
use context::Context;

use crate::shutdown::Shutdown;

/// Batches that wait for the loop; what arrives meanwhile makes the next one larger.
const QUEUED_BATCHES: usize = 1;
/// How often a batch that waits to be queued takes in what has arrived.
const GROWING_POLL: Duration = Duration::from_millis(2);
/// Most bytes of values in one batch.
const BATCH_BYTES: usize = 8 << 20;

/// What a reader that gathers waits for at most.
const GATHER_BYTES: &str = "65536";

/// Said to a login that lacks a right.
const RIGHTS: &str = "docs/operators.md, \"Kafka\", has the ACLs";

/// Where a partition starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this offset.
    At(i64),
    /// At its first record.
    Beginning,
    /// At the group's offset in Kafka; at the end, if there is none.
    Committed,
}

/// A topic's partition.
pub type Place = (String, i32);

/// Boxed future of a store's answer.
pub type Loading<'a> = Pin<Box<dyn Future<Output = Result<HashMap<Place, Start>, String>> + Send + 'a>>;

/// Where offsets are kept.
pub trait OffsetStore: Send + Sync + 'static {
    /// Where each of these partitions starts; one that is absent starts at its beginning. An error is tried again.
    fn load<'a>(&'a self, places: &'a [Place]) -> Loading<'a>;
}

/// Offsets kept in Kafka by the group; for readers that may see a record twice or start at the end.
#[derive(Debug, Clone, Copy, Default)]
pub struct GroupOffsets;

impl OffsetStore for GroupOffsets {
    fn load<'a>(&'a self, places: &'a [Place]) -> Loading<'a> {
        Box::pin(async move { Ok(places.iter().map(|place| (place.clone(), Start::Committed)).collect()) })
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Topic, with prefix.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// The record's timestamp in milliseconds, 0 if it has none.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Value of the header `ce_type`, where there is one.
    pub event_type: Option<String>,
    /// The trace that it belongs to, if it is sampled.
    pub trace: Option<TraceContext>,
}

/// Records of one or more partitions, each partition's in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Assignment under which it was read.
    generation: u64,
    /// The records.
    pub records: Vec<Received>,
}

impl Batch {
    /// For each partition in the batch, its first offset and the one after its last.
    pub fn ranges(&self) -> HashMap<(&str, i32), (i64, i64)> {
        let mut ranges = HashMap::new();
        for record in &self.records {
            ranges
                .entry((&*record.topic, record.partition))
                .and_modify(|(_, next): &mut (i64, i64)| *next = record.offset + 1)
                .or_insert((record.offset, record.offset + 1));
        }
        ranges
    }
}

/// Where a reader with [`GroupOffsets`] has come to since it last committed.
#[derive(Debug, Default)]
pub struct Ends {
    generation: u64,
    next: HashMap<(Arc<str>, i32), i64>,
}

impl Ends {
    /// A batch is done with. What was read under an earlier assignment is others' to commit.
    pub fn take(&mut self, batch: &Batch) {
        if batch.generation != self.generation {
            self.generation = batch.generation;
            self.next.clear();
        }
        for record in &batch.records {
            self.next.insert((Arc::clone(&record.topic), record.partition), record.offset + 1);
        }
    }
}

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// The consumer could not be made.
    #[error("consumer of group {group} could not be made")]
    Create {
        /// Group.
        group: String,
        /// What Kafka's client says.
        #[source]
        source: KafkaError,
    },
    /// Nothing can be read any more without somebody's decision.
    #[error("group {group}: {problem}")]
    Definite {
        /// Group.
        group: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// What a reader reads.
pub struct Settings {
    /// From [`super::client_config`].
    pub client: ClientConfig,
    /// Consumer group.
    pub group: String,
    /// Topics, with prefix.
    pub topics: Vec<String>,
    /// Most records in a batch.
    pub batch_records: usize,
    /// How long the broker may hold records back to send more at once. Zero is for those that people wait for; anything
    /// else saves the broker a question a record.
    pub gather: Duration,
    /// Metric that takes the lag, labelled by topic and partition.
    pub lag_metric: &'static str,
}

/// The loop's end of a reader.
pub struct Reader {
    batches: mpsc::Receiver<Result<Batch, ReaderError>>,
    consumer: Arc<BaseConsumer<Context>>,
    assignment: Assignment,
    /// Ends questions to the store that nobody waits for any more.
    _life: DropGuard,
}

impl Reader {
    /// Starts reading. Must be called on a runtime, whose handle the consumer's thread uses to ask the store.
    pub fn start(settings: Settings, store: Arc<dyn OffsetStore>, shutdown: &Shutdown) -> Result<Self, ReaderError> {
        let Settings { mut client, group, topics, batch_records, gather, lag_metric } = settings;
        client
            .set("group.id", &group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "error")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "2000")
            .set("max.poll.interval.ms", "300000")
            .set("queued.max.messages.kbytes", "16384")
            // Once that is full, the client would wait for a second, however soon there is room.
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.wait.max.ms", if gather.is_zero() { "500".to_owned() } else { gather.as_millis().to_string() })
            .set("fetch.min.bytes", if gather.is_zero() { "1" } else { GATHER_BYTES })
            .set("statistics.interval.ms", "5000");
        let generation = Arc::new(AtomicU64::new(0));
        let life = CancellationToken::new();
        let context = Context {
            life: life.clone(),
            store,
            handle: tokio::runtime::Handle::current(),
            generation: Arc::clone(&generation),
            shutdown: shutdown.clone(),
            lag_metric,
        };
        let create = |source| ReaderError::Create { group: group.clone(), source };
        let consumer: BaseConsumer<Context> = client.create_with_context(context).map_err(create)?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(create)?;
        let consumer = Arc::new(consumer);
        let (sender, batches) = mpsc::channel(QUEUED_BATCHES);
        let reload = Arc::new(AtomicBool::new(false));
        let puller = Puller {
            consumer: Arc::clone(&consumer),
            generation: Arc::clone(&generation),
            reload: Arc::clone(&reload),
            batch_records,
            group: group.clone(),
            topics,
            shutdown: shutdown.clone(),
        };
        std::thread::Builder::new().name("kafka-reader".into()).spawn(move || puller.run(&sender)).map_err(
            |error| ReaderError::Definite { group, problem: format!("no thread could be started: {error}") },
        )?;
        Ok(Self { batches, consumer, assignment: Assignment { generation, reload }, _life: life.drop_guard() })
    }

    /// The next batch of the present assignment; `None` when it is time to stop.
    pub async fn next(&mut self) -> Result<Option<Batch>, ReaderError> {
        while let Some(batch) = self.batches.recv().await {
            let batch = batch?;
            if self.is_present(&batch) {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Whether a batch belongs to the present assignment.
    fn is_present(&self, batch: &Batch) -> bool {
        self.assignment.is_present(batch)
    }

    /// Asks the store again where to go on: what was read since is dropped. For loops whose compare-and-set failed.
    pub fn reload(&self) {
        self.assignment.reload();
    }

    /// Whether the group has told once which partitions are this reader's; none may be.
    pub fn has_joined(&self) -> bool {
        self.assignment.generation.load(Ordering::Acquire) > 0
    }

    /// The assignment, for a loop that takes batches from a task that reads ahead.
    pub fn assignment(&self) -> Assignment {
        self.assignment.clone()
    }

    /// Commits to the group, for readers with [`GroupOffsets`]; nothing happens if there is nothing new.
    pub fn commit(&self, ends: &mut Ends) -> KafkaResult<()> {
        let next = std::mem::take(&mut ends.next);
        if next.is_empty() {
            return Ok(());
        }
        let mut offsets = TopicPartitionList::new();
        for ((topic, partition), next) in next {
            offsets.add_partition_offset(&topic, partition, Offset::Offset(next))?;
        }
        self.consumer.commit(&offsets, CommitMode::Async)
    }

    /// The consumer's group membership, with which a transactional producer is fenced.
    pub fn group_metadata(&self) -> Option<rdkafka::consumer::ConsumerGroupMetadata> {
        self.consumer.group_metadata()
    }
}

struct Puller {
    consumer: Arc<BaseConsumer<Context>>,
    generation: Arc<AtomicU64>,
    reload: Arc<AtomicBool>,
    batch_records: usize,
    group: String,
    topics: Vec<String>,
    shutdown: Shutdown,
}

impl Puller {
    fn run(self, sender: &mpsc::Sender<Result<Batch, ReaderError>>) {
        while !self.shutdown.has_begun() && !sender.is_closed() {
            if self.reload.load(Ordering::Acquire) {
                self.assign_again();
            }
            let outcome = match self.pull(sender) {
                Ok(None) => continue,
                Ok(Some(batch)) => Ok(batch),
                Err(problem) => Err(ReaderError::Definite { group: self.group.clone(), problem }),
            };
            let is_end = outcome.is_err();
            if sender.blocking_send(outcome).is_err() || is_end {
                break;
            }
        }
        // Leaves the group at once, so that the partitions don't wait for the session to time out.
        self.consumer.unsubscribe();
    }

    fn assign_again(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        // Taken away first: whoever asks for another one meanwhile isn't overheard.
        self.reload.store(false, Ordering::Release);
        let outcome = self.consumer.assignment().and_then(|mut partitions| {
            if self.consumer.context().fill(&self.consumer, &mut partitions) {
                self.consumer.assign(&partitions)
            } else {
                self.consumer.unassign()
            }
        });
        if let Err(error) = outcome {
            // What is read on meanwhile is of no assignment, and dropped.
            self.reload.store(true, Ordering::Release);
            tracing::error!(error = %error, "an assignment could not be taken again; trying again");
        }
    }

    /// Waits for a record, then takes what else has arrived, until the loop can take the batch.
    fn pull(&self, sender: &mpsc::Sender<Result<Batch, ReaderError>>) -> Result<Option<Batch>, String> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut topic: Arc<str> = Arc::from("");
        let mut wait = Duration::from_millis(100);
        let mut generation = self.generation.load(Ordering::Acquire);
        while records.len() < self.batch_records && bytes < BATCH_BYTES {
            match self.consumer.poll(wait) {
                None if records.is_empty() || sender.capacity() > 0 || sender.is_closed() => break,
                None => wait = GROWING_POLL,
                Some(Ok(message)) => {
                    // A rebalance happens inside poll: what was taken before it belongs to the old assignment.
                    let now = self.generation.load(Ordering::Acquire);
                    if now != generation {
                        records.clear();
                        generation = now;
                    }
                    bytes += message.payload_len() + message.key_len();
                    records.push(received(&message, &mut topic));
                    wait = Duration::ZERO;
                }
                Some(Err(error)) => judge(&self.group, &self.topics, true, &error)?,
            }
        }
        Ok((!records.is_empty()).then_some(Batch { generation, records }))
    }
}

/// Tells errors that pass from those that need somebody. Kafka's client asks for the group also where nobody joins it
/// (`is_member`), and that it may not is nothing then.
pub(super) fn judge(group: &str, topics: &[String], is_member: bool, error: &KafkaError) -> Result<(), String> {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            Err(format!("its login may not read {} ({error}); {RIGHTS}", topics.join(" or ")))
        }
        Some(RDKafkaErrorCode::GroupAuthorizationFailed) if is_member => {
            Err(format!("its login may not join the group ({error}); {RIGHTS}"))
        }
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => Err(format!(
            "the stored offset isn't in the topic any more ({error}): records that were never read are gone, or the \
             topic was made anew. Nothing is skipped; see docs/operators.md, \"Backups\""
        )),
        Some(RDKafkaErrorCode::Fatal) => Err(format!("Kafka's client gave up: {error}")),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            tracing::warn!(group, error = %error, "a topic isn't there; `waltalkie migrate` makes it");
            Ok(())
        }
        _ => {
            tracing::debug!(group, error = %error, "a read failed and is tried again");
            Ok(())
        }
    }
}

pub(super) fn received(message: &BorrowedMessage<'_>, topic: &mut Arc<str>) -> Received {
    if &**topic != message.topic() {
        *topic = Arc::from(message.topic());
    }
    let headers = message.headers();
    let event_type = headers.and_then(|headers| {
        headers
            .iter()
            .find(|header| header.key == "ce_type")
            .and_then(|header| header.value)
            .and_then(|value| String::from_utf8(value.to_vec()).ok())
    });
    // The last one, or there is none: the others needn't be looked at.
    let trace = headers.and_then(|headers| {
        let last = headers.try_get(headers.count().checked_sub(1)?)?;
        if last.key == trace::HEADER { TraceContext::parse(last.value?) } else { None }
    });
    Received {
        topic: Arc::clone(topic),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        event_type,
        trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_a_right_is_told_where_it_is_written() {
        let judged = |is_member, code| {
            judge("a-group", &["chat.events".to_owned()], is_member, &KafkaError::MessageConsumption(code))
        };
        for is_member in [true, false] {
            let told = judged(is_member, RDKafkaErrorCode::TopicAuthorizationFailed).unwrap_err();
            assert!(told.contains("may not read chat.events") && told.contains("docs/operators.md"), "{told}");
            assert!(judged(is_member, RDKafkaErrorCode::BrokerTransportFailure).is_ok());
        }
        let told = judged(true, RDKafkaErrorCode::GroupAuthorizationFailed).unwrap_err();
        assert!(told.contains("may not join") && told.contains("docs/operators.md"), "{told}");
        assert!(judged(false, RDKafkaErrorCode::GroupAuthorizationFailed).is_ok());
    }
}
