//! A client's context without words.

use rdkafka::client::ClientContext;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

/// Takes the client's reports without a word. For consumers that read partitions to their ends: reaching an end is
/// reported as an error too.
pub struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}
