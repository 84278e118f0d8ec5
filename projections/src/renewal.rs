//! Tables of an older version of a projection are made again by the role itself, where `projector.rebuilds_itself` says so.
//!
//! Of several loops and processes that find them one rebuilds, and the others wait for it. Rows of a newer version are never
//! touched: during a rolling upgrade the old programs would undo what the new ones have done.

use std::sync::Arc;
use std::time::Duration;

use runtime::retry::Backoff;
use runtime::{Config, Shutdown};

use crate::error::{self, Error};
use crate::rebuild::{Progress, Rebuilder};
use crate::shipped::Shipped;
use crate::status::Status;
use crate::wiring::Wiring;

/// How often the status says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Whether this failure is one that a rebuild mends, and the role may rebuild.
pub(crate) fn is_wanted(config: &Config, failure: &Error) -> bool {
    config.projector.rebuilds_itself && matches!(failure, Error::OtherVersion { found, wanted, .. } if found < wanted)
}

/// Makes the tables again, or waits a while if somebody else does; returns when it is worth looking again.
pub(crate) async fn renew(
    shipped: Shipped,
    wiring: &Wiring,
    status: &Status,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let mut backoff = Backoff::default();
    let progress = Arc::new(Progress::default());
    let rebuilder = Rebuilder::new(wiring.clone(), Arc::clone(&progress));
    tracing::info!(projection = shipped.name(), "rows of an older version: rebuilding");
    while !shutdown.has_begun() {
        let rebuilt = tokio::select! {
            biased;
            () = shutdown.begun() => return Ok(()),
            rebuilt = shipped.rebuild(&rebuilder) => rebuilt,
            () = tell(&progress, status) => unreachable!("it tells until it is dropped"),
        };
        match rebuilt {
            Ok(rebuilt) => {
                tracing::info!(projection = shipped.name(), records = rebuilt.records, "rebuilt");
                return Ok(());
            }
            Err(Error::RebuiltElsewhere { .. }) => {
                status.not_ready("its tables are of an older version; another process rebuilds them");
                shutdown.pause(backoff.next_pause()).await;
                return Ok(());
            }
            Err(failure) if failure.is_transient() || matches!(failure, Error::Waits(_) | Error::Busy { .. }) => {
                tracing::warn!(projection = shipped.name(), error = %error::chain(&failure), "rebuilding goes on later");
                status.not_ready(error::chain(&failure));
                shutdown.pause(backoff.next_pause()).await;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

async fn tell(progress: &Progress, status: &Status) {
    let mut turn = tokio::time::interval(TELL_EVERY);
    loop {
        turn.tick().await;
        let (phase, read, expected) = progress.now();
        status.not_ready(format!("its tables are of an older version; {phase}: {read} of {expected} records"));
    }
}
