//! How the slot and its publication stand, for operators.
//!
//! ```text
//!   Postgres: slot, lease, WAL end ──▶ Kafka: events and positions of one second ──▶ Postgres again ──▶ what is wrong
//! ```
//!
//! Asks Postgres and Kafka twice, [`WINDOW`] apart, and reads what is published in between: that gives the rate, and
//! tells a slow worker from one that nothing is written for. Changes nothing, fences nobody, takes no lease. What Kafka
//! can't say while it is away is left out and is one of the problems; without Postgres there is nothing to say.

mod log;
mod problems;
mod server;

use std::time::Duration;

use runtime::Config;
use schemas::Position;
use serde::Serialize;

use crate::checks::{self, Facts};
use crate::error::Error;
use crate::lsn::Lsn;
use log::Log;
use server::Server;

/// Time between the two looks, in which events are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// What `waltalkie cdc status` shows. LSNs as Postgres writes them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Slot.
    pub slot: String,
    /// Whether the slot is there.
    pub exists: bool,
    /// Whether a worker streams it now.
    pub is_active: bool,
    /// Output plugin.
    pub plugin: String,
    /// Whether standbys keep a copy of it; `None` before PostgreSQL 17, and without a slot.
    pub is_failover: Option<bool>,
    /// What the server says of its WAL: `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// Why the server gave it up; PostgreSQL 17 and later.
    pub invalidation_reason: Option<String>,
    /// The server's WAL is on disk up to here.
    pub server_lsn: String,
    /// The oldest WAL that is kept for the slot.
    pub restart_lsn: Option<String>,
    /// The slot is confirmed up to here.
    pub confirmed_flush_lsn: String,
    /// Bytes of WAL that the server keeps for the slot.
    pub wal_retained_bytes: u64,
    /// WAL that may still be written before the server gives the slot up; `None` without `max_slot_wal_keep_size`.
    pub safe_wal_bytes: Option<i64>,
    /// Bytes of WAL that aren't known to be published: from the stored position's `confirmable_lsn`, or where there is no
    /// position from the slot's `confirmed_flush_lsn`, to the end. WAL of other databases and tables counts too.
    pub lag_bytes: u64,
    /// How long commits wait to be published; `None` where nothing was ever published, or Kafka doesn't answer.
    pub lag: Option<Lag>,
    /// Events that appeared in `chat.events` a second, over `window_ms`; `None` if Kafka doesn't answer.
    pub events_per_s: Option<f64>,
    /// How long events were counted.
    pub window_ms: u64,
    /// Age of the newest published event: since it occurred, not since it was published.
    pub last_event_age_ms: Option<i64>,
    /// Who holds the lease; `None` if nobody does. A worker's random name, new at each of its attempts.
    pub lease_holder: Option<String>,
    /// For how much longer, if it isn't renewed.
    pub lease_left_ms: Option<i64>,
    /// The connection that streams the slot.
    pub streamer: Option<Streamer>,
    /// The position in Kafka.
    pub position: Option<StoredPosition>,
    /// What is wrong, each with the way to mend it. Empty if all is well.
    pub problems: Vec<String>,
}

/// How long commits wait to be published. One clock only, the server's, or that of the process that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// The time, as `is` says.
    pub ms: i64,
    /// What the time is.
    pub is: LagKind,
}

/// What a lag in time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LagKind {
    /// So long after the first look, at most, all that was in the WAL then was published. A commit waited no longer.
    Measured,
    /// Nothing waits: the server has sent all of the first look's WAL, and a window later the worker neither had moved nor
    /// had anything open in Kafka. What WAL is left makes no events.
    Idle,
    /// The WAL of the first look wasn't published a window later. Commits are published in their order, so whatever waits
    /// was committed after the newest published event occurred: it waits at most for so long. After a time in which
    /// nobody wrote that is far too much.
    AtMost,
}

/// The connection that streams the slot. What the login may not see of others' connections is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Streamer {
    /// Process on the server.
    pub pid: i32,
    /// Where the worker is, as the server sees it.
    pub client: Option<String>,
    /// How long it has been connected.
    pub connected_ms: Option<i64>,
    /// The server has read and sent its WAL up to here.
    pub sent_lsn: Option<String>,
    /// The worker says that it has received up to here.
    pub received_lsn: Option<String>,
}

/// The position in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredPosition {
    /// Commit LSN of the last published row's transaction.
    pub commit_lsn: String,
    /// Its number within the transaction.
    pub ordinal: i64,
    /// Up to here everything is published.
    pub confirmable_lsn: String,
    /// Age of the record.
    pub age_ms: i64,
}

/// Asks Postgres and Kafka. Changes nothing and disturbs no worker. Takes a little longer than a second.
pub async fn status(config: &Config) -> Result<Status, Error> {
    let mut server = Server::connect(config).await?;
    let log = Log::prepare(config).await;
    let first = server.look().await?;
    // Held against each other: what the server says first, then the position, then where the server's WAL ends.
    let log = match log {
        Ok(log) => log.watch(first.system.flush_lsn, WINDOW).await,
        Err(error) => Err(error),
    };
    let last = server.look().await?;
    let mut problems = server.unfit(config).await;
    let log = match log {
        Ok(log) => Some(log),
        Err(error) => {
            problems.push(format!("what is published can't be told: {}", error.chain()));
            None
        }
    };
    match (&log, &last.slot) {
        (_, None) => problems.push(format!("slot {}: {}", server.slot, server.without_slot().await)),
        (Some(log), Some(_)) => problems.extend(refusal(&mut server, (&first, &last), log).await?),
        (None, Some(_)) => {}
    }
    let views = problems::Views { slot: &server.slot, first: &first, last: &last, log: log.as_ref() };
    let lag = views.lag();
    problems.extend(problems::of(&views));
    let position = log.as_ref().and_then(|log| log.position.as_ref());
    // Once the position knows of the hand-over, the refusal says it.
    if position.is_none_or(|stored| stored.handed_over_at.is_none()) {
        problems.extend(server.pause().await);
    }

    let slot = last.slot.as_ref();
    let confirmed = slot.map_or(Lsn::ZERO, |slot| slot.confirmed_flush_lsn);
    let restart = slot.and_then(|slot| slot.restart_lsn);
    Ok(Status {
        slot: server.slot.clone(),
        exists: slot.is_some(),
        is_active: slot.is_some_and(|slot| slot.active_pid.is_some()),
        plugin: slot.map(|slot| slot.plugin.clone()).unwrap_or_default(),
        is_failover: last.is_failover,
        wal_status: slot.map(|slot| slot.wal_status.clone()).unwrap_or_default(),
        invalidation_reason: slot.and_then(|slot| slot.invalidation_reason.clone()),
        server_lsn: last.system.flush_lsn.to_string(),
        restart_lsn: restart.map(|lsn| lsn.to_string()),
        confirmed_flush_lsn: confirmed.to_string(),
        wal_retained_bytes: views.retained_bytes(),
        safe_wal_bytes: last.safe_wal_bytes,
        lag_bytes: views.lag_bytes(),
        lag,
        events_per_s: log.as_ref().map(|log| log.events as f64 / log.counted.as_secs_f64().max(0.001)),
        window_ms: log.as_ref().map_or(0, |log| log.counted.as_millis() as u64),
        last_event_age_ms: views.last_event_age_ms(),
        lease_holder: last.lease.as_ref().map(|lease| lease.holder.clone()),
        lease_left_ms: last.lease.as_ref().map(|lease| lease.left_ms),
        streamer: last.streamer(),
        position: position.map(shown),
        problems,
    })
}

fn shown(position: &Position) -> StoredPosition {
    StoredPosition {
        commit_lsn: Lsn::from_bits(position.commit_lsn).to_string(),
        ordinal: position.ordinal,
        confirmable_lsn: Lsn::from_bits(position.confirmable_lsn).to_string(),
        age_ms: runtime::clock::now_ms() - position.written_at,
    }
}

/// Why a worker that starts now would refuse, if it would: position, slot and Kafka don't belong together.
async fn refusal(
    server: &mut Server,
    (first, last): (&server::Look, &server::Look),
    log: &log::Seen,
) -> Result<Option<String>, Error> {
    // Without a slot, that alone is said.
    let Some(slot) = &first.slot else { return Ok(None) };
    let (worker, system, stored) = (&log.worker, &last.system, log.position.as_ref());
    let is_unused = stored.is_none() && worker.is_unused(&server.client).await?;
    let switches = match stored {
        Some(stored) if stored.timeline != system.timeline => worker.switches(&mut server.replication, system).await?,
        _ => Vec::new(),
    };
    let is_completing = last.lease.is_some() && stored.is_some_and(|stored| stored.resnapshot_until_lsn.is_some());
    let (switches, kafka) = (switches.as_slice(), &log.kafka);
    let mut reason = checks::refusal(&Facts { slot, system, switches, kafka, stored, is_unused, is_completing });
    if reason.is_none() {
        reason = match checks::restored(&server.client, kafka, WINDOW).await {
            // A moment's matter, or of a transaction that takes its time.
            Err(Error::Unseen { .. }) => None,
            outcome => outcome?,
        };
    }
    Ok(reason.map(|reason| format!("slot {}: {reason}", server.slot)))
}
