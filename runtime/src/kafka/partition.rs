//! One partition from an offset to its end, for those who read it by themselves: rebuilds, and comparisons with tables.
//!
//! No group is joined and nothing is committed. The end is an offset that was named, or that of committed transactions when
//! reading begins: where somebody writes all the time, there is no other.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::Received;
use super::admin::{Admin, AdminError};
use super::reader::{ReaderError, judge, received};
use crate::config::Kafka;

/// Chunks that wait for whoever reads.
const QUEUED_CHUNKS: usize = 2;
/// Most bytes of values in one chunk.
const CHUNK_BYTES: usize = 4 << 20;
/// How long the broker's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a question that is asked again and again.
const LOOK: Duration = Duration::from_secs(1);
/// What the client may have read ahead, in KiB. Each partition that is being read has so much.
const AHEAD_KIB: &str = "8192";

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Topic, with prefix.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset; 0 is the beginning, wherever that is by now.
    pub from: i64,
    /// The offset that isn't read any more; `None` is the end as it is when reading begins.
    pub until: Option<i64>,
    /// Most records in a chunk.
    pub chunk_records: usize,
}

/// What `poll` gives as an error isn't told in the log as well: a partition's end is one.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "Kafka's client reports");
    }
}

impl ConsumerContext for Quiet {}

/// Records in the order of their partition.
#[derive(Debug)]
pub struct Chunk {
    /// The records.
    pub records: Vec<Received>,
    /// Whether these are the last ones.
    pub is_end: bool,
}

/// A reader of one span. It ends when it is dropped.
#[derive(Debug)]
pub struct PartitionReader {
    chunks: mpsc::Receiver<Result<Chunk, ReaderError>>,
}

impl PartitionReader {
    /// Starts reading. `group` is only told to the broker as a name; nobody joins it.
    pub fn start(mut client: ClientConfig, group: &str, span: Span) -> Result<Self, ReaderError> {
        let create = |source| ReaderError::Create { group: group.to_owned(), source };
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "error")
            // At a partition's end an answer is waited for, and nobody else is served meanwhile.
            .set("fetch.wait.max.ms", "20")
            .set("fetch.message.max.bytes", "4194304")
            .set("queued.max.messages.kbytes", AHEAD_KIB)
            // Once that is full it would wait for a second, however soon there is room.
            .set("fetch.queue.backoff.ms", "5");
        let consumer: BaseConsumer<Quiet> = client.create_with_context(Quiet).map_err(create)?;
        let start = if span.from == 0 { Offset::Beginning } else { Offset::Offset(span.from) };
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&span.topic, span.partition, start).map_err(create)?;
        consumer.assign(&assignment).map_err(create)?;
        let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
        let thread = std::thread::Builder::new().name("kafka-partition".into());
        let name = group.to_owned();
        thread.spawn(move || pull(&consumer, &name, &span, &sender)).map_err(|error| ReaderError::Definite {
            group: group.to_owned(),
            problem: format!("no thread could be started: {error}"),
        })?;
        Ok(Self { chunks })
    }

    /// The next records; `None` after the last ones.
    pub async fn next(&mut self) -> Result<Option<Chunk>, ReaderError> {
        self.chunks.recv().await.transpose()
    }
}

/// First offset and the one after the last, by partition; of all records, those of transactions that are open among them.
pub async fn ends(kafka: &Kafka, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>, AdminError> {
    let partitions = Admin::new(kafka)?.topic_facts(topic).await?.partitions as i32;
    if partitions == 0 {
        return Err(AdminError::NoTopic { topic: topic.to_owned() });
    }
    let (mut client, name) = (super::client_config(kafka), topic.to_owned());
    let reading = move || {
        // Otherwise the end is that of the committed ones.
        let consumer: BaseConsumer = client.set("isolation.level", "read_uncommitted").create()?;
        let ends = |partition| consumer.fetch_watermarks(&name, partition, PATIENCE);
        (0..partitions).map(|partition| Ok((partition, ends(partition)?))).collect()
    };
    let read: KafkaResult<BTreeMap<_, _>> =
        tokio::task::spawn_blocking(reading).await.unwrap_or(Err(KafkaError::Canceled));
    read.map_err(|source| AdminError::Away { brokers: kafka.brokers.clone(), source })
}

/// The first offset of a partition whose record isn't older than this; the end if there is none. Blocks.
pub fn offset_at(client: &ClientConfig, topic: &str, partition: i32, at_ms: i64) -> KafkaResult<i64> {
    let consumer: BaseConsumer = client.create()?;
    let mut times = TopicPartitionList::new();
    times.add_partition_offset(topic, partition, Offset::Offset(at_ms))?;
    let found = consumer.offsets_for_times(times, PATIENCE)?;
    match found.find_partition(topic, partition).map(|part| part.offset()) {
        Some(Offset::Offset(offset)) => Ok(offset),
        _ => Ok(consumer.fetch_watermarks(topic, partition, PATIENCE)?.1),
    }
}

fn pull(consumer: &BaseConsumer<Quiet>, group: &str, span: &Span, sender: &mpsc::Sender<Result<Chunk, ReaderError>>) {
    let mut topic = span.topic.as_str().into();
    let until = match span.until {
        Some(until) => until,
        None => match consumer.fetch_watermarks(&span.topic, span.partition, PATIENCE) {
            Ok((_, end)) => end,
            Err(error) => {
                let problem = format!("the end of {}/{} can't be had: {error}", span.topic, span.partition);
                let _ = sender.blocking_send(Err(ReaderError::Definite { group: group.to_owned(), problem }));
                return;
            }
        },
    };
    let is_past = |offset: i64| offset >= until;
    let mut is_end = is_past(span.from);
    // The client tells of an end once: if it couldn't be asked just then what it is the end of, nobody else would ask again.
    let mut is_at_end = false;
    while !is_end && !sender.is_closed() {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while !is_end && records.len() < span.chunk_records && bytes < CHUNK_BYTES && !sender.is_closed() {
            match consumer.poll(Duration::from_millis(100)) {
                None if is_at_end => is_end = is_committed_up_to(consumer, span, until),
                None => {}
                Some(Ok(message)) if is_past(message.offset()) => is_end = true,
                Some(Ok(message)) => {
                    (is_end, is_at_end) = (is_past(message.offset() + 1), false);
                    bytes += message.payload_len() + message.key_len();
                    records.push(received(&message, &mut topic));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    (is_end, is_at_end) = (is_committed_up_to(consumer, span, until), true);
                }
                Some(Err(error)) => {
                    if let Err(problem) = judge(group, std::slice::from_ref(&span.topic), false, &error) {
                        let _ = sender.blocking_send(Err(ReaderError::Definite { group: group.to_owned(), problem }));
                        return;
                    }
                }
            }
        }
        if sender.blocking_send(Ok(Chunk { records, is_end })).is_err() {
            return;
        }
    }
}

/// Whether nothing before this offset is undecided; a transaction may be open there. Without an answer it may be.
fn is_committed_up_to(consumer: &BaseConsumer<Quiet>, span: &Span, until: i64) -> bool {
    consumer.fetch_watermarks(&span.topic, span.partition, LOOK).is_ok_and(|(_, committed)| committed >= until)
}
