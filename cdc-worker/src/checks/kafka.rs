//! What Kafka says of itself and of the topics that are published to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use runtime::kafka::topic_ids;
use schemas::{FrameError, PartitionEnd, TopicShape};

use super::{Head, PublishedChange};
use crate::error::Error;
use crate::position::{Looker, visit};
use crate::record::Topics;
use crate::transaction::Place;

/// Offsets before the end of a partition among which its last record is looked for; markers take every other one.
const LAST_OFFSETS: i64 = 100;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long transactions of fenced producers may take to be decided: longer than their timeout, shorter than a takeover.
const DECIDED_WITHIN: Duration = Duration::from_secs(15);
/// Between two looks at one that isn't.
const DECIDED_POLL: Duration = Duration::from_millis(50);

/// Records that Kafka will never decide by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undecided {
    topic: String,
    partition: i32,
    /// Readers of committed records stop here.
    decided: i64,
    /// Written up to here.
    written: i64,
}

impl fmt::Display for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, decided, written } = self;
        write!(
            f,
            "{topic}/{partition} holds records from offset {decided} to {written} whose transaction was neither committed nor \
             aborted, though its producer is gone: Kafka lost the transaction's marker, and readers of committed records \
             stop there. Kafka's own `kafka-transactions.sh find-hanging` shows it; docs/operators.md, \"When the worker \
             refuses\", says when its `abort` is right"
        )
    }
}

/// What Kafka says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KafkaFacts {
    /// The cluster's identity.
    pub(crate) cluster_id: String,
    /// Ids of the topics by name.
    pub(crate) topic_ids: BTreeMap<String, String>,
    /// Numbers of partitions of the topics.
    pub(crate) topics: Vec<TopicShape>,
    /// The last event of each partition of the history that has one.
    pub(crate) last_events: Vec<LastEvent>,
    /// The last change of each partition of the profiles that has one.
    pub(crate) last_changes: Vec<PublishedChange>,
    /// End of each partition that a stored position speaks of.
    pub(crate) ends: BTreeMap<(String, i32), i64>,
}

/// The last event of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastEvent {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Where it came from.
    pub(crate) place: Place,
    pub(crate) chat_id: String,
    /// What its row must be: it is its chat's last event too.
    pub(crate) head: Head,
}

/// What the partitions of the history and of the profiles end with.
pub(crate) struct LastRecords {
    pub(crate) events: Vec<Raw>,
    pub(crate) changes: Vec<PublishedChange>,
}

/// A record as it lies in its partition.
pub(crate) struct Raw {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// The record's own, when the event occurred.
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) value: Vec<u8>,
}

/// Waits until every transaction on the topics is decided, for so long at most; blocks. `Some` says where one isn't.
pub(crate) fn open_transaction(
    consumer: &Looker,
    all: &Looker,
    topics: &Topics,
    within: Duration,
) -> Result<Option<Undecided>, Error> {
    let began = Instant::now();
    for topic in [&topics.events, &topics.users, &topics.positions] {
        for partition in partitions_of(consumer, topic)? {
            let written = end_of(all, topic, partition)?;
            loop {
                let decided = end_of(consumer, topic, partition)?;
                if decided >= written {
                    break;
                }
                if began.elapsed() > within {
                    return Ok(Some(Undecided { topic: topic.clone(), partition, decided, written }));
                }
                // Nothing is assigned: this waits, and serves the client meanwhile.
                let _ = consumer.poll(DECIDED_POLL);
            }
        }
    }
    Ok(None)
}

/// Waits for the transactions of fenced producers.
///
/// Called after taking over the transactional ids, when no producer can have one open: what stays undecided then was
/// forgotten by Kafka's coordinator. The next transaction on such a partition would decide its records, the same ones a
/// second time among them, so nothing may be published.
pub(crate) fn undecided(consumer: &Looker, all: &Looker, topics: &Topics) -> Result<Option<Undecided>, Error> {
    open_transaction(consumer, all, topics, DECIDED_WITHIN)
}

/// The end of a partition; for a consumer of committed records, the end of what is decided. Blocks.
pub(crate) fn end_of(consumer: &Looker, topic: &str, partition: i32) -> Result<i64, Error> {
    let ends = consumer.fetch_watermarks(topic, partition, PATIENCE);
    Ok(ends.map_err(Error::kafka(format!("reading the end of {topic}/{partition}")))?.1)
}

/// The partitions of a topic, as `visit` takes them; blocks.
pub(crate) fn partitions<'a>(consumer: &Looker, topic: &'a str) -> Result<Vec<(&'a str, i32)>, Error> {
    Ok(partitions_of(consumer, topic)?.into_iter().map(|id| (topic, id)).collect())
}

/// The numbers of a topic's partitions; blocks.
pub(crate) fn partitions_of(consumer: &Looker, topic: &str) -> Result<Vec<i32>, Error> {
    let metadata = consumer
        .fetch_metadata(Some(topic), PATIENCE)
        .map_err(Error::kafka(format!("reading the partitions of {topic}")))?;
    Ok(metadata.topics().iter().flat_map(MetadataTopic::partitions).map(MetadataPartition::id).collect())
}

/// The cluster's identity, and ids and shapes of the topics; blocks. Ends and last records are left empty.
pub(crate) fn kafka_facts(consumer: &Looker, topics: &Topics) -> Result<KafkaFacts, Error> {
    let cluster_id = consumer
        .client()
        .fetch_cluster_id(PATIENCE)
        .ok_or(KafkaError::Canceled)
        .map_err(Error::kafka("the cluster doesn't say who it is"))?;
    let topic_ids = topic_ids(consumer.client(), &[&topics.events, &topics.users])
        .ok_or(KafkaError::Canceled)
        .map_err(Error::kafka("the cluster doesn't describe its topics"))?;
    let shape = |topic: &String| {
        match partitions_of(consumer, topic)?.len() as i32 {
            // A broker that doesn't know of a new topic yet.
            0 => Err(Error::kafka(format!("topic {topic} has no partitions yet"))(KafkaError::Canceled)),
            partition_count => {
                let topic_uuid = topic_ids.get(topic).cloned().unwrap_or_default();
                Ok(TopicShape { topic_name: topic.clone(), topic_uuid, partition_count })
            }
        }
    };
    let topics = [&topics.events, &topics.users].into_iter().map(shape).collect::<Result<_, _>>()?;
    let (last_events, last_changes) = (Vec::new(), Vec::new());
    Ok(KafkaFacts { cluster_id, topic_ids, topics, last_events, last_changes, ends: BTreeMap::new() })
}

/// The last committed record of each partition of the history and of the profiles that has one; blocks.
///
/// A compacted topic keeps it too, unless it took a person away and is older than tombstones are kept.
pub(crate) fn last_records(consumer: &Looker, topics: &Topics) -> Result<LastRecords, Error> {
    let mut both = partitions(consumer, &topics.events)?;
    both.extend(partitions(consumer, &topics.users)?);
    let (mut events, mut changes) = (BTreeMap::new(), BTreeMap::new());
    visit(consumer, &both, Offset::OffsetTail(LAST_OFFSETS), |message| {
        let (partition, offset) = (message.partition(), message.offset());
        if message.topic() == topics.users {
            changes.insert(partition, PublishedChange::of(message));
        } else if let Some(value) = message.payload() {
            let timestamp_ms = message.timestamp().to_millis();
            events.insert(partition, Raw { partition, offset, timestamp_ms, value: value.to_vec() });
        }
        true
    })?;
    // Somebody else's record says nothing of the tables.
    Ok(LastRecords { events: events.into_values().collect(), changes: changes.into_values().flatten().collect() })
}

/// The present ends of the partitions that a position speaks of, for a consumer of all records: a reader of committed
/// ones sees the position of a transaction before the end of the one before it. Blocks.
pub(crate) fn ends_of(consumer: &Looker, partitions: &[PartitionEnd]) -> Result<BTreeMap<(String, i32), i64>, Error> {
    let mut ends = BTreeMap::new();
    for end in partitions {
        let (_, high) = consumer
            .fetch_watermarks(&end.topic_name, end.partition_number, PATIENCE)
            .map_err(Error::kafka(format!("reading the end of {}/{}", end.topic_name, end.partition_number)))?;
        ends.insert((end.topic_name.clone(), end.partition_number), high);
    }
    Ok(ends)
}

/// The present end of every partition of the topics that events are published to, as a position records it; blocks.
pub(crate) fn present_ends(consumer: &Looker, topics: &Topics, facts: &KafkaFacts) -> Result<Vec<PartitionEnd>, Error> {
    let mut ends = Vec::new();
    for topic in [&topics.events, &topics.users] {
        for partition_number in partitions_of(consumer, topic)? {
            let (_, high) = consumer
                .fetch_watermarks(topic, partition_number, PATIENCE)
                .map_err(Error::kafka(format!("reading the end of {topic}/{partition_number}")))?;
            if high > 0 {
                ends.push(PartitionEnd {
                    topic_name: topic.clone(),
                    topic_uuid: facts.topic_ids.get(topic).cloned().unwrap_or_default(),
                    partition_number,
                    last_offset: high - 1,
                });
            }
        }
    }
    Ok(ends)
}

/// Whether the history holds no committed record; blocks.
pub(crate) fn is_log_empty(consumer: &Looker, topics: &Topics) -> Result<bool, Error> {
    let partitions = partitions(consumer, &topics.events)?;
    let mut is_empty = true;
    visit(consumer, &partitions, Offset::Beginning, |_| {
        is_empty = false;
        false
    })?;
    Ok(is_empty)
}

/// A record of our topics that can't be read. The registry away is waited for.
pub(crate) fn unreadable(slot: &str, place: &str, error: FrameError) -> Error {
    if error.is_transient() {
        return error.into();
    }
    let why = runtime::chain(&error);
    let reason = if matches!(error, FrameError::Framing { .. }) {
        format!(
            "{place} is none of ours: {why}. Somebody else writes to the topic; docs/operators.md, \"Kafka\", has the ACLs that \
             keep others out"
        )
    } else {
        format!(
            "{place} can't be read: {why}. Each record names its schema by the id that the registry gave it: a registry that was \
             made anew, or is another one, doesn't know the id or gives it to another schema. Restore the registry's storage \
             from its backup, or point registry.url at the former one; docs/operators.md, \"When the worker refuses\""
        )
    };
    Error::Refused { slot: slot.to_owned(), reason }
}
