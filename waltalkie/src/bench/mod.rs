//! Benches: load from real clients, measured and checked.
//!
//! ```text
//!   plan ──▶ pacer ──due──▶ clients ──▶ gateway …… ──▶ clients ──▶ ledger ──▶ figures ──▶ table, JSON
//!   (who sends what)        (crate::load)              (who saw what, when)
//! ```
//!
//! Latency is measured from the moment at which a message was *due*, whatever the state of the system, so that a stall
//! counts for every message that it held up (no coordinated omission).

pub mod cdc;
pub mod chat;
mod crowd;
mod figures;
mod floor;
mod ledger;
mod machine;
mod pacer;
mod plan;
mod processes;
mod report;
mod stages;
