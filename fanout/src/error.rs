//! What ends a role of this crate. Whatever may pass is tried again inside.

use runtime::kafka::ReaderError;
use runtime::postgres::PostgresError;
use schemas::registry::RegistryError;

/// A definite failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configured Redis can't be used.
    #[error("redis.url can't be used")]
    Redis(#[from] redis::RedisError),
    /// A configured database can't be used.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The configured registry can't be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Events can't be read any more without somebody's decision.
    #[error(transparent)]
    Reader(#[from] ReaderError),
    /// The source of truth has no epoch.
    #[error("the source of truth has no epoch in table installation: run `waltalkie migrate`")]
    NoEpoch,
    /// Stopped while starting.
    #[error("stopped before it had started")]
    Stopped,
}
