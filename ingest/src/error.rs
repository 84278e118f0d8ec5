//! What ends a role of this crate for good. Everything that can pass is retried inside.

/// A definite failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Kafka's client could not be made.
    #[error("Kafka's client could not be made; look at [kafka]")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The cluster.
    #[error(transparent)]
    Admin(#[from] runtime::kafka::admin::AdminError),
    /// Reading ended.
    #[error(transparent)]
    Reader(#[from] runtime::kafka::ReaderError),
    /// The registry's address.
    #[error(transparent)]
    Registry(#[from] schemas::registry::RegistryError),
    /// Postgres' address, or what was found there.
    #[error(transparent)]
    Postgres(#[from] runtime::postgres::PostgresError),
    /// The database isn't this installation's.
    #[error(transparent)]
    Migrate(#[from] migrations::MigrateError),
    /// Redis' address.
    #[error("redis.url can't be used")]
    Redis(#[from] redis::RedisError),
    /// Configuration of tokens.
    #[error("auth: {0}")]
    Auth(String),
    /// The persister can write nothing at all.
    #[error("the persister can't move its offsets: {0}")]
    Persister(String),
    /// A command could not be put aside.
    #[error("the dead-letter topic takes nothing: {0}")]
    DeadLetter(rdkafka::error::KafkaError),
}
