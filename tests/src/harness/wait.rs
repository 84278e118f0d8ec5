//! Waiting for conditions. Nothing here waits for time to pass: it looks again until it is so, or until it is too late.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// For what a healthy system does at once, on a machine that is busy with other tests.
pub const SHORT: Duration = Duration::from_secs(30);
/// For starts, restarts and everything after a fault.
pub const LONG: Duration = Duration::from_mins(2);

/// Looks until there is something to see; the last error is told if there never is.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    let mut again = tokio::time::interval(Duration::from_millis(25));
    loop {
        again.tick().await;
        let seen = tokio::time::timeout(limit, look()).await;
        let problem = match seen {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(anyhow::anyhow!("looking hangs")),
        };
        if began.elapsed() > limit {
            let waited = format!("waited {} s for {what}", limit.as_secs());
            match problem {
                Some(error) => return Err(error.context(waited)),
                None => bail!("{waited}"),
            }
        }
    }
}

/// Gives up on something that takes too long.
pub async fn within<T>(what: &str, limit: Duration, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(limit, work).await.with_context(|| format!("waited {} s for {what}", limit.as_secs()))
}
