//! What keeps the notifier from its work.

use deadpool_postgres::PoolError;
use rdkafka::error::KafkaError;
use redis::RedisError;
pub(crate) use runtime::chain;
use runtime::kafka::admin::AdminError;
use runtime::kafka::reader::ReaderError;
use runtime::postgres::{self, PostgresError};
use runtime::tls::CaError;
use schemas::FrameError;
use schemas::registry::RegistryError;

use crate::languages::PhrasesError;
use crate::mail::TemplateError;
use crate::payload::LinksError;
use crate::provider::SetupError;
use crate::unsubscribe::UnsubscribeError;

/// Why the notifier, or one step of it, can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement failed.
    #[error("{what} in Postgres failed")]
    Database {
        /// What was tried.
        what: &'static str,
        /// What Postgres says.
        #[source]
        source: tokio_postgres::Error,
    },
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
    /// A producer can't be made.
    #[error("Kafka's producer could not be made")]
    Producer(#[source] KafkaError),
    /// Kafka didn't take a record.
    #[error("{topic} didn't take a record")]
    Produce {
        /// Topic.
        topic: String,
        /// What Kafka's client says.
        #[source]
        source: KafkaError,
    },
    /// The registry can't be asked.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A schema isn't in the registry.
    #[error("the registry doesn't know our schema of {record}; `waltalkie schemas register` registers it")]
    Unregistered {
        /// Record.
        record: &'static str,
    },
    /// A record doesn't fit its schema, or its schema can't be had.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Redis' address can't be used.
    #[error("redis.url can't be used")]
    Redis(#[from] RedisError),
    /// Offsets of another log: they would be taken for this one's.
    #[error(
        "the notifier's offsets of {topic} are of another log ({recorded}, and this is {found}): Kafka was set up anew, or the \
         topic. Remove its rows from consumer_offset in the read database (consumer {consumer}), and it begins at the end"
    )]
    OtherLog {
        /// Consumer in the table.
        consumer: &'static str,
        /// Topic.
        topic: String,
        /// What the table has.
        recorded: String,
        /// What Kafka says.
        found: String,
    },
    /// A provider can't be set up.
    #[error("a provider in [notify] can't be set up")]
    Setup(#[from] SetupError),
    /// Certificates can't be used.
    #[error("notify.ca_file can't be used")]
    Ca(#[from] CaError),
    /// Templates can't be used.
    #[error("the mail templates can't be used")]
    Template(#[from] TemplateError),
    /// Sentences of a language can't be used.
    #[error("phrases.json in notify.templates_dir can't be used")]
    Phrases(#[from] PhrasesError),
    /// A file isn't the JSON that it should be.
    #[error("{path} can't be used")]
    Json {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file can't be read.
    #[error("{path} can't be read")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// `notify.link_template` can't be used.
    #[error("notify.link_template: {0}")]
    Links(#[from] LinksError),
    /// Unsubscribe links can't be made.
    #[error("notify.unsubscribe_secret or notify.public_url can't be used")]
    Unsubscribe(#[from] UnsubscribeError),
    /// The reader ended without a reason.
    #[error("reading of {0} ended by itself")]
    Ended(String),
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
            | Self::Produce { .. }
            | Self::Unregistered { .. } => true,
            Self::Registry(source) => source.is_transient(),
            Self::Frame(source) => source.is_transient(),
            _ => false,
        }
    }
}
