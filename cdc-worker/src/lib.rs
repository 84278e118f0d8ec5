//! The CDC worker: Postgres' log to the history in Kafka, each committed row once, in the order of commits.
//!
//! ```text
//!                 ┌───────────────────────── one worker of those that are started ─────────────────────────┐
//!   Postgres      │   lease ──▶ takeover ──▶ stream ──▶ publisher ──▶ chat.events, chat.users, cdc.positions │   Kafka
//!   (the slot) ──▶│     ▲                       │                                                          │──▶
//!                 │     └────── start over ◀────┘                                                          │
//!                 └─────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Owns the replication connection ([`replication`]), the decoder ([`pgoutput`]), the way from row to event
//! ([`mapping`]), the order ([`transaction`], [`progress`]) and the transactional producer ([`publisher`]). What it reads
//! comes from the slot alone, never from the tables: a commit can be seen in the slot before others can read it.
//!
//! *Progress.* The position, a row's `(commit_lsn, ordinal)`, is written to `cdc.positions` in the same Kafka transaction
//! as the events up to it. On a start it is read back, and whatever Postgres sends again up to it is dropped. The slot is
//! confirmed only up to what is committed in Kafka, so that it holds all the rest.
//!
//! *Failure.* Whatever passes, such as an outage of either side, ends the session, and a new one starts from the stored
//! position. Several workers may run: one holds the lease, the others wait. One that was stopped and goes on can't commit
//! anything: the next holder's producer has fenced it. What doesn't pass, such as a row that can't be mapped or a slot
//! that was made anew, ends the worker with the reason and the way out.

// What the fuzz target includes too names this crate as others do.
#[cfg(test)]
extern crate self as cdc_worker;

pub mod audit;
mod checks;
pub mod error;
pub mod failpoint;
mod gathering;
pub mod handover;
mod lease;
mod left_out;
pub mod lsn;
pub mod mapping;
pub mod metrics;
pub mod pgoutput;
mod position;
pub mod producer;
pub mod progress;
pub mod publisher;
pub mod record;
pub mod replication;
pub mod resnapshot;
mod sequence;
mod status;
mod stream;
mod takeover;
pub mod transaction;
pub mod victim;
mod withheld;
pub mod withhold;

use std::sync::Arc;
use std::time::Duration;

use runtime::retry::Backoff;
use runtime::{Config, RoleHealth, Shutdown, Tracer};

pub use checks::slot_server;
pub use error::Error;
pub use lsn::Lsn;
pub use position::{ensure_first_position, write_first_position};
pub use status::{Lag, LagKind, Status, StoredPosition, Streamer, status};

use failpoint::Failpoints;
use lease::{Held, Lease};
use stream::Ending;
use takeover::Worker;

/// How long one start may take; less than a loop may stand still and be called healthy.
const START: Duration = Duration::from_secs(25);

/// Runs the worker until shutdown begins, or something is wrong that only somebody can mend.
pub async fn run(config: Arc<Config>, health: RoleHealth, shutdown: Shutdown) -> Result<(), Error> {
    run_with(config, health, shutdown, Failpoints::default()).await
}

/// The same with places at which a fault test stops it.
pub async fn run_with(
    config: Arc<Config>,
    health: RoleHealth,
    shutdown: Shutdown,
    failpoints: Failpoints,
) -> Result<(), Error> {
    // Not on the stream's thread: its last spans are sent after that has ended.
    let tracer = Tracer::start(&config.trace, "cdc", &shutdown);
    let worker = || run_here(config, health, shutdown, failpoints, tracer);
    runtime::dedicated::run("cdc-stream", worker).await.unwrap_or_else(|source| Err(Error::Thread(source)))
}

async fn run_here(
    config: Arc<Config>,
    health: RoleHealth,
    shutdown: Shutdown,
    failpoints: Failpoints,
    tracer: Tracer,
) -> Result<(), Error> {
    ::metrics::gauge!(metrics::STREAMING).set(0.0);
    let mut backoff = Backoff::default();
    let prepared = prepare(config, failpoints, &health, &shutdown, &mut backoff).await?;
    let Some(worker) = prepared.map(|worker| Worker { tracer, ..worker }) else { return Ok(()) };
    while !shutdown.has_begun() {
        match stand_by(&worker, &health, &shutdown).await {
            Ok(Some(held)) => work(&worker, held, &health, &shutdown, &mut backoff).await?,
            Ok(None) => break,
            Err(error) => start_over(&error_or_end(error)?, &health, &shutdown, &mut backoff).await,
        }
    }
    Ok(())
}

/// Asks the registry for the ids of the schemas, as often as needed; `None` if it is time to stop.
async fn prepare(
    config: Arc<Config>,
    failpoints: Failpoints,
    health: &RoleHealth,
    shutdown: &Shutdown,
    backoff: &mut Backoff,
) -> Result<Option<Worker>, Error> {
    while !shutdown.has_begun() {
        match Worker::prepare(Arc::clone(&config), failpoints.clone()).await {
            Ok(worker) => {
                backoff.reset();
                return Ok(Some(worker));
            }
            Err(error) => start_over(&error_or_end(error)?, health, shutdown, backoff).await,
        }
    }
    Ok(None)
}

/// Waits for the lease. A worker that stands by while another streams does its work: it is ready.
async fn stand_by(worker: &Worker, health: &RoleHealth, shutdown: &Shutdown) -> Result<Option<Held>, Error> {
    Lease::new(Arc::clone(&worker.config)).await?.acquire(shutdown, || health.ready()).await
}

/// Streams for as long as the lease is held, starting over after what passes.
async fn work(
    worker: &Worker,
    mut held: Held,
    health: &RoleHealth,
    shutdown: &Shutdown,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    while held.is_held() && !shutdown.has_begun() {
        let taken = tokio::select! {
            biased;
            () = shutdown.begun() => break,
            taken = tokio::time::timeout(START, Box::pin(worker.take_over(&held))) => taken.unwrap_or(Err(Error::SlowStart)),
        };
        let session = match held.stream_is_fit().and(taken) {
            Ok(Some(session)) => session,
            Ok(None) => break,
            Err(error) => {
                left_out::keep_in_mind(worker, &error, &held, shutdown).await;
                // Another worker may be able to do what this one can't.
                held.release().await;
                start_over(&error_or_end(error)?, health, shutdown, backoff).await;
                return Ok(());
            }
        };
        tracing::info!(slot = worker.slot, from = %session.stored.confirmable, "streaming");
        ::metrics::counter!(metrics::STARTS).increment(1);
        ::metrics::gauge!(metrics::STREAMING).set(1.0);
        let outcome = stream::stream(worker, session, &mut held, health, shutdown, backoff).await;
        ::metrics::gauge!(metrics::STREAMING).set(0.0);
        // However it ended: what the keeper saw meanwhile counts more.
        match held.stream_is_fit().and(outcome) {
            Ok(Ending::Shutdown | Ending::Completed) => {}
            Ok(Ending::LeaseLost) => tracing::warn!(slot = worker.slot, "the lease is lost; standing by"),
            Ok(Ending::ServerStopping) => {
                tracing::info!(slot = worker.slot, "the server is shutting down; leaving it alone for a while");
                shutdown.pause(backoff.next_pause()).await;
            }
            Err(error) if error.is_transient() => start_over(&error, health, shutdown, backoff).await,
            Err(error) => {
                left_out::keep_in_mind(worker, &error, &held, shutdown).await;
                held.release().await;
                return Err(error);
            }
        }
    }
    held.release().await;
    Ok(())
}

/// A failure that passes, or the end.
fn error_or_end(error: Error) -> Result<Error, Error> {
    if error.is_transient() { Ok(error) } else { Err(error) }
}

async fn start_over(error: &Error, health: &RoleHealth, shutdown: &Shutdown, backoff: &mut Backoff) {
    let problem = error.chain();
    tracing::warn!(error = %problem, "starting over");
    health.not_ready(problem);
    shutdown.pause(backoff.next_pause()).await;
}
