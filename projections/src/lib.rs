//! Kafka to read models, and the janitor who keeps them small.
//!
//! ```text
//!   chat.events ──┬──▶ membership ──▶ membership
//!                 ├──▶ chat_head ───▶ chat_head
//!                 └──▶ inbox ───────▶ inbox, inbox_member        (stays a little behind)
//!   chat.marks ──────▶ cursor ──────▶ chat_cursor ──▶ chat.cursors
//!   chat.cursors ────▶ inbox ───────▶ inbox_cursor, inbox.is_delivered
//! ```
//!
//! [`rebuild`] makes the same tables again from the beginning.
//!
//! A projection is one file: its name, version and tables, a pure `apply`, and the SQL that loads and stores rows. The
//! [`runner`] does the rest, one loop an input. Rows and offsets are written in one transaction of the read database,
//! so each record is applied once, whatever is killed, stopped or rebalanced. Projections never read each other's
//! tables, no clock and no random numbers, so that replaying the history makes the same rows.

mod chat_head;
mod checkpoint;
mod cursor;
mod cursor_writer;
mod decode;
mod error;
mod inbox;
pub mod janitor;
mod membership;
pub mod metrics;
mod piece;
mod projection;
pub mod rebuild;
mod rows;
pub mod runner;
#[cfg(test)]
mod samples;
mod status;
mod watch;
mod wiring;

use std::sync::Arc;
use std::time::Duration;

use runtime::{Config, RoleHealth, Shutdown};
use schemas::{ChatEvent, Cursor, Mark, Record};
use tokio::task::JoinSet;

pub use chat_head::{ChatHead, Head};
pub use cursor::{CursorProjection, CursorReplay, Cursors, Reached};
pub use cursor_writer::{CursorWriter, PublishError};
pub use error::Error;
pub use inbox::{CursorState, EventState, Inbox, PendingRow};
pub use membership::{MembershipProjection, Stay, StayKey};
pub use projection::{Applied, Fence, Input, Projection, Refusal};
pub use rows::Rows;
pub use status::{Board, Status};
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
    let inbox = Inbox::new(Duration::from_millis(config.projector.inbox_delay_ms), config.projector.inbox_members);
    let mut loops = JoinSet::new();
    start::<_, ChatEvent>(&mut loops, MembershipProjection, &wiring, &board, &shutdown);
    start::<_, ChatEvent>(&mut loops, ChatHead, &wiring, &board, &shutdown);
    start::<_, Mark>(&mut loops, CursorProjection::new(CursorWriter::new(&wiring)), &wiring, &board, &shutdown);
    start::<_, ChatEvent>(&mut loops, inbox, &wiring, &board, &shutdown);
    start::<_, Cursor>(&mut loops, inbox, &wiring, &board, &shutdown);
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

/// Starts the loop of one input; it lives as long as the set.
fn start<P: Input<R>, R: Record>(
    loops: &mut JoinSet<Result<(), Error>>,
    projection: P,
    wiring: &Wiring,
    board: &Board,
    shutdown: &Shutdown,
) {
    let (wiring, status, shutdown) = (wiring.clone(), board.entry(P::LOOP), shutdown.clone());
    loops.spawn(async move {
        let _guard = status.guard();
        let outcome = Box::pin(runner::run(&projection, &wiring, &status, &shutdown)).await;
        if let Err(error) = &outcome {
            tracing::error!(projection = P::NAME, error = %error::chain(error), "a projection has stopped");
            status.stopped(&error::chain(error));
        } else {
            status.ended();
        }
        outcome
    });
}
