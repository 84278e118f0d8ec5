//! A planned move of the database to another server, whose LSNs have nothing to do with those of the old one.
//!
//! ```text
//!   begin (old server):  pause writes ─▶ wait until all is published ─▶ position: handed over
//!   somebody:            moves the data
//!   finish (new server): data are those of the pause? heads = history? ─▶ slot ─▶ position: here, from now on ─▶ resume
//! ```
//!
//! *Guarantees.* While the position says that it is handed over no worker streams, on whatever server. It says so only when
//! every commit before the pause is in Kafka, and there is none after it. `finish` starts anew only where each chat and
//! each person stands in the tables as in the history: nothing is lost, repeated, or written past the pause.
//!
//! *Failure.* Each step may be run again after it failed or was killed: writing stays paused until `finish` or `cancel`. The
//! position is written under the slot's transactional ids, so that of two that run at once one fails.

mod heads;
mod work;

use std::time::Duration;

use runtime::Config;
use schemas::Position;

use crate::error::Error;
use crate::lsn::Lsn;
use crate::transaction::Place;
use work::Work;

/// What `begin` has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    /// When the pause began.
    pub at: i64,
    /// Everything is published up to here, and nothing follows.
    pub published_to: Lsn,
}

/// What `finish` has found and made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// Streaming goes on from a slot that was made now.
    Now {
        /// Chats whose heads were compared.
        chats: usize,
        /// People that were compared.
        people: usize,
        /// Where the new slot begins.
        from: Lsn,
    },
    /// The position was on this server already; writing goes on.
    Before,
}

/// Pauses writing, waits until everything is published, and records that the database is handed over.
///
/// A worker must be running. If it doesn't get there in time, writing stays paused and this may be called again.
pub async fn begin(config: &Config, patience: Duration) -> Result<HandedOver, Error> {
    let work = Work::open(config).await?;
    let (mut client, system) = work.server().await?;
    let stored = work.stored().await?;
    work.is_of(&stored, &system)?;
    if let Some(at) = stored.handed_over_at {
        return Ok(HandedOver { at, published_to: Lsn::from_bits(stored.confirmable_lsn) });
    }
    let pause = migrations::pause(&mut client, runtime::clock::now_ms()).await?;
    let row = client
        .query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint", &[])
        .await
        .map_err(Error::query("reading the end of the WAL"))?;
    let end = Lsn::from_bits(row.get(0));
    work.wait_until_published(&client, end, patience).await?;
    let written = work
        .rewrite(|stored, kafka, ends| {
            work.is_of(&stored, &system)?;
            work.is_kafkas(&stored, kafka)?;
            Ok(Position { handed_over_at: Some(pause.began_at), partitions: ends, ..stored })
        })
        .await?;
    Ok(HandedOver { at: pause.began_at, published_to: Lsn::from_bits(written.confirmable_lsn) })
}

/// On the new server, with the data moved: streams from here on, and lets everybody write.
pub async fn finish(config: &Config) -> Result<Finished, Error> {
    let work = Work::open(config).await?;
    let (mut client, system) = work.server().await?;
    let stored = work.stored().await?;
    let is_here = stored.system_identifier == system.identifier;
    let Some(handed_over_at) = stored.handed_over_at else {
        if is_here {
            migrations::resume(&client).await?;
            return Ok(Finished::Before);
        }
        return Err(work.refused(
            "it isn't handed over: run `waltalkie cdc handover begin` on the old server first, then move the data"
                .into(),
        ));
    };
    if is_here {
        return Err(work.refused(format!(
            "this is the server that was handed over (system identifier {}): point postgres.truth_url at the new one, or \
             run `waltalkie cdc handover cancel` to stay here",
            system.identifier
        )));
    }
    let problems = migrations::server_problems(&client).await?;
    if !problems.is_empty() {
        return Err(work.refused(problems.join("; ")));
    }
    work.data_are_moved(&client, handed_over_at).await?;
    // Whether or not the triggers came with the data.
    migrations::pause(&mut client, handed_over_at).await?;
    let compared = heads::are_equal(&work.config, &work.registry, &work.topics, &work.slot, &client).await?;
    let (chats, people) = match compared {
        Ok(numbers) => numbers,
        Err(difference) => {
            migrations::let_copy(&client).await?;
            return Err(work.refused(difference));
        }
    };
    migrations::ensure_publication(&client, &config.names()).await?;
    let from = work.make_slot(&client).await?;
    work.rewrite(|stored, kafka, ends| {
        if stored.handed_over_at != Some(handed_over_at) {
            return Err(work.refused("somebody else has finished or cancelled the hand-over meanwhile".into()));
        }
        work.is_kafkas(&stored, kafka)?;
        Ok(Position {
            system_identifier: system.identifier.clone(),
            timeline: system.timeline,
            commit_lsn: Place::START.commit_lsn.to_bits(),
            ordinal: Place::START.ordinal,
            confirmable_lsn: from.to_bits(),
            partitions: ends,
            handed_over_at: None,
            ..stored
        })
    })
    .await?;
    migrations::resume(&client).await?;
    Ok(Finished::Now { chats, people, from })
}

/// On the old server: everything goes on there, as if nothing had been asked.
pub async fn cancel(config: &Config) -> Result<(), Error> {
    let work = Work::open(config).await?;
    let (client, system) = work.server().await?;
    let stored = work.stored().await?;
    work.is_of(&stored, &system)?;
    if stored.handed_over_at.is_some() {
        work.rewrite(|stored, _, _| {
            work.is_of(&stored, &system)?;
            Ok(Position { handed_over_at: None, ..stored })
        })
        .await?;
    }
    Ok(migrations::resume(&client).await?)
}
