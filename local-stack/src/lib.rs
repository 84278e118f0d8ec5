//! The local stack: Kafka, the schema registry, PostgreSQL and Redis as real servers on this machine, with no
//! container engine and no root.
//!
//! *Owns* the fetching of the servers (one Maven file, once, into a cache folder), their configuration, ports, logs and
//! processes, and the data directory that all of it lives in. It knows no chat: databases, topics and schemas are
//! made by its callers, who get the addresses as [`Endpoints`].
//!
//! ```text
//!  prerequisites ─► fetch ─► cache folder (one a version and platform)
//!                              │
//!  data_dir/lock, stack.json ──┤            ┌─ redis
//!  data_dir/run/<service>.json ┴─► start ───┼─ kafka
//!     (left-overs: taken over or ended)     └─ postgres ─► registry (its schemas live in postgres)
//! ```
//!
//! Beside a stack, tests and benches start single servers of other versions and
//! settings: [`LonePostgres`], [`LoneKafka`], [`LoneRedisCluster`].
//!
//! *Guarantees*
//! - All listen on 127.0.0.1 only.
//! - A server counts as started when it has answered a real question, not when its port is open.
//! - A process is known by pid *and* start time; nothing else is ever signalled.
//! - Killing the holder of the stack at any moment loses no data of Kafka, Postgres and the registry: the next start
//!   finds the servers that still run and takes them over or ends them. Redis keeps nothing on purpose.
//! - Two holders never share a data directory.

mod command;
mod endpoints;
mod error;
mod fetch;
mod holder;
mod kafka;
mod lock;
mod lone_kafka;
mod lone_postgres;
mod lone_redis_cluster;
mod maven;
mod memory;
mod options;
mod os_user;
mod plan;
mod ports;
mod postgres;
pub mod prerequisites;
mod process;
mod process_table;
mod progress;
mod readiness;
mod record;
mod redis;
mod registry;
mod server;
mod servers;
mod service;
mod stack;
mod unpack;

pub use endpoints::Endpoints;
pub use error::Error;
pub use fetch::{Parts, fetch};
pub use holder::{Holder, of_port as holder_of_port};
pub use lone_kafka::LoneKafka;
pub use lone_postgres::{LonePostgres, PostgresVersion};
pub use lone_redis_cluster::{LoneRedisCluster, RedisLock};
pub use options::{Options, Wanted, default_cache_dir, default_data_dir};
pub use progress::{Arrival, FetchStep, Progress, Silent, Terminal};
pub use service::Service;
pub use stack::LocalStack;

/// What every fallible function here returns.
pub type Result<T> = std::result::Result<T, Error>;
