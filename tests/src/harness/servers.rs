//! The servers that tests run against.

use anyhow::{Context, Result};
use local_stack::Endpoints;

/// Addresses of Kafka, Postgres, registry and Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// `postgres://user:password@host:port`, without a database.
    pub postgres: String,
    /// `host:port`.
    pub kafka: String,
    /// Root of Confluent's API.
    pub registry: String,
    /// `redis://host:port`.
    pub redis: String,
}

/// The variables that carry them.
const VARIABLES: [&str; 4] =
    ["WALTALKIE_TEST_POSTGRES_URL", "WALTALKIE_TEST_KAFKA", "WALTALKIE_TEST_REGISTRY", "WALTALKIE_TEST_REDIS"];

impl Servers {
    /// The servers of this test run.
    pub fn shared() -> Result<Self> {
        let of = |name: &str| {
            std::env::var(name)
                .with_context(|| format!("{name} is not set: run scripts/test, which starts the servers"))
        };
        let postgres = of(VARIABLES[0])?;
        let (base, _) = postgres.rsplit_once('/').context("WALTALKIE_TEST_POSTGRES_URL names no database")?;
        Ok(Self {
            postgres: base.to_owned(),
            kafka: of(VARIABLES[1])?,
            registry: of(VARIABLES[2])?,
            redis: of(VARIABLES[3])?,
        })
    }

    /// The servers of a stack.
    pub fn of(endpoints: &Endpoints) -> Result<Self> {
        let some = |address: &Option<String>| address.clone().context("the stack runs without one of its servers");
        Ok(Self {
            postgres: some(&endpoints.postgres_url_base)?,
            kafka: some(&endpoints.kafka_brokers)?,
            registry: some(&endpoints.registry_url)?,
            redis: some(&endpoints.redis_url)?,
        })
    }

    /// The variables by which tests find them.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        let [postgres, kafka, registry, redis] = VARIABLES;
        [
            (postgres, self.database("postgres")),
            (kafka, self.kafka.clone()),
            (registry, self.registry.clone()),
            (redis, self.redis.clone()),
        ]
    }

    /// URL of a database.
    pub fn database(&self, name: &str) -> String {
        format!("{}/{name}", self.postgres)
    }
}
