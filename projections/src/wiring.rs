//! What the loops of the role share.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use runtime::{Config, postgres};
use schemas::registry::Registry;

use crate::dead_letter::DeadLetters;
use crate::error::Error;

/// What the loops share.
#[derive(Clone)]
pub struct Wiring {
    /// Configuration.
    pub config: Arc<Config>,
    /// The database of read models.
    pub pool: Pool,
    /// Schemas.
    pub registry: Arc<Registry>,
    /// Where what is no event goes.
    pub dead_letters: DeadLetters,
    /// How long runners wait for each other.
    pub patience: Patience,
}

/// How long runners wait for each other in Postgres.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the lock of a partition's offset.
    pub lock: Duration,
    /// Before Postgres ends the transaction of a process that has stopped in the middle of it.
    pub idle_in_transaction: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { lock: Duration::from_secs(5), idle_in_transaction: Duration::from_secs(15) }
    }
}

impl Wiring {
    /// Clients of what the configuration names; nothing is connected yet.
    pub fn new(config: Arc<Config>) -> Result<Self, Error> {
        let pool = postgres::pool(&config.postgres.read_url, "postgres.read_url", config.postgres.pool_size)?;
        let registry = Arc::new(config.registry_client()?);
        let dead_letters = DeadLetters::new(&config);
        Ok(Self { config, pool, registry, dead_letters, patience: Patience::default() })
    }
}
