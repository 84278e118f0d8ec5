//! What a record is put aside with: why, and where it was.

use rdkafka::message::{Header, OwnedHeaders};

use super::Received;

/// The headers of a dead letter: `reason`, `source_topic`, `source_partition`, `source_offset`, and `consumer`, who put it aside.
pub fn headers(received: &Received, consumer: &str, reason: &str) -> OwnedHeaders {
    OwnedHeaders::new()
        .insert(Header { key: "reason", value: Some(reason) })
        .insert(Header { key: "source_topic", value: Some(&*received.topic) })
        .insert(Header { key: "source_partition", value: Some(&received.partition.to_string()) })
        .insert(Header { key: "source_offset", value: Some(&received.offset.to_string()) })
        .insert(Header { key: "consumer", value: Some(consumer) })
}
