//! Client → Kafka → Postgres: everything up to the moment at which a message has its place in its chat.
//!
//! ```text
//!   HTTP ─▶ gateway ─┐                                    ┌──▶ message, chat_change, … (truth)
//!                    ├─▶ chat service ─▶ chat.commands ─▶ persister
//!   WebSocket ───────┘        ▲                           └──▶ answers (Redis, the node's channel)
//!   (fanout's)                └───────────────────────────────────┘
//! ```
//!
//! The gateway validates before it accepts; *accepted* means that the command is in Kafka with acks=all, *persisted*
//! that its transaction is committed. The two halves meet on the topic, the tables and the node's channel only.

mod admission;
mod answers;
mod arrivals;
pub mod auth;
mod body_hash;
pub mod chat_service;
mod error;
pub mod gateway;
pub mod limits;
pub mod marks;
pub mod media;
mod metrics;
pub mod persister;
pub mod profiles;
mod rates;
pub mod removal;
mod silence;
pub mod standing;
mod start;
pub mod users;

pub use error::Error;
