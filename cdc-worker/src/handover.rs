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

use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::Config;
use runtime::retry::Backoff;
use schemas::registry::Registry;
use schemas::{Encoder, Position, Record};
use tokio_postgres::Client;

use crate::checks::{self, KafkaFacts};
use crate::error::Error;
use crate::lsn::Lsn;
use crate::position;
use crate::publisher::Fenced;
use crate::record::Topics;
use crate::replication::{Connection, System};
use crate::transaction::Place;

/// Between two looks at how far the worker is.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long writing the position is tried while others do, or Kafka is away.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

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
    let compared = heads::are_equal(&work.config, &work.registry, &work.topics, &client).await?;
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

/// What each step needs.
struct Work {
    config: Arc<Config>,
    registry: Arc<Registry>,
    position_id: u32,
    topics: Topics,
    slot: String,
}

impl Work {
    async fn open(config: &Config) -> Result<Self, Error> {
        let names = config.names();
        let registry = Arc::new(Registry::new(config.registry.url.expose(), names.prefix())?);
        let position_id =
            registry.id_of::<Position>().await.map_err(|source| Error::Schema { record: Position::NAME, source })?;
        let (topics, slot) = (Topics::new(&names), names.slot());
        Ok(Self { config: Arc::new(config.clone()), registry, position_id, topics, slot })
    }

    /// The configured server and who it is.
    async fn server(&self) -> Result<(Client, System), Error> {
        let client = checks::connect(&self.config).await?;
        let system = Connection::open(&checks::server(&self.config)?).await?.identify().await?;
        Ok((client, system))
    }

    /// The position as it stands, in nobody's way.
    async fn stored(&self) -> Result<Position, Error> {
        let (config, topics, slot) = (Arc::clone(&self.config), self.topics.clone(), self.slot.clone());
        let read = move || position::read_bytes(&position::looker(&config)?, &topics, &slot);
        let bytes = tokio::task::spawn_blocking(read).await.unwrap_or(Err(Error::PublisherGone))?;
        self.decode(bytes).await
    }

    async fn decode(&self, bytes: Option<Vec<u8>>) -> Result<Position, Error> {
        let stored = position::decode(Arc::clone(&self.registry), self.position_id, bytes).await?;
        let stored =
            stored.ok_or_else(|| self.refused("it has no position in Kafka: `waltalkie migrate` first".into()))?;
        if stored.resnapshot_until_lsn.is_some() {
            return Err(self.refused("the history is being completed from the tables; let that end first".into()));
        }
        Ok(stored)
    }

    /// Takes over the slot's transactional ids and writes another position in place of the stored one. Others may do the
    /// same meanwhile, such as a worker that starts over: tried again then.
    async fn rewrite(
        &self,
        next: impl Fn(Position, &KafkaFacts, Vec<schemas::PartitionEnd>) -> Result<Position, Error>,
    ) -> Result<Position, Error> {
        let deadline = Instant::now() + WRITE_PATIENCE;
        let mut backoff = Backoff::default();
        loop {
            match self.try_rewrite(&next).await {
                Err(error) if error.is_transient() && Instant::now() < deadline => {
                    tracing::debug!(error = %error.chain(), "the position isn't written yet; trying again");
                    tokio::time::sleep(backoff.next_pause()).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_rewrite(
        &self,
        next: &impl Fn(Position, &KafkaFacts, Vec<schemas::PartitionEnd>) -> Result<Position, Error>,
    ) -> Result<Position, Error> {
        let (config, topics, slot) = (Arc::clone(&self.config), self.topics.clone(), self.slot.clone());
        let take_over = move || {
            let fenced = Fenced::take_over(&config, &slot)?;
            let consumer = position::looker(&config)?;
            if let Some(undecided) = checks::undecided(&consumer, &position::looker_at_all(&config)?, &topics)? {
                return Err(Error::Refused { slot, reason: undecided.to_string() });
            }
            let bytes = position::read_bytes(&consumer, &topics, &slot)?;
            let kafka = checks::kafka_facts(&consumer, &topics)?;
            let ends = checks::present_ends(&consumer, &topics, &kafka)?;
            Ok((fenced, bytes, kafka, ends))
        };
        let (fenced, bytes, mut kafka, ends) =
            tokio::task::spawn_blocking(take_over).await.unwrap_or(Err(Error::PublisherGone))?;
        kafka.ends =
            ends.iter().map(|end| ((end.topic_name.clone(), end.partition_number), end.last_offset + 1)).collect();
        let stored = self.decode(bytes).await?;
        let position = Position { written_at: runtime::clock::now_ms(), ..next(stored, &kafka, ends)? };
        let (topic, encoder) = (self.topics.positions.clone(), Encoder::new(self.position_id));
        let written = position.clone();
        tokio::task::spawn_blocking(move || fenced.publish_position(&topic, &written, &encoder))
            .await
            .unwrap_or(Err(Error::PublisherGone))?;
        Ok(position)
    }

    /// Waits until the worker has published and confirmed everything up to an LSN.
    async fn wait_until_published(&self, client: &Client, end: Lsn, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        loop {
            let Some(slot) = checks::slot_facts(client, &self.slot).await? else {
                return Err(self.refused("it isn't there, so nothing can be published from it".into()));
            };
            // The position is looked at last: reading Kafka costs more.
            let mut published = slot.confirmed_flush_lsn;
            if published >= end {
                published = Lsn::from_bits(self.stored().await?.confirmable_lsn);
                if published >= end {
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                return Err(self.refused(format!(
                    "published up to {published}, and the pause began at {end}: is a worker running, and well \
                     (`waltalkie cdc status`)? Writing stays paused: run `waltalkie cdc handover begin` again, or `cancel`"
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the tables hold what they held when the pause began, as far as they tell of it.
    async fn data_are_moved(&self, client: &Client, handed_over_at: i64) -> Result<(), Error> {
        let Some(pause) = migrations::find_pause(client).await? else {
            return Err(self.refused(
                "table installation of the new server has no row `handover`: the data were copied before `begin`, or that \
                 table wasn't. Copy all tables of the truth database, after `begin`"
                    .into(),
            ));
        };
        if pause.began_at != handed_over_at {
            return Err(self.refused(format!(
                "the data are from another hand-over (at {}, this one at {handed_over_at}, ms since 1970): copy them again",
                pause.began_at
            )));
        }
        if !pause.has_offsets {
            return Err(self.refused(
                "table consumer_offset isn't as it was when the pause began: copy it again, or commands would be decided \
                 twice or never"
                    .into(),
            ));
        }
        Ok(())
    }

    /// A new slot. One that is there already saw nothing that isn't published, or came with `pg_upgrade`.
    async fn make_slot(&self, client: &Client) -> Result<Lsn, Error> {
        client
            .execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1",
                &[&self.slot],
            )
            .await
            .map_err(Error::query("dropping the slot that is there (stop the CDC workers on this server)"))?;
        let made = migrations::ensure_slot(client, &self.config.names()).await?;
        let made = made.ok_or_else(|| self.refused("somebody else has made it just now; run finish again".into()))?;
        Ok(Lsn(made.consistent_lsn))
    }

    fn is_of(&self, stored: &Position, system: &System) -> Result<(), Error> {
        if stored.system_identifier == system.identifier {
            return Ok(());
        }
        Err(self.refused(format!(
            "the position is on the Postgres cluster {}, this is {}: point postgres.truth_url at the server that is \
             published from",
            stored.system_identifier, system.identifier
        )))
    }

    fn is_kafkas(&self, stored: &Position, kafka: &KafkaFacts) -> Result<(), Error> {
        checks::kafka_refusal(kafka, stored).map_or(Ok(()), |reason| Err(self.refused(reason)))
    }

    fn refused(&self, reason: String) -> Error {
        Error::Handover { slot: self.slot.clone(), reason }
    }
}
