//! Rows that the stream left out: what somebody did to the publication is seen soon, but not at once, and once it is put back
//! nothing in the stream tells of the hole. So it is kept in mind in the position, until a resnapshot has looked.

use runtime::Shutdown;
use runtime::retry::Backoff;
use schemas::Position;

use crate::error::Error;
use crate::lease::Held;
use crate::replication::Connection;
use crate::resnapshot::Fault;
use crate::takeover::Worker;
use crate::{checks, position};

pub(crate) const WAY_OUT: &str =
    "Then run `waltalkie cdc resnapshot`: it publishes out of the tables what was left out meanwhile";

/// If that is what ended a session, it is written down before anybody else may stream, however long Kafka takes.
pub(crate) async fn keep_in_mind(worker: &Worker, error: &Error, held: &Held, shutdown: &Shutdown) {
    if !needs_a_look(error) {
        return;
    }
    tracing::error!(error = %error.chain(), "the stream can't be trusted; writing that down");
    let mut backoff = Backoff::default();
    while held.is_held() {
        match Box::pin(mark(worker)).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(error = %error.chain(), "it isn't written down yet; trying again");
                if !shutdown.pause(backoff.next_pause()).await {
                    return;
                }
            }
        }
    }
}

/// Whether only a slot that begins anew, and a look at the tables, make the history whole.
fn needs_a_look(error: &Error) -> bool {
    match error {
        Error::Unfit { .. } | Error::NotAnInsert { .. } | Error::Resnapshot(Fault::Gap { .. }) => true,
        Error::Replication(error) => error.lacks_publication(),
        _ => false,
    }
}

/// Marks the position, so that no worker streams over the hole.
async fn mark(worker: &Worker) -> Result<(), Error> {
    let system = Connection::open(&checks::slot_server(&worker.config)?).await?.identify().await?;
    let (fenced, stored, _) = worker.fence_and_read().await?;
    // Of another server, or of a hand-over, it isn't ours to mark.
    let is_ours = |stored: &Position| stored.system_identifier == system.identifier && stored.handed_over_at.is_none();
    let Some(stored) = stored.filter(|stored| is_ours(stored) && stored.left_out_at.is_none()) else { return Ok(()) };
    let now = runtime::clock::now_ms();
    position::publish(worker, fenced, Position { left_out_at: Some(now), written_at: now, ..stored }).await.map(drop)
}

/// Why nothing may be published yet.
pub(crate) fn refusal(stored: &Position) -> Option<String> {
    stored.left_out_at?;
    Some(format!(
        "the stream may have left rows out: the publication was changed for a while, or what came didn't follow what was \
         published. {WAY_OUT}"
    ))
}
