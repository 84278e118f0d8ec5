//! What a topic takes on disk, for whoever measures.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::{DescribeLogDirsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use runtime::config::Kafka;

use super::cluster::{Cluster, NodeId};
use super::error::ProduceError;

const DESCRIBE_LOG_DIRS: i16 = 4;

/// Bytes of a topic's log, one copy of each partition, transactions' markers included; indexes aren't. Blocks.
pub fn log_bytes(kafka: &Kafka, topic: &str) -> Result<u64, ProduceError> {
    let mut cluster = Cluster::find(kafka, &[topic.to_owned()], "waltalkie-log-bytes")?;
    let mut led: BTreeMap<NodeId, Vec<i32>> = BTreeMap::new();
    for partition in 0..cluster.partitions(0) {
        led.entry(cluster.leader(0, partition)).or_default().push(partition);
    }
    let mut bytes = 0;
    for (node, partitions) in led {
        let mut asked = DescribableLogDirTopic::default();
        asked.topic = TopicName(StrBytes::from_string(topic.to_owned()));
        asked.partitions = partitions;
        let mut request = DescribeLogDirsRequest::default();
        request.topics = Some(vec![asked]);
        let broker = cluster.broker(node)?;
        let answer = broker.call(&request, DESCRIBE_LOG_DIRS)?;
        for folder in answer.results {
            if let Some(source) = ResponseError::try_from_code(folder.error_code) {
                return Err(broker.refused(format!("DescribeLogDirs of {topic}"), source));
            }
            let partitions = folder.topics.into_iter().flat_map(|topic| topic.partitions);
            bytes += partitions.map(|partition| partition.partition_size.max(0) as u64).sum::<u64>();
        }
    }
    Ok(bytes)
}
