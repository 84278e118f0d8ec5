//! The four servers by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One server of the local stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// PostgreSQL: truth, read models, and the registry's schemas.
    Postgres,
    /// One Kafka broker that is its own controller (`KRaft`).
    Kafka,
    /// Apicurio Registry, which speaks Confluent's REST API.
    Registry,
    /// Redis, without persistence.
    Redis,
}

impl Service {
    /// All of them, in the order in which they are started and listed.
    pub const ALL: [Service; 4] = [Service::Postgres, Service::Kafka, Service::Registry, Service::Redis];

    /// The word used in file names and settings.
    pub fn key(self) -> &'static str {
        match self {
            Service::Postgres => "postgres",
            Service::Kafka => "kafka",
            Service::Registry => "registry",
            Service::Redis => "redis",
        }
    }

    /// The port people expect it on.
    pub fn usual_port(self) -> u16 {
        match self {
            Service::Postgres => 5432,
            Service::Kafka => 9092,
            Service::Registry => 8081,
            Service::Redis => 6379,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Service::Postgres => "PostgreSQL",
            Service::Kafka => "Kafka",
            Service::Registry => "Schema registry",
            Service::Redis => "Redis",
        })
    }
}
