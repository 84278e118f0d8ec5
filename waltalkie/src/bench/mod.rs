//! Benches: load from real clients, measured and checked.
//!
//! ```text
//!   plan ──▶ pacer ──due──▶ clients ──▶ gateway …… ──▶ clients ──▶ ledger ──▶ figures ──▶ table, JSON
//!   (who sends what)        (waltalkie_client)              (who saw what, when)
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
pub mod persist;
mod plan;
mod processes;
mod program;
mod report;
mod stages;
mod text;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, where somebody looks.
pub(crate) fn progress(length: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg:<34} {wide_bar} {human_pos}/{human_len} {per_sec}") {
        bar.set_style(style);
    }
    bar
}
