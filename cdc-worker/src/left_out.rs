//! Rows that the stream left out: what somebody did to the publication is seen soon, but not at once, and once it is put back
//! nothing in the stream tells of the hole. So it is kept in mind in the position, until a resnapshot has looked.

use runtime::Shutdown;
use runtime::retry::Backoff;
use schemas::Position;

use crate::error::Error;
use crate::lease::Held;
use crate::position;
use crate::takeover::Worker;

pub(crate) const WAY_OUT: &str =
    "Then run `waltalkie cdc resnapshot`: it publishes out of the tables what was left out meanwhile";

/// If that is what ended a session, it is written down before anybody else may stream, however long Kafka takes.
pub(crate) async fn keep_in_mind(worker: &Worker, error: &Error, held: &Held, shutdown: &Shutdown) {
    let Error::Unfit { .. } = error else { return };
    let mut backoff = Backoff::default();
    while held.is_held() && !shutdown.has_begun() {
        match Box::pin(mark(worker)).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(error = %error.chain(), "that rows were left out isn't written down yet; trying again");
                shutdown.pause(backoff.next_pause()).await;
            }
        }
    }
}

/// Marks the position, so that no worker streams over the hole.
async fn mark(worker: &Worker) -> Result<(), Error> {
    let (fenced, stored, _) = worker.fence_and_read().await?;
    let Some(stored) = stored.filter(|stored| stored.left_out_at.is_none()) else { return Ok(()) };
    let now = runtime::clock::now_ms();
    position::publish(worker, fenced, Position { left_out_at: Some(now), written_at: now, ..stored }).await.map(drop)
}

/// Why nothing may be published yet.
pub(crate) fn refusal(stored: &Position) -> Option<String> {
    stored.left_out_at?;
    Some(format!("the publication left rows out, or wasn't there, for a while. {WAY_OUT}"))
}
