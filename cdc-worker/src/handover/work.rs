//! What the steps of a hand-over are made of: the server, the position, the slot, and whether they belong together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::Config;
use runtime::retry::Backoff;
use schemas::registry::Registry;
use schemas::{Encoder, PartitionEnd, Position, Record};
use tokio_postgres::Client;

use crate::checks::{self, KafkaFacts};
use crate::error::Error;
use crate::lsn::Lsn;
use crate::position;
use crate::publisher::Fenced;
use crate::record::Topics;
use crate::replication::{Connection, System};

/// Between two looks at how far the worker is.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long writing the position is tried while others do, or Kafka is away.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// What each step needs.
pub(super) struct Work {
    pub(super) config: Arc<Config>,
    pub(super) registry: Arc<Registry>,
    position_id: u32,
    pub(super) topics: Topics,
    pub(super) slot: String,
}

impl Work {
    pub(super) async fn open(config: &Config) -> Result<Self, Error> {
        let names = config.names();
        let registry = Arc::new(Registry::new(config.registry.url.expose(), names.prefix())?);
        let position_id =
            registry.id_of::<Position>().await.map_err(|source| Error::Schema { record: Position::NAME, source })?;
        let (topics, slot) = (Topics::new(&names), names.slot());
        Ok(Self { config: Arc::new(config.clone()), registry, position_id, topics, slot })
    }

    /// The configured server and who it is.
    pub(super) async fn server(&self) -> Result<(Client, System), Error> {
        let client = checks::connect(&self.config).await?;
        let system = Connection::open(&checks::slot_server(&self.config)?).await?.identify().await?;
        Ok((client, system))
    }

    /// The position as it stands, in nobody's way.
    pub(super) async fn stored(&self) -> Result<Position, Error> {
        let (config, topics, slot) = (Arc::clone(&self.config), self.topics.clone(), self.slot.clone());
        let read = move || position::read_bytes(&position::looker(&config)?, &topics, &slot);
        let bytes = tokio::task::spawn_blocking(read).await.unwrap_or(Err(Error::PublisherGone))?;
        self.decode(bytes).await
    }

    async fn decode(&self, bytes: Option<Vec<u8>>) -> Result<Position, Error> {
        let decoded = position::decode(Arc::clone(&self.registry), self.position_id, bytes).await;
        let place = || format!("the position in {}", self.topics.positions);
        let stored = decoded.map_err(|error| checks::unreadable(&self.slot, &place(), error))?;
        let stored =
            stored.ok_or_else(|| self.refused("it has no position in Kafka: `waltalkie migrate` first".into()))?;
        if stored.resnapshot_until_lsn.is_some() {
            return Err(self.refused("the history is being completed from the tables; let that end first".into()));
        }
        Ok(stored)
    }

    /// Takes over the slot's transactional ids and writes another position in place of the stored one. Others may do the
    /// same meanwhile, such as a worker that starts over: tried again then.
    pub(super) async fn rewrite(
        &self,
        next: impl Fn(Position, &KafkaFacts, Vec<PartitionEnd>) -> Result<Position, Error>,
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
        next: &impl Fn(Position, &KafkaFacts, Vec<PartitionEnd>) -> Result<Position, Error>,
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
        let (mut fenced, bytes, mut kafka, ends) =
            tokio::task::spawn_blocking(take_over).await.unwrap_or(Err(Error::PublisherGone))?;
        kafka.ends =
            ends.iter().map(|end| ((end.topic_name.clone(), end.partition_number), end.last_offset + 1)).collect();
        let stored = self.decode(bytes).await?;
        let position = Position { written_at: runtime::clock::now_ms(), ..next(stored, &kafka, ends)? };
        let encoder = Encoder::new(self.position_id);
        let written = position.clone();
        tokio::task::spawn_blocking(move || fenced.publish_position(&written, &encoder))
            .await
            .unwrap_or(Err(Error::PublisherGone))?;
        Ok(position)
    }

    /// Waits until the worker has published and confirmed everything up to an LSN.
    pub(super) async fn wait_until_published(
        &self,
        client: &Client,
        end: Lsn,
        patience: Duration,
    ) -> Result<(), Error> {
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
    pub(super) async fn data_are_moved(&self, client: &Client, handed_over_at: i64) -> Result<(), Error> {
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
    pub(super) async fn make_slot(&self, client: &Client) -> Result<Lsn, Error> {
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

    pub(super) fn is_of(&self, stored: &Position, system: &System) -> Result<(), Error> {
        if stored.system_identifier == system.identifier {
            return Ok(());
        }
        Err(self.refused(format!(
            "the position is on the Postgres cluster {}, this is {}: point postgres.truth_url at the server that is \
             published from",
            stored.system_identifier, system.identifier
        )))
    }

    pub(super) fn is_kafkas(&self, stored: &Position, kafka: &KafkaFacts) -> Result<(), Error> {
        checks::kafka_refusal(kafka, stored).map_or(Ok(()), |reason| Err(self.refused(reason)))
    }

    pub(super) fn refused(&self, reason: String) -> Error {
        Error::Handover { slot: self.slot.clone(), reason }
    }
}
