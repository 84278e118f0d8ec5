//! Kafka to read models, and the janitor who keeps them small.
//!
//! ```text
//!   chat.events ──┬──▶ membership ──▶ membership
//!                 ├──▶ chat_head ───▶ chat_head
//!                 ├──▶ inbox ───────▶ inbox, inbox_member        (stays a little behind)
//!                 └──▶ timeline, chat_activity, user_export ──▶ tables of these names   (where `projector.also` has them)
//!   chat.marks ──────▶ cursor ──────▶ chat_cursor ──▶ chat.cursors
//!   chat.cursors ────▶ inbox ───────▶ inbox_cursor, inbox.is_delivered
//!   what is no event in chat.events ──▶ chat.events.dlq
//! ```
//!
//! [`rebuild`] makes the same tables again from the beginning.
//!
//! A projection is one file: its name, version and tables, a pure `apply`, and the SQL that loads and stores rows. The
//! [`runner`] does the rest, one loop an input. Rows and offsets are written in one transaction of the read database,
//! so each record is applied once, whatever is killed, stopped or rebalanced. Projections never read each other's
//! tables, no clock and no random numbers, so that replaying the history makes the same rows.

mod chat_activity;
mod chat_head;
mod checkpoint;
mod cursor;
mod cursor_writer;
mod dead_letter;
mod decode;
mod error;
mod inbox;
pub mod janitor;
mod membership;
pub mod metrics;
pub mod own;
mod piece;
mod projection;
pub mod rebuild;
mod renewal;
mod rows;
pub mod runner;
#[cfg(test)]
mod samples;
mod shipped;
mod status;
mod timeline;
mod user_export;
mod watch;
mod wiring;

use std::sync::Arc;
use std::time::Duration;

use runtime::{Config, RoleHealth, Shutdown};
use tokio::task::JoinSet;

use shipped::Loops;

pub use chat_activity::{ActivityState, ChatActivity, Day};
pub use chat_head::{ChatHead, Head};
pub use cursor::{CursorProjection, CursorReplay, Cursors, Reached};
pub use cursor_writer::{CursorWriter, PublishError};
pub use dead_letter::DeadLetters;
pub use error::Error;
pub use inbox::{CursorState, EventState, Inbox, PendingRow};
pub use membership::{MembershipProjection, Stay, StayKey};
pub use projection::{Applied, Fence, Input, Projection, Refusal};
pub use rows::Rows;
pub use shipped::Shipped;
pub use status::{Board, Status};
pub use timeline::{NEWEST, Timeline};
pub use user_export::UserExport;
pub use wiring::{Patience, Wiring};

/// How often the loops' states are gathered into the role's health.
const GATHER_EVERY: Duration = Duration::from_millis(250);

/// Runs every projection until it is time to stop.
///
/// One that fails definitely (a record that can't be used, offsets of another cluster) stops alone: the others go on,
/// and the role is not ready from then on, and not healthy, with the reason in its status. The error is returned once
/// all have ended.
pub async fn run(config: Arc<Config>, health: RoleHealth, shutdown: Shutdown) -> Result<(), Error> {
    let wiring = Wiring::new(Arc::clone(&config))?;
    let board = Board::default();
    let kept = Shipped::kept(&config)?;
    let mut loops = Loops { running: JoinSet::new(), wiring: &wiring, board: &board, shutdown: &shutdown };
    for shipped in kept {
        shipped.start(&mut loops);
    }
    let mut loops = loops.running;
    let (kafka, postgres) = (board.entry("Kafka"), board.entry("Postgres"));
    let watched = (wiring.clone(), shutdown.clone());
    loops.spawn(async move { watch::run(&watched.0, &kafka, &postgres, &watched.1).await });

    let mut failure = None;
    loop {
        match tokio::time::timeout(GATHER_EVERY, loops.join_next()).await {
            Err(_) => board.report(&health),
            Ok(Some(Ok(Ok(())))) => {}
            Ok(Some(outcome)) => {
                let error = outcome.unwrap_or_else(|panic| Err(Error::Panicked(panic.to_string()))).err();
                failure = failure.or(error);
                board.report(&health);
            }
            Ok(None) => break,
        }
    }
    failure.map_or(Ok(()), Err)
}
