//! Completes the history from the tables: every `(chat, seq)` that `chat.events` lacks, in order, none twice. Also the
//! first snapshot of a database that has rows and no history.
//!
//! ```text
//!   lease, fencing ─▶ how far the history goes ─▶ is it the beginning of the tables? ─▶ slot made anew
//!                                                                                           │
//!      plain worker ◀─ position without a mark ◀─ stream up to there ◀─ rows of the tables ◀─┘ position marked
//!                                                 (by seq: what is new)  (pages, each a snapshot of its own)
//! ```
//!
//! *Order.* The slot is made first, then the tables are read by later snapshots. So what was committed before the slot's
//! start is in the tables, what was committed after it is in the stream, and what is in both is told apart by `seq`.
//! The history goes on in each chat from where it ended; what comes from the tables stands at the place in front of the
//! slot's start, which is past every place that was published before.
//!
//! *Progress.* Each Kafka transaction holds the position, marked with `resnapshot_until_lsn`: a plain worker that finds
//! the mark refuses. Started again after a kill, this reads the history anew and goes on: with the tables if the
//! position stands in front of the slot's start, with the stream if it is past that. The mark goes away at the end.
//!
//! *Failure.* The slot is always made anew, also where it is good: then its start is past everything that was published,
//! and nothing depends on what an old slot would have shown. Until the mark is written, a plain worker refuses for the
//! new slot. Where the history isn't the beginning of what the tables hold, nothing is changed.

mod completing;
mod fault;
mod fill;
mod found;
pub(crate) mod log;
mod report;
mod slot;
mod tables;

use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::health::Health;
use runtime::retry::Backoff;
use runtime::{Config, Shutdown};
use schemas::Position;

pub(crate) use completing::Completing;
pub use fault::Fault;
pub use report::{Report, Step, Summary};

use crate::checks;
use crate::error::Error;
use crate::failpoint::Failpoints;
use crate::lease::{Held, Lease};
use crate::left_out;
use crate::lsn::Lsn;
use crate::position;
use crate::progress::Mark;
use crate::publisher::Fenced;
use crate::stream::{self, Ending};
use crate::takeover::Worker;
use crate::transaction::Place;
use fill::Filling;
use found::Found;
use log::Log;

/// How long servers that are away are waited for at the start.
const START: Duration = Duration::from_secs(30);
/// A lease that isn't free by now is somebody's.
const LEASE_IS_HELD: Duration = Duration::from_secs(3);

/// What to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Only say what is missing.
    pub dry_run: bool,
}

/// Completes the history, or says what is missing.
pub async fn run(config: Arc<Config>, options: Options, report: Report, shutdown: &Shutdown) -> Result<Summary, Error> {
    run_with(config, options, report, shutdown, Failpoints::default()).await
}

/// The same with places at which a fault test stops it.
pub async fn run_with(
    config: Arc<Config>,
    options: Options,
    report: Report,
    shutdown: &Shutdown,
    failpoints: Failpoints,
) -> Result<Summary, Error> {
    let began = Instant::now();
    let worker = prepare(&config, &failpoints, shutdown).await?;
    let mut summary = Summary { slot: worker.slot.clone(), is_dry_run: options.dry_run, ..Summary::default() };
    if options.dry_run {
        unless_stopped(shutdown, look(&worker, &report, &mut summary)).await?;
    } else {
        let mut held = take_lease(&worker, &report, shutdown).await?;
        let outcome = complete(&worker, &mut held, &report, shutdown, &mut summary).await;
        if let Err(error) = &outcome {
            left_out::keep_in_mind(&worker, error, &held, shutdown).await;
        }
        held.release().await;
        outcome?;
    }
    summary.rows_followed = report.followed();
    summary.seconds = began.elapsed().as_secs_f64();
    Ok(summary)
}

async fn prepare(config: &Arc<Config>, failpoints: &Failpoints, shutdown: &Shutdown) -> Result<Worker, Error> {
    let (deadline, mut backoff) = (Instant::now() + START, Backoff::default());
    loop {
        match Worker::prepare(Arc::clone(config), failpoints.clone()).await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                tracing::debug!(error = %error.chain(), "not prepared yet; trying again");
                if !shutdown.pause(backoff.next_pause()).await {
                    return Err(Fault::Stopped.into());
                }
            }
            outcome => return outcome,
        }
    }
}

pub(crate) async fn take_lease(worker: &Worker, report: &Report, shutdown: &Shutdown) -> Result<Held, Error> {
    let asked = Instant::now();
    let turn = || {
        if asked.elapsed() > LEASE_IS_HELD {
            report.tell(Step::WaitingForLease);
        }
    };
    let held = Lease::new(Arc::clone(&worker.config)).await?.acquire(shutdown, turn).await?;
    held.ok_or_else(|| Fault::Stopped.into())
}

async fn unless_stopped<T>(shutdown: &Shutdown, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = shutdown.begun() => Err(Fault::Stopped.into()),
        outcome = work => outcome,
    }
}

/// Ends what is under way when it is time to stop or the lease is lost, as a kill would.
async fn while_held<T>(
    held: &mut Held,
    shutdown: &Shutdown,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = held.lost() => Err(Fault::LeaseLost.into()),
        outcome = unless_stopped(shutdown, work) => outcome,
    }
}

async fn complete(
    worker: &Worker,
    held: &mut Held,
    report: &Report,
    shutdown: &Shutdown,
    summary: &mut Summary,
) -> Result<(), Error> {
    let filled = while_held(held, shutdown, Box::pin(fill(worker, report, summary))).await?;
    let Some(completing) = filled else { return Ok(()) };
    let taken = unless_stopped(shutdown, Box::pin(worker.take_over_for(held, Some(completing)))).await?;
    let session = taken.ok_or(Fault::LeaseLost)?;
    let health = Health::default().role("cdc resnapshot");
    let ended = stream::stream(worker, session, held, &health, shutdown, &mut Backoff::default()).await?;
    held.stream_is_fit()?;
    match ended {
        Ending::Completed => {}
        Ending::Shutdown => return Err(Fault::Stopped.into()),
        Ending::LeaseLost => return Err(Fault::LeaseLost.into()),
        Ending::ServerStopping => return Err(Fault::ServerStopping.into()),
    }
    while_held(held, shutdown, Box::pin(take_mark_away(worker))).await
}

/// Brings the history to where the slot takes over, unless nothing is missing.
async fn fill(worker: &Worker, report: &Report, summary: &mut Summary) -> Result<Option<Completing>, Error> {
    let (fenced, stored, kafka) = worker.fence_and_read().await?;
    let found = Found::look(worker, report, stored, kafka).await?;
    found.tell(summary);
    let heads = found.log.heads();
    let (fenced, start, ordinal) = match found.resumed() {
        Some(resumed) if resumed.is_past_tables => {
            let Log { users, .. } = found.log;
            return Ok(Some(Completing::new(heads, users, resumed.until, report.clone())));
        }
        Some(resumed) => (fenced, resumed.start, resumed.ordinal),
        None => {
            found.is_prefix().await?;
            if found.refusal.is_none() && found.is_whole(report).await? {
                summary.was_whole = true;
                return Ok(None);
            }
            summary.makes_slot = true;
            report.tell(Step::MakingSlot);
            let start = slot::make_anew(worker, &found.client).await?;
            let fenced = mark(worker, fenced, &found, start).await?;
            (fenced, start, Place::START.ordinal)
        }
    };
    // One that committed just before the slot's start is in no stream, so the tables must not be read without it.
    checks::all_is_visible(&found.client).await?;
    let missing = tables::missing_of_chats(&found.client, &found.log, report).await?;
    let stored = Mark { place: Filling::place(start, ordinal), confirmable: start };
    let Found { client, system, kafka, log: Log { mut users, ends, .. }, .. } = found;
    let publisher = worker.publisher(fenced, &system, kafka, ends, stored, Some(start))?;
    let mut filling = Filling::new(publisher, worker.writer(), start, ordinal);
    summary.users = filling.users(&client, &mut users).await?;
    filling.chats(&client, &missing, report).await?;
    filling.finish().await?;
    let until = slot::mark_wal(&client).await?;
    summary.count(&missing);
    let mut chats = heads;
    chats.extend(missing.into_iter().map(|range| (range.chat_id, range.to_seq)));
    Ok(Some(Completing::new(chats, users, until, report.clone())))
}

/// Says in the position that the history isn't whole, from where on the slot shows everything.
async fn mark(worker: &Worker, fenced: Fenced, found: &Found, start: Lsn) -> Result<Fenced, Error> {
    let place = Filling::place(start, Place::START.ordinal);
    let position = Position {
        slot: worker.slot.clone(),
        system_identifier: found.system.identifier.clone(),
        timeline: found.system.timeline,
        commit_lsn: place.commit_lsn.to_bits(),
        ordinal: place.ordinal,
        confirmable_lsn: start.to_bits(),
        cluster_id: found.kafka.cluster_id.clone(),
        partitions: found.log.ends.clone(),
        topics: found.kafka.topics.clone(),
        // The stream's part isn't known before the tables are read; any mark keeps plain workers away.
        resnapshot_until_lsn: Some(start.to_bits()),
        handed_over_at: None,
        left_out_at: None,
        written_at: runtime::clock::now_ms(),
    };
    position::publish(worker, fenced, position).await
}

/// The last position once more, without the mark.
async fn take_mark_away(worker: &Worker) -> Result<(), Error> {
    let (fenced, stored, _) = worker.fence_and_read().await?;
    let stored = stored.ok_or_else(|| worker.refused("topic cdc.positions has lost its position".into()))?;
    let position = Position { resnapshot_until_lsn: None, written_at: runtime::clock::now_ms(), ..stored };
    position::publish(worker, fenced, position).await.map(drop)
}

/// What a run would do.
async fn look(worker: &Worker, report: &Report, summary: &mut Summary) -> Result<(), Error> {
    let (stored, kafka) = worker.read_stored().await?;
    let found = Found::look(worker, report, stored, kafka).await?;
    found.tell(summary);
    found.is_prefix().await?;
    let missing = tables::missing_of_chats(&found.client, &found.log, report).await?;
    summary.count(&missing);
    let mut after = String::new();
    while let Some(users) = tables::missing_users(&found.client, &found.log.users, &mut after).await? {
        summary.users += users.len() as u64;
    }
    let is_whole = summary.events_added == 0 && summary.users == 0;
    summary.was_whole = is_whole && found.refusal.is_none();
    summary.makes_slot = found.resumed().is_none() && !summary.was_whole;
    Ok(())
}
