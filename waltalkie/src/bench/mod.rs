//! Benches: load from real clients, measured and checked.
//!
//! ```text
//!   plan ──▶ pacer ──due──▶ clients ──▶ gateway …… ──▶ clients ──▶ ledger ──▶ figures ──▶ table, JSON
//!   (who sends what)        (waltalkie_client)              (who saw what, when)
//! ```
//!
//! The three that look at sockets alone (`fanout`, `idle`, `storm`) write their people and rows themselves, publish as the
//! publisher does, and have cheap readers in a process of their own:
//!
//! ```text
//!   audience ──rows──▶ Postgres      feed, when due ──▶ Redis ──▶ node ──▶ readers ──▶ tally ──▶ report
//! ```
//!
//! Latency is measured from the moment at which a message was *due*, whatever the state of the system, so that a stall
//! counts for every message that it held up (no coordinated omission).

mod audience;
pub(crate) mod bare;
pub mod cdc;
pub mod chat;
mod crowd;
pub mod fanout;
mod feed;
mod figures;
mod files;
mod floor;
mod helper;
pub mod idle;
mod ledger;
mod machine;
mod node;
pub mod notify;
mod pacer;
pub mod peer;
pub mod persist;
mod place;
mod plan;
mod processes;
mod program;
pub(crate) mod readers;
pub mod rebuild;
mod report;
mod schedule;
mod stages;
pub mod storm;
mod telling;
mod text;
mod tokens;
mod writer;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, where somebody looks.
pub(crate) fn progress(length: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg:<34} {wide_bar} {human_pos}/{human_len} {per_sec}") {
        bar.set_style(style);
    }
    bar
}
