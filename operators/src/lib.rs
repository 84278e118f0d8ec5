//! Stream operators: from the history to numbers about it, exactly once.
//!
//! ```text
//!   chat.events ──▶ transform ──┬──▶ chat.activity    messages, senders, bytes per chat and minute
//!                      ▲        ├──▶ chat.abuse       floods, repeated texts
//!                      │        └──▶ chat.events.dlq  what is no event
//!               operators.state (open windows, progress; compacted)
//! ```
//!
//! What is read, what is written and what is remembered are one Kafka transaction. The [`transform`] is a pure function of a
//! partition's events in their order, so the same history makes the same bytes in the same order, whatever is killed,
//! stopped or rebalanced in between; [`rules`] may be configured, and another rule makes other rows.
//!
//! There is one transactional id a partition, not one a process: taking it is all that it takes to be alone, and it ends at once
//! what a stopped process left open. The group's offset goes into the transaction with the membership under which the events
//! were read, which is a second fence: the group's coordinator refuses it once the group has gone on without this process. A
//! producer for each partition costs a transaction each under load; since nobody waits for a minute's row, events gather for a
//! second first.

mod error;
pub mod failpoint;
pub mod metrics;
mod ownership;
mod partition;
pub mod rules;
mod runner;
mod text;
pub mod transform;
#[cfg(test)]
mod transform_tests;
mod watch;
mod window;
mod wiring;

use std::sync::Arc;

use runtime::retry::Backoff;
use runtime::{Config, RoleHealth, Shutdown};

pub use error::Error;
use failpoint::Failpoints;
use watch::Watch;
pub use window::Row;
use wiring::Wiring;

/// Runs the operators until it is time to stop.
pub async fn run(config: Arc<Config>, health: RoleHealth, shutdown: Shutdown) -> Result<(), Error> {
    run_with(config, health, shutdown, Failpoints::default()).await
}

/// The same with places at which they are stopped; for fault tests.
pub async fn run_with(
    config: Arc<Config>,
    health: RoleHealth,
    shutdown: Shutdown,
    failpoints: Failpoints,
) -> Result<(), Error> {
    let Some(wiring) = prepare(&config, &health, &shutdown, failpoints).await? else { return Ok(()) };
    let watch = Watch::default();
    tokio::select! {
        biased;
        outcome = runner::run(Arc::new(wiring), &watch, &health, &shutdown) => outcome,
        ended = watch.run(&config) => ended.map(|never| match never {}),
    }
}

/// What the loop needs before it reads, waiting for those who have it; `None` if it is time to stop.
async fn prepare(
    config: &Arc<Config>,
    health: &RoleHealth,
    shutdown: &Shutdown,
    failpoints: Failpoints,
) -> Result<Option<Wiring>, Error> {
    let registry = Arc::new(config.registry_client()?);
    let mut backoff = Backoff::default();
    loop {
        match Box::pin(Wiring::prepare(Arc::clone(config), &registry, failpoints.clone())).await {
            Ok(wiring) => return Ok(Some(wiring)),
            Err(failure) if failure.is_transient() => {
                tracing::warn!(error = %error::chain(&failure), "not started yet");
                health.not_ready(error::chain(&failure));
                if !shutdown.pause(backoff.next_pause()).await {
                    return Ok(None);
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}
