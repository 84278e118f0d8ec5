//! A transactional producer on Kafka's own protocol.
//!
//! ```text
//!   append ──▶ gathered, per partition ──▶ record batches ──▶ Produce ──▶ leaders
//!                                                             EndTxn ──▶ coordinator of the transactional id
//! ```
//!
//! For one writer that puts few, well-filled transactions one after another, and that begins anew from what is committed
//! whenever anything fails. So nothing is tried twice here but what Kafka asks to ask again, and there is no queue, no
//! thread and no object a record: half of what a general client costs.
//!
//! *Guarantees*
//! - Everything that is appended between two commits becomes visible with the second, in the order of `append` within a
//!   partition, or not at all.
//! - Whoever takes over a transactional id has ended what an earlier producer left open, and none of that one's calls
//!   changes anything any more.
//!
//! *Failure.* After an error the producer is of no use: what it sent may or may not be there, uncommitted, or, if the error is
//! of `commit`, committed. The next producer of the same id settles it.
//!
//! *Protocol.* Idempotent batches (KIP-98) in transactions; of version 2 (KIP-890), where partitions join a transaction by
//! being written to and each transaction has an epoch of its own, if the cluster has that, else of version 1.

mod batch;
mod broker;
mod cluster;
mod compress;
mod error;
mod log_bytes;
mod sasl;
mod security;
mod sending;

use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{EndTxnRequest, InitProducerIdRequest, ProducerId, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use runtime::config::{Compression, Kafka};

pub use batch::Record;
pub use error::ProduceError;
pub use log_bytes::log_bytes;

use batch::Gathered;
use broker::Awaited;
use cluster::Cluster;
use compress::Compressor;
use sending::Unanswered;

/// From this level of the feature on, producing takes a partition into the transaction.
const IMPLICIT: i16 = 2;
const INIT_PRODUCER_ID: i16 = 5;
/// With and without transactions of version 2.
const END_TXN: [i16; 2] = [4, 5];
/// How long Kafka is asked again while it says that it is busy with the transactional id.
const BUSY: Duration = Duration::from_secs(10);
/// How often.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// How often at most it is asked for what takes a cluster in trouble longer: leaders to be elected, replicas to come back.
const ASK_PATIENTLY_EVERY: Duration = Duration::from_millis(500);
/// Gathered bytes that are sent.
const REQUEST_BYTES: usize = 1 << 20;
/// A batch of a partition is sent when it has so many bytes: topics bound batches as they do records.
const BATCH_BYTES: usize = 768 << 10;

/// What a producer is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Transactional id: who has it is alone.
    pub transactional_id: String,
    /// How long a transaction may stay open before Kafka aborts it.
    pub transaction_timeout: Duration,
    /// Topics that are written to. Calls name them by their place here.
    pub topics: Vec<String>,
    /// How batches are compressed.
    pub compression: Compression,
}

/// A producer; see the module.
pub struct Producer {
    transactional_id: TransactionalId,
    topics: Vec<Topic>,
    cluster: Cluster,
    compressor: Compressor,
    identity: Identity,
    is_implicit: bool,
    gathered_bytes: usize,
    unanswered: Unanswered,
    ending: Option<Ending>,
}

/// The end of a transaction, asked for and not answered yet.
struct Ending {
    request: EndTxnRequest,
    awaited: Awaited,
}

/// Who writes, in Kafka's eyes: an id, and how many have had it.
#[derive(Debug, Clone, Copy)]
struct Identity {
    id: i64,
    epoch: i16,
}

struct Topic {
    name: StrBytes,
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    gathered: Gathered,
    next_sequence: i32,
    /// It takes part in the open transaction.
    is_joined: bool,
    /// Offset of the last record that Kafka has, of this producer.
    last_offset: Option<i64>,
}

impl Producer {
    /// Takes the transactional id over: earlier producers of it are fenced and what they left open is aborted. Blocks.
    pub fn take_over(kafka: &Kafka, options: &Options) -> Result<Self, ProduceError> {
        let deadline = Instant::now() + BUSY;
        let mut patience = ASK_EVERY;
        loop {
            match Self::try_take_over(kafka, options.clone(), deadline) {
                // Coordinators move, and for a moment nobody is one. The first transaction of a cluster makes their topic.
                Err(error) if is_moving(&error) && Instant::now() < deadline => {
                    pause(patience);
                    patience = (patience * 2).min(ASK_PATIENTLY_EVERY);
                }
                outcome => return outcome,
            }
        }
    }

    fn try_take_over(kafka: &Kafka, options: Options, deadline: Instant) -> Result<Self, ProduceError> {
        let cluster = Cluster::find(kafka, &options.topics, &options.transactional_id)?;
        let topic = |(number, name): (usize, String)| Topic {
            name: StrBytes::from_string(name),
            partitions: (0..cluster.partitions(number)).map(|_| Partition::default()).collect(),
        };
        let mut producer = Self {
            transactional_id: TransactionalId(StrBytes::from_string(options.transactional_id)),
            topics: options.topics.into_iter().enumerate().map(topic).collect(),
            cluster,
            compressor: Compressor::new(options.compression).map_err(ProduceError::Compression)?,
            identity: Identity { id: -1, epoch: -1 },
            is_implicit: false,
            gathered_bytes: 0,
            unanswered: Unanswered::default(),
            ending: None,
        };
        producer.init(options.transaction_timeout, deadline)?;
        Ok(producer)
    }

    fn init(&mut self, timeout: Duration, deadline: Instant) -> Result<(), ProduceError> {
        let mut request = InitProducerIdRequest::default();
        request.transactional_id = Some(self.transactional_id.clone());
        request.transaction_timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        request.producer_id = ProducerId(-1);
        request.producer_epoch = -1;
        let coordinator = self.cluster.coordinator()?;
        let answer = loop {
            let answer = coordinator.call(&request, INIT_PRODUCER_ID)?;
            match ResponseError::try_from_code(answer.error_code) {
                None => break answer,
                Some(source) if is_busy(source) && Instant::now() < deadline => pause(ASK_EVERY),
                Some(source) => return Err(coordinator.refused("InitProducerId", source)),
            }
        };
        self.identity = Identity { id: answer.producer_id.0, epoch: answer.producer_epoch };
        self.is_implicit = coordinator.transaction_version() >= IMPLICIT;
        Ok(())
    }

    /// Adds a record to the open transaction, which the first one opens. Its partition is that of its key, unless given.
    /// Blocks while Kafka doesn't take more.
    pub fn append(&mut self, topic: usize, partition: Option<i32>, record: &Record<'_>) -> Result<(), ProduceError> {
        let partitions = self.cluster.partitions(topic);
        let number = partition.unwrap_or_else(|| schemas::partitioner::partition_of(record.key, partitions));
        let name = &self.topics[topic].name;
        let Some(partition) = self.topics[topic].partitions.get(number as usize) else {
            return Err(ProduceError::NoTopic(format!("partition {number} of topic {}", name.as_str())));
        };
        // A large record goes in a batch of its own: both may be as large as the topic allows.
        if partition.gathered.count() > 0 && partition.gathered.bytes() + record.bytes() > BATCH_BYTES {
            self.send_gathered()?;
        }
        let partition = &mut self.topics[topic].partitions[number as usize];
        let before = partition.gathered.bytes();
        partition.gathered.add(record);
        self.gathered_bytes += partition.gathered.bytes() - before;
        if self.gathered_bytes >= REQUEST_BYTES || partition.gathered.bytes() >= BATCH_BYTES {
            self.send_gathered()?;
        }
        Ok(())
    }

    /// Waits until Kafka has everything that was appended.
    pub fn flush(&mut self) -> Result<(), ProduceError> {
        self.send_gathered()?;
        self.await_all()
    }

    /// Commits what was appended; nothing happens if that is nothing. Afterwards it can't be undone any more, and readers of
    /// committed records see it as soon as Kafka has written its markers.
    pub fn commit(&mut self) -> Result<(), ProduceError> {
        self.start_commit()?;
        self.finish_commit()
    }

    /// Waits until Kafka has everything that was appended and asks for the commit. Nothing may be appended before
    /// [`Self::finish_commit`].
    pub fn start_commit(&mut self) -> Result<(), ProduceError> {
        self.flush()?;
        self.start_end(true)
    }

    /// Waits for the answer to [`Self::start_commit`], which may be followed by other work meanwhile.
    pub fn finish_commit(&mut self) -> Result<(), ProduceError> {
        self.finish_end()
    }

    /// Gives up what was appended, as far as Kafka still listens; also after a refusal.
    pub fn abort(mut self) -> Result<(), ProduceError> {
        self.discard_answers()?;
        self.start_end(false)?;
        self.finish_end()
    }

    /// The last offset that Kafka gave a record of this producer, by topic and partition.
    pub fn last_offsets(&self) -> impl Iterator<Item = (usize, i32, i64)> {
        self.topics.iter().enumerate().flat_map(|(topic, of_topic)| {
            let ends = of_topic.partitions.iter().enumerate();
            ends.filter_map(move |(number, partition)| Some((topic, number as i32, partition.last_offset?)))
        })
    }

    fn start_end(&mut self, is_committed: bool) -> Result<(), ProduceError> {
        if !self.topics.iter().flat_map(|topic| &topic.partitions).any(|partition| partition.is_joined) {
            return Ok(());
        }
        let mut request = EndTxnRequest::default();
        request.transactional_id = self.transactional_id.clone();
        request.producer_id = ProducerId(self.identity.id);
        request.producer_epoch = self.identity.epoch;
        request.committed = is_committed;
        let awaited = self.cluster.coordinator()?.send(&request, END_TXN[usize::from(self.is_implicit)])?;
        self.ending = Some(Ending { request, awaited });
        Ok(())
    }

    fn finish_end(&mut self) -> Result<(), ProduceError> {
        let Some(Ending { request, mut awaited }) = self.ending.take() else { return Ok(()) };
        let deadline = Instant::now() + BUSY;
        let coordinator = self.cluster.coordinator()?;
        let answer = loop {
            let answer = coordinator.receive::<EndTxnRequest>(awaited)?;
            match ResponseError::try_from_code(answer.error_code) {
                None => break answer,
                Some(source) if is_busy(source) && Instant::now() < deadline => pause(ASK_EVERY),
                Some(source) => return Err(coordinator.refused("EndTxn", source)),
            }
            awaited = coordinator.send(&request, END_TXN[usize::from(self.is_implicit)])?;
        };
        let has_new_epoch = self.is_implicit && answer.producer_id.0 >= 0;
        if has_new_epoch {
            self.identity = Identity { id: answer.producer_id.0, epoch: answer.producer_epoch };
        }
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            partition.is_joined = false;
            if has_new_epoch {
                partition.next_sequence = 0;
            }
        }
        Ok(())
    }
}

/// Whether Kafka is still at work for the transactional id and wants to be asked again.
const fn is_busy(error: ResponseError) -> bool {
    matches!(error, ResponseError::ConcurrentTransactions | ResponseError::CoordinatorLoadInProgress)
}

/// Whether the broker that was asked isn't the coordinator any more, or not yet.
const fn is_moving(error: &ProduceError) -> bool {
    matches!(
        error.refusal(),
        Some(
            ResponseError::NotCoordinator
                | ResponseError::CoordinatorNotAvailable
                | ResponseError::CoordinatorLoadInProgress
        )
    )
}

/// Before Kafka is asked again.
#[expect(clippy::disallowed_methods, reason = "who publishes has a thread to itself, and each loop has a deadline")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
