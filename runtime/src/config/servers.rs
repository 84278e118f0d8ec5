//! The servers that everything rests on.

use serde::{Deserialize, Serialize};

use super::Secret;
use crate::postgres::with_ca;

/// `[postgres]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Postgres {
    /// Database of the source of truth: `postgres://user:password@host:5432/waltalkie`.
    pub truth_url: Secret,
    /// Database of the read models, on the same server or another.
    pub read_url: Secret,
    /// The server that holds the slot; empty for `postgres.truth_url`. Name it if that is a pooler.
    pub replication_url: Secret,
    /// File of certificates (PEM) that servers are checked against, instead of the web's public roots. Reading the
    /// configuration puts it into the URLs, as `sslrootcert`, unless they have their own.
    pub ca_file: String,
    /// Most connections of one pool.
    pub pool_size: usize,
    /// Accept a server without a synchronous standby, knowing that its disk is then the only copy until the slot is read.
    pub accept_single_copy: bool,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            truth_url: Secret::default(),
            read_url: Secret::default(),
            replication_url: Secret::default(),
            ca_file: String::new(),
            pool_size: 16,
            accept_single_copy: false,
        }
    }
}

impl Postgres {
    pub(super) fn carry_ca(&mut self) {
        if !self.ca_file.is_empty() {
            for url in [&mut self.truth_url, &mut self.read_url, &mut self.replication_url] {
                *url = with_ca(url, &self.ca_file);
            }
        }
    }
}

/// `[kafka]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, several with commas.
    pub brokers: String,
    /// Partitions of each `chat.*` topic when it is made. For ever: see the sizing table.
    pub partitions: u16,
    /// Copies of each topic when it is made.
    pub replication_factor: u16,
    /// Copies that must have a record before it counts.
    pub min_insync_replicas: u16,
    /// Whether brokers keep the history's closed segments in their remote storage; they must have one.
    pub tiered_storage: bool,
    /// How long closed segments stay on the brokers' own disks as well, where storage is tiered.
    pub local_retention_ms: u64,
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub security_protocol: String,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: String,
    /// Name towards the brokers.
    pub sasl_username: String,
    /// Password towards the brokers.
    pub sasl_password: Secret,
    /// File of certificates to trust; empty for the system's.
    pub ca_file: String,
    /// How long a record may try to reach the brokers before the sender is told to try again.
    pub delivery_timeout_ms: u64,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            partitions: 12,
            replication_factor: 3,
            min_insync_replicas: 2,
            tiered_storage: false,
            local_retention_ms: 604_800_000,
            security_protocol: "plaintext".into(),
            sasl_mechanism: "SCRAM-SHA-512".into(),
            sasl_username: String::new(),
            sasl_password: Secret::default(),
            ca_file: String::new(),
            delivery_timeout_ms: 10_000,
        }
    }
}

/// `[registry]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// Address of a Confluent-compatible registry; `http://user:password@host:8081` where it wants a login.
    pub url: Secret,
    /// Folder in which ids and schemas are kept for a start while the registry is away; empty for none.
    pub cache_dir: String,
}

/// `[redis]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://:password@host:6379`, or `rediss://` for TLS. Of a cluster, some of its nodes, with commas between.
    pub url: Secret,
    /// Certificates to trust with `rediss://` instead of the web's public roots, in PEM.
    pub ca_file: String,
}

/// `[stack]`: read by `waltalkie up` alone. A port of 0 is the usual one, or a free one if that is taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stack {
    /// Port of the local Postgres.
    pub postgres_port: u16,
    /// Port of the local Kafka.
    pub kafka_port: u16,
    /// Port of the local schema registry.
    pub registry_port: u16,
    /// Port of the local Redis.
    pub redis_port: u16,
    /// Port of the S3 server in the program's own process.
    pub s3_port: u16,
}
