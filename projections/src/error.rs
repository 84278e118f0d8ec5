//! What ends a projection, and what only delays it.

use deadpool_postgres::PoolError;
use rdkafka::error::KafkaError;
pub(crate) use runtime::chain;
use runtime::kafka::ReaderError;
use runtime::kafka::admin::AdminError;
use runtime::postgres::{self, PostgresError};
use runtime::s3::S3Error;
use schemas::registry::RegistryError;

use crate::cursor::CursorProjection;
use crate::cursor_writer::PublishError;
use crate::projection::Projection;

/// What a projection or the janitor can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A record of one of our schemas that can't be read or makes no sense. A read model has no gaps, so nothing goes past it.
    #[error(
        "projection {projection} stopped: the record in {topic}, partition {partition}, offset {offset} can't be used. \
         Nothing was skipped; it goes on from there once this program can read the record"
    )]
    Poison {
        /// Projection.
        projection: &'static str,
        /// Topic, with prefix.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is no event can't be put aside.
    #[error("a record that is no event can't be put into chat.events.dlq; `waltalkie migrate` makes the topic")]
    DeadLetter(#[source] KafkaError),
    /// The offsets are of another cluster or of a topic that was made anew, so they mean nothing here.
    #[error(
        "projection {projection} has offsets of the log {recorded} (cluster/topic id), but `kafka.brokers` has {found}. \
         Point `kafka.brokers` at the former one; if it is gone for good, {}",
        way_to_another_log(.projection)
    )]
    OtherLog {
        /// Projection.
        projection: &'static str,
        /// Log in the table.
        recorded: String,
        /// Log that is there.
        found: String,
    },
    /// A projection that isn't there.
    #[error("there is no projection {name}; there are {known}")]
    UnknownProjection {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The rows were made by another version of the projection.
    #[error(
        "projection {projection} has rows of version {found}, and this program has version {wanted}: \
         `waltalkie rebuild {projection}` makes them again, while the old ones are read"
    )]
    OtherVersion {
        /// Projection.
        projection: &'static str,
        /// Version in the table.
        found: u32,
        /// Version of this program.
        wanted: u32,
    },
    /// Somebody else rebuilds the same projection, or has its tables in hand.
    #[error("projection {projection} is being rebuilt by another process; one at a time")]
    RebuiltElsewhere {
        /// Projection.
        projection: &'static str,
    },
    /// The topics lack rows that only the live table has by now.
    #[error(
        "projection {projection} isn't swapped in: {rows} rows of its table {table} can't be made from the topics any more, \
         and are nowhere else. Is `kafka.brokers` another cluster, or was a topic made anew? docs/operators.md, \"Cursors when \
         Kafka is another one\", says how to keep them; `--lose-rows` gives them up"
    )]
    WouldLose {
        /// Projection.
        projection: &'static str,
        /// Table.
        table: &'static str,
        /// Rows that would be gone.
        rows: i64,
    },
    /// It was told to stop.
    #[error("stopped; a rebuild goes on from here when it is asked for again, a comparison begins anew")]
    Stopped,
    /// The live tables were in use each time that they were to be swapped.
    #[error(
        "projection {projection} is rebuilt, and its tables couldn't be swapped in: somebody reads or locks the live ones \
         all the time. Run it again, and it goes on from there; pg_stat_activity tells who it is"
    )]
    Busy {
        /// Projection.
        projection: &'static str,
    },
    /// Something hangs on the live tables that wouldn't come along.
    #[error("projection {projection} can't be rebuilt: {obstacle}. Remove that first, and make it again afterwards")]
    Obstacle {
        /// Projection.
        projection: &'static str,
        /// What is in the way.
        obstacle: String,
    },
    /// A schema has the name that a rebuild needs.
    #[error("the read database has a schema {schema} that no rebuild made; rename or remove it")]
    ForeignSchema {
        /// Schema.
        schema: String,
    },
    /// Compacted topics have no past.
    #[error(
        "projection {projection} can't be had as of a time: its cursors come from a compacted topic, which keeps the \
         newest of each only. Those that read chat.events alone can"
    )]
    NoPast {
        /// Projection.
        projection: &'static str,
    },
    /// Records of a schema that isn't known can't be read while the registry is away, or doesn't know it either.
    #[error("a rebuild can't go on without a schema: {0}. Run it again, and it goes on from where it was")]
    Waits(String),
    /// A statement failed.
    #[error("{what} in Postgres failed")]
    Database {
        /// What was tried.
        what: &'static str,
        /// What Postgres says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The store of files.
    #[error("removing files")]
    Store(#[source] S3Error),
    /// No connection to be had.
    #[error("no connection to the database")]
    Pool(#[from] PoolError),
    /// The configured database can't be used.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
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
    /// What has to be in Kafka before the rows are in Postgres isn't.
    #[error("merged cursors could not be published")]
    Publish(#[from] PublishError),
    /// The reader ended without a reason.
    #[error("reading of {0} ended by itself")]
    Ended(String),
    /// A bug.
    #[error("a projection's loop panicked: {0}")]
    Panicked(String),
}

/// Cursors are the one read model whose rows may be in no log any more.
fn way_to_another_log(projection: &str) -> String {
    if projection == CursorProjection::NAME {
        return "docs/operators.md, \"Cursors when Kafka is another one\", says how to keep them: a rebuild makes them from \
                chat.cursors, and what that lacks is in the table alone"
            .to_owned();
    }
    format!("`waltalkie rebuild {projection}` makes the tables again from this log's history")
}

impl Error {
    /// A failed statement.
    pub(crate) fn database(what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Database { what, source }
    }

    /// Whether trying again can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database { source, .. } => postgres::is_transient(source),
            Self::Pool(source) => postgres::is_pool_error_transient(source),
            Self::Admin(AdminError::Away { .. } | AdminError::NoTopic { .. })
            | Self::Publish(_)
            | Self::DeadLetter(_)
            | Self::Unregistered { .. } => true,
            Self::Registry(source) => source.is_transient(),
            Self::Store(source) => source.is_transient(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_rebuild_what_may_be_in_no_log() {
        let said = |projection| Error::OtherLog { projection, recorded: "a/b".into(), found: "c/d".into() }.to_string();
        assert!(said("inbox").contains("`waltalkie rebuild inbox`"), "{}", said("inbox"));
        assert!(!said("cursor").contains("waltalkie rebuild") && said("cursor").contains("docs/operators.md"));
    }
}
