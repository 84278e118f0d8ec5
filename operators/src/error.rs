//! What ends the operators, and what only delays them.

use rdkafka::error::KafkaError;
pub(crate) use runtime::chain;
use runtime::kafka::ReaderError;
use runtime::kafka::admin::AdminError;
use schemas::FrameError;
use schemas::registry::RegistryError;

/// What the operators can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is in the changelog is about another log, so its offsets mean nothing here.
    #[error(
        "{topic}, partition {partition}, was written from the log {recorded} (cluster/topic id), and chat.events is {found} \
         now. Point `kafka.brokers` at the former one; if it is gone for good, make the rows anew: docs/operators.md, \"Rows of \
         stream operators, made anew\""
    )]
    OtherLog {
        /// Changelog, with prefix.
        topic: String,
        /// Partition.
        partition: i32,
        /// Log in the changelog.
        recorded: String,
        /// Log that is there.
        found: String,
    },
    /// Rows of a chat wouldn't be in the partition that its events are in.
    #[error(
        "topic {topic} has {found} partitions, and chat.events has {wanted}: they must be equal. Delete {topic} while no \
         operator runs, set kafka.partitions = {wanted}, and run `waltalkie migrate`"
    )]
    Partitions {
        /// Topic, with prefix.
        topic: String,
        /// Its partitions.
        found: usize,
        /// Those of `chat.events`.
        wanted: usize,
    },
    /// A record of the changelog is none of ours.
    #[error(
        "{topic}, partition {partition}: the record with the key {key:?} can't be used. If a later version wrote it, run that \
         one; otherwise make the rows anew: docs/operators.md, \"Rows of stream operators, made anew\""
    )]
    State {
        /// Changelog, with prefix.
        topic: String,
        /// Partition.
        partition: i32,
        /// Key of the record.
        key: String,
        /// What is wrong with it.
        #[source]
        source: Option<FrameError>,
    },
    /// A schema has to be asked of the registry, and it is away.
    #[error("a schema can't be had")]
    Schema(#[source] FrameError),
    /// A row doesn't fit its schema: a bug.
    #[error("a row can't be written")]
    Encoding(#[source] FrameError),
    /// Kafka refused or didn't answer.
    #[error("{step} failed for partition {partition}")]
    Kafka {
        /// What was tried.
        step: &'static str,
        /// Partition of `chat.events`.
        partition: i32,
        /// What Kafka's client says.
        #[source]
        source: KafkaError,
    },
    /// A thread ended without an answer.
    #[error("a step for partition {partition} broke off")]
    BrokeOff {
        /// Partition.
        partition: i32,
    },
    /// The topics can't be read.
    #[error(transparent)]
    Reader(#[from] ReaderError),
    /// Kafka can't be asked.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The registry can't be asked.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A schema isn't in the registry.
    #[error("the registry doesn't know our schema of {record}; `waltalkie schemas register` registers it")]
    Unregistered {
        /// Record.
        record: &'static str,
    },
    /// The reader ended without a reason.
    #[error("reading of {0} ended by itself")]
    Ended(String),
    /// A test said so.
    #[error("stopped by a fault test")]
    Died,
}

impl Error {
    /// A step of a partition's producer.
    pub(crate) fn kafka(step: &'static str, partition: i32) -> impl FnOnce(KafkaError) -> Self {
        move |source| Self::Kafka { step, partition, source }
    }

    /// Whether trying again can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Admin(AdminError::Away { .. } | AdminError::NoTopic { .. })
            | Self::Kafka { .. }
            | Self::BrokeOff { .. }
            | Self::Unregistered { .. } => true,
            Self::Registry(source) => source.is_transient(),
            Self::Schema(source) => source.is_transient(),
            _ => false,
        }
    }
}
