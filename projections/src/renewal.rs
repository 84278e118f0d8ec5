//! Tables of an older version of a projection are made again by the role itself, where `projector.rebuilds_itself` says so.
//!
//! Of several loops and processes that find them one rebuilds, and the others look now and then whether it is done. Rows of a newer version are never
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
/// Pauses between looks at what another process has done, and between attempts.
const PAUSES_MS: (u64, u64) = (250, 5_000);

const VERSION: &str = "SELECT version FROM projection_version WHERE projection = $1";

/// Up to which version this failure is one that a rebuild mends, if the role may rebuild.
pub(crate) fn wanted(config: &Config, failure: &Error) -> Option<u32> {
    match failure {
        Error::OtherVersion { found, wanted, .. } if config.projector.rebuilds_itself && found < wanted => {
            Some(*wanted)
        }
        _ => None,
    }
}

/// Makes the tables again, or waits until another process has; returns when they are of this version or a newer one, or when
/// it is time to stop.
pub(crate) async fn renew(
    shipped: Shipped,
    wanted: u32,
    wiring: &Wiring,
    status: &Status,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let mut backoff = Backoff::new(PAUSES_MS.0, PAUSES_MS.1);
    let progress = Arc::new(Progress::default());
    let rebuilder = Rebuilder::new(wiring.clone(), Arc::clone(&progress));
    let mut waits = false;
    tracing::info!(projection = shipped.name(), "rows of an older version: rebuilding");
    while !shutdown.has_begun() {
        let attempt = async {
            if version(wiring, shipped).await? >= wanted {
                return Ok(None);
            }
            shipped.rebuild(&rebuilder).await.map(Some)
        };
        let rebuilt = tokio::select! {
            biased;
            () = shutdown.begun() => return Ok(()),
            rebuilt = attempt => rebuilt,
            () = tell(&progress, status) => unreachable!("it tells until it is dropped"),
        };
        match rebuilt {
            Ok(None) => return Ok(()),
            Ok(Some(rebuilt)) => {
                tracing::info!(projection = shipped.name(), records = rebuilt.records, "rebuilt");
                return Ok(());
            }
            Err(Error::RebuiltElsewhere { .. }) => {
                if !std::mem::replace(&mut waits, true) {
                    tracing::info!(projection = shipped.name(), "another process rebuilds; waiting for it");
                }
                status.not_ready("its tables are of an older version; another process rebuilds them");
            }
            Err(failure) if failure.is_transient() || matches!(failure, Error::Waits(_) | Error::Busy { .. }) => {
                waits = false;
                tracing::warn!(projection = shipped.name(), error = %error::chain(&failure), "rebuilding goes on later");
                status.not_ready(error::chain(&failure));
            }
            Err(failure) => return Err(failure),
        }
        shutdown.pause(backoff.next_pause()).await;
    }
    Ok(())
}

/// Of the rows that are there.
async fn version(wiring: &Wiring, shipped: Shipped) -> Result<u32, Error> {
    let client = wiring.pool.get().await?;
    let row = client.query_opt(VERSION, &[&shipped.name()]).await.map_err(Error::database("reading versions"))?;
    Ok(row.map_or(0, |row| row.get::<_, i32>(0) as u32))
}

async fn tell(progress: &Progress, status: &Status) {
    let mut turn = tokio::time::interval(TELL_EVERY);
    loop {
        turn.tick().await;
        let (phase, read, expected) = progress.now();
        // Before it has begun there is nothing to tell, and others may be at it.
        if phase.is_empty() {
            status.turn();
            continue;
        }
        status.not_ready(format!("its tables are of an older version; {phase}: {read} of {expected} records"));
    }
}
