//! Kafka: client settings, topics, and the reader that hands out records in batches from offsets kept elsewhere.

pub mod admin;
pub mod dead_letter;
mod flush;
pub mod partition;
mod quiet;
pub mod reader;
mod topic_ids;
pub mod topic_settings;

use rdkafka::ClientConfig;

use crate::config::Kafka;

pub use flush::flush;
pub use quiet::Quiet;
pub use reader::{Assignment, Batch, OffsetStore, Reader, ReaderError, Received, Start};
pub use topic_ids::topic_ids;

/// Settings that every client of the configured cluster shares.
pub fn client_config(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", "waltalkie")
        .set("security.protocol", &kafka.security_protocol)
        // A broker that restarts is back within a second or two; waiting longer would only add to the gap.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.keepalive.enable", "true")
        .set("log.connection.close", "false");
    if kafka.security_protocol.starts_with("sasl") {
        config
            .set("sasl.mechanisms", &kafka.sasl_mechanism)
            .set("sasl.username", &kafka.sasl_username)
            .set("sasl.password", kafka.sasl_password.expose());
    }
    if !kafka.ca_file.is_empty() {
        config.set("ssl.ca.location", &kafka.ca_file);
    }
    config
}

/// Settings of a producer that never loses or repeats what it was told is written: idempotent, acks=all, and the same
/// partition for a key as Java's default partitioner has.
pub fn producer_config(kafka: &Kafka) -> ClientConfig {
    let mut config = client_config(kafka);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("delivery.timeout.ms", kafka.delivery_timeout_ms.to_string())
        // Idle, a record goes at once; under load, batches form while earlier ones are under way.
        .set("linger.ms", "0")
        .set("compression.type", "lz4")
        .set("queue.buffering.max.messages", "100000");
    config
}
