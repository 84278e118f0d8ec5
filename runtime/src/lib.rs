//! Process plumbing that every role uses: configuration, names, telemetry, shutdown, health, and clients of Kafka,
//! Postgres, Redis and S3. Knows no chat.

pub mod clock;
pub mod config;
pub mod dedicated;
mod error_chain;
pub mod health;
pub mod kafka;
pub mod metrics;
pub mod names;
pub mod postgres;
pub mod redis;
pub mod retry;
pub mod s3;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod trace;

pub use config::{Config, Secret};
pub use error_chain::chain;
pub use health::{Health, RoleHealth};
pub use names::Names;
pub use shutdown::Shutdown;
pub use trace::Tracer;
