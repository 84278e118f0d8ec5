//! What stops the worker, and whether starting over can help.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use runtime::postgres::{self, PostgresError};

use crate::mapping::MapError;
use crate::pgoutput::DecodeError;
use crate::producer::ProduceError;
use crate::replication::ReplicationError;
use crate::transaction::OrderError;

const FORBIDDEN: &str = ": this login may not do that; docs/operators.md, \"Kafka\", has the ACLs that it needs";

/// What the worker can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The replication connection.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    /// A connection for queries.
    #[error(transparent)]
    Connect(#[from] PostgresError),
    /// A query.
    #[error("Postgres: {what}")]
    Query {
        /// What was tried.
        what: &'static str,
        /// What Postgres says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server's settings couldn't be read.
    #[error(transparent)]
    Server(#[from] migrations::MigrateError),
    /// Kafka.
    #[error("Kafka: {what}{}", if is_forbidden(source) { FORBIDDEN } else { "" })]
    Kafka {
        /// What was tried.
        what: String,
        /// What the client says.
        #[source]
        source: KafkaError,
    },
    /// The producer.
    #[error("Kafka: {what}{}", if source.is_forbidden() { FORBIDDEN } else { "" })]
    Publish {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: ProduceError,
    },
    /// A record that Kafka doesn't take, or a batch of records.
    #[error(
        "Kafka takes no record of {bytes} bytes for key {key} in {topic}, or no batch of that size: raise \
         max.message.bytes of the topic, to 1048588 at least"
    )]
    TooLarge {
        /// Topic.
        topic: String,
        /// Key.
        key: String,
        /// Size before compression.
        bytes: usize,
    },
    /// A schema isn't to be had.
    #[error(
        "the schema of {record} isn't to be had. If it was never registered, `waltalkie schemas register` does that; if the \
         registry has lost it, restore the registry's storage, since its ids are in every record"
    )]
    Schema {
        /// Record.
        record: &'static str,
        /// What the registry says.
        #[source]
        source: schemas::registry::RegistryError,
    },
    /// The registry's address.
    #[error(transparent)]
    Registry(#[from] schemas::registry::RegistryError),
    /// A record that can't be encoded or decoded.
    #[error(transparent)]
    Frame(#[from] schemas::FrameError),
    /// Bytes that aren't the plugin's.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A stream out of order.
    #[error("the stream of slot {slot} is out of order")]
    Order {
        /// Slot.
        slot: String,
        /// How.
        #[source]
        source: OrderError,
    },
    /// A row that can't be mapped.
    #[error("{row}, of the transaction that commits at {commit_lsn}, can't be published")]
    Row {
        /// Which, and the way past it, as far as its key can be read.
        row: String,
        /// LSN of the commit record.
        commit_lsn: crate::Lsn,
        /// Why.
        #[source]
        source: MapError,
    },
    /// Something arrived that the publication must not publish.
    #[error(
        "{what} of table {table} arrived: publication {publication} was changed by somebody and must publish inserts \
         only. Put it back with ALTER PUBLICATION, then run `waltalkie cdc resnapshot`, which makes the slot begin after this. Rows \
         of the event tables must never be changed in what they published"
    )]
    NotAnInsert {
        /// Kind of change.
        what: &'static str,
        /// Table.
        table: String,
        /// Publication.
        publication: String,
    },
    /// Starting would lose or repeat something.
    #[error("slot {slot}: not started: {reason}")]
    Refused {
        /// Slot.
        slot: String,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// Going on would leave something out.
    #[error("slot {slot}: stopped: {reason}")]
    Unfit {
        /// Slot.
        slot: String,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// A hand-over can't go on.
    #[error("slot {slot}: not handed over: {reason}")]
    Handover {
        /// Slot.
        slot: String,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// The history can't be completed from the tables, or not now.
    #[error(transparent)]
    Resnapshot(#[from] crate::resnapshot::Fault),
    /// A row isn't given up.
    #[error("{chat_id}/{seq} isn't withheld: {reason}")]
    NotWithheld {
        /// Chat.
        chat_id: String,
        /// Its seq.
        seq: i64,
        /// Why.
        reason: String,
    },
    /// The tables may only seem to be older than the history.
    #[error(
        "the last that was published of {place} isn't to be seen in the tables yet, and a transaction of before is still open: \
         waiting for it. pg_stat_activity has the oldest xact_start; one that waits for a standby has the wait event SyncRep"
    )]
    Unseen {
        /// Chat or person.
        place: String,
    },
    /// The server doesn't answer for the lease.
    #[error("Postgres doesn't answer for the lease in table cdc_lease")]
    LeaseSilent,
    /// Starting took too long.
    #[error("starting to stream took too long: Kafka, Postgres or the registry is slow to answer")]
    SlowStart,
    /// The thread that publishes has ended.
    #[error("the publisher's thread ended without a word")]
    PublisherGone,
    /// There is no thread to be had, or it panicked.
    #[error("the worker needs a thread of its own")]
    Thread(#[source] std::io::Error),
}

impl Error {
    /// Whether starting over can help. The rest needs somebody.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Replication(error) => error.is_transient(),
            Self::Connect(PostgresError::Connect { source, .. })
            | Self::Query { source, .. }
            | Self::Server(migrations::MigrateError::Statement { source, .. }) => postgres::is_transient(source),
            Self::Kafka { source, .. } => !is_forbidden(source),
            Self::Publish { source, .. } => source.is_transient(),
            Self::Registry(source) | Self::Schema { source, .. } => source.is_transient(),
            Self::Frame(error) => error.is_transient(),
            Self::Resnapshot(fault) => fault.is_transient(),
            Self::PublisherGone | Self::Thread(_) | Self::Unseen { .. } | Self::LeaseSilent | Self::SlowStart => true,
            Self::Server(_)
            | Self::Connect(_)
            | Self::TooLarge { .. }
            | Self::Decode(_)
            | Self::Order { .. }
            | Self::Row { .. }
            | Self::NotWithheld { .. }
            | Self::NotAnInsert { .. }
            | Self::Refused { .. }
            | Self::Unfit { .. }
            | Self::Handover { .. } => false,
        }
    }

    /// For `map_err` on a query.
    pub(crate) fn query(what: &'static str) -> impl Fn(tokio_postgres::Error) -> Self {
        move |source| Self::Query { what, source }
    }

    /// For `map_err` on a call to Kafka.
    pub(crate) fn kafka(what: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let what = what.into();
        move |source| Self::Kafka { what, source }
    }

    /// The error and what lies under it, in one line.
    pub fn chain(&self) -> String {
        runtime::chain(self)
    }
}

/// Whether Kafka says that this login may not do what was asked.
fn is_forbidden(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
        )
    )
}
