//! What Kafka says of itself and of the topics that are published to.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use schemas::PartitionEnd;

use crate::error::Error;
use crate::librdkafka::topic_ids;
use crate::position::{Looker, visit};
use crate::record::Topics;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What Kafka says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KafkaFacts {
    /// The cluster's identity.
    pub(crate) cluster_id: String,
    /// Ids of the topics by name.
    pub(crate) topic_ids: BTreeMap<String, String>,
    /// End of each partition that a stored position speaks of.
    pub(crate) ends: BTreeMap<(String, i32), i64>,
}

/// The cluster's identity and the ids of the topics; blocks. The ends are left empty.
pub(crate) fn kafka_facts(consumer: &Looker, topics: &Topics) -> Result<KafkaFacts, Error> {
    let cluster_id = consumer
        .client()
        .fetch_cluster_id(PATIENCE)
        .ok_or(KafkaError::Canceled)
        .map_err(Error::kafka("the cluster doesn't say who it is"))?;
    let topic_ids = topic_ids(consumer.client(), &[&topics.events, &topics.users]);
    Ok(KafkaFacts { cluster_id, topic_ids, ends: BTreeMap::new() })
}

/// The present ends of the partitions that a position speaks of; blocks.
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

/// Whether the history holds no committed record; blocks.
pub(crate) fn is_log_empty(consumer: &Looker, topics: &Topics) -> Result<bool, Error> {
    let metadata = consumer
        .fetch_metadata(Some(&topics.events), PATIENCE)
        .map_err(Error::kafka(format!("reading the partitions of {}", topics.events)))?;
    let partitions: Vec<(&str, i32)> = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions().iter().map(|partition| (topics.events.as_str(), partition.id())))
        .collect();
    let mut is_empty = true;
    visit(consumer, &partitions, Offset::Beginning, |_| {
        is_empty = false;
        false
    })?;
    Ok(is_empty)
}
