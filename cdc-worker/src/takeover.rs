//! From a held lease to a running stream, in the order that makes every earlier holder harmless:
//!
//! ```text
//!   lease ─▶ new producer, fencing the old ─▶ stored position ─▶ checks ─▶ end the slot's holder ─▶ START_REPLICATION
//! ```
//!
//! The position is read only after the fencing: from then on nobody else can add one. The holder's connection is ended
//! only after that: a worker that was stopped keeps its sockets, and with them the slot, until somebody does.

use std::sync::Arc;
use std::time::Duration;

use runtime::{Config, Tracer};
use schemas::registry::Registry;
use schemas::{ChatEvent, Decoder, Encoder, PartitionEnd, Position, Record, User};

use crate::checks::{self, Facts, KafkaFacts, LastEvent, Raw};
use crate::error::Error;
use crate::failpoint::{Failpoints, Point};
use crate::lease::Held;
use crate::lsn::Lsn;
use crate::mapping::Mapping;
use crate::position::{self, Looker, mark_of};
use crate::progress::Mark;
use crate::publisher::{Fenced, Identity, Publisher, Task};
use crate::record::{Topics, Writer};
use crate::replication::{Connection, ReplicationStream, Switch, System};
use crate::resnapshot::Completing;
use crate::transaction::Place;
use crate::withheld::Withheld;

/// How often the slot is asked for while its old holder is ending.
const SLOT_RETRY: Duration = Duration::from_millis(20);
/// How many times.
const SLOT_ATTEMPTS: u32 = 250;

/// What a worker knows from its start on.
pub(crate) struct Worker {
    pub(crate) config: Arc<Config>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) schema_ids: SchemaIds,
    pub(crate) topics: Topics,
    pub(crate) slot: String,
    pub(crate) publication: String,
    pub(crate) failpoints: Failpoints,
    pub(crate) tracer: Tracer,
}

/// Ids that the registry gave our schemas.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchemaIds {
    event: u32,
    user: u32,
    position: u32,
}

/// A running stream and its publisher.
pub(crate) struct Session {
    pub(crate) stream: ReplicationStream,
    pub(crate) publisher: Publisher,
    pub(crate) mapping: Mapping,
    pub(crate) writer: Writer,
    pub(crate) stored: Mark,
    /// Set while the history is being completed from the tables.
    pub(crate) completing: Option<Completing>,
    /// Messages that were given up.
    pub(crate) withheld: Withheld,
}

impl SchemaIds {
    /// Asks the registry.
    pub(crate) async fn ask(registry: &Registry) -> Result<Self, Error> {
        Ok(Self {
            event: id_of::<ChatEvent>(registry).await?,
            user: id_of::<User>(registry).await?,
            position: id_of::<Position>(registry).await?,
        })
    }
}

async fn id_of<R: Record>(registry: &Registry) -> Result<u32, Error> {
    registry.id_of::<R>().await.map_err(|source| Error::Schema { record: R::NAME, source })
}

impl Worker {
    /// Asks the registry for what doesn't change while the worker lives.
    pub(crate) async fn prepare(config: Arc<Config>, failpoints: Failpoints) -> Result<Self, Error> {
        let names = config.names();
        let registry = Arc::new(config.registry_client()?);
        Ok(Self {
            schema_ids: SchemaIds::ask(&registry).await?,
            registry,
            topics: Topics::new(&names),
            slot: names.slot(),
            publication: names.publication(),
            config,
            failpoints,
            tracer: Tracer::default(),
        })
    }

    /// Starts a session under a held lease; `None` if the lease was lost on the way.
    pub(crate) async fn take_over(&self, held: &Held) -> Result<Option<Session>, Error> {
        self.take_over_for(held, None).await
    }

    /// The same, for who completes the history from the tables or for who doesn't.
    pub(crate) async fn take_over_for(
        &self,
        held: &Held,
        completing: Option<Completing>,
    ) -> Result<Option<Session>, Error> {
        let client = checks::connect(&self.config).await?;
        checks::settings_are_fit(&client, &self.config).await?;
        // A server to which the database is being moved lacks the slot as well as the publication, and says why.
        let Some(slot) = checks::slot_facts(&client, &self.slot).await? else {
            return Err(self.refused(checks::without_slot(&client).await));
        };
        checks::publication_is_fit(&client, &self.config).await?;
        let mut connection = Connection::open(&checks::slot_server(&self.config)?).await?;
        if !held.is_held() {
            // Fencing now would hit the worker that has the lease.
            return Ok(None);
        }
        let (fenced, stored, kafka) = self.fence_and_read().await?;
        if !held.is_held() {
            // Whoever has the lease now may have published meanwhile, and was just fenced: it begins anew.
            return Ok(None);
        }
        // After the position: an earlier end of the WAL would seem to be before what was published since.
        let system = connection.identify().await?;
        let is_unused = stored.is_none() && self.is_unused(&client).await?;
        let switches = match &stored {
            Some(stored) if stored.timeline != system.timeline => self.switches(&mut connection, &system).await?,
            _ => Vec::new(),
        };
        let (switches, stored_facts) = (switches.as_slice(), stored.as_ref());
        let facts = Facts {
            slot: &slot,
            system: &system,
            switches,
            kafka: &kafka,
            stored: stored_facts,
            is_unused,
            is_completing: completing.is_some(),
        };
        if let Some(reason) = checks::refusal(&facts) {
            return Err(self.refused(reason));
        }
        let mark = stored.as_ref().map_or(Mark { place: Place::START, confirmable: slot.confirmed_flush_lsn }, mark_of);
        let withheld = Withheld::read(&client).await?;
        let mapping = Mapping::new(checks::event_tables(&client).await?);
        let Some(stream) = self.start_stream(&client, connection, mark, held).await? else { return Ok(None) };
        let ends = stored.map(|stored| stored.partitions).unwrap_or_default();
        let until = completing.as_ref().map(Completing::until);
        let publisher = self.publisher(fenced, &system, kafka, ends, mark, until)?;
        Ok(Some(Session { stream, publisher, mapping, writer: self.writer(), stored: mark, completing, withheld }))
    }

    /// The thread that publishes after a mark.
    pub(crate) fn publisher(
        &self,
        fenced: Fenced,
        system: &System,
        kafka: KafkaFacts,
        ends: Vec<PartitionEnd>,
        stored: Mark,
        resnapshot_until: Option<Lsn>,
    ) -> Result<Publisher, Error> {
        Publisher::start(Task {
            fenced,
            topics: self.topics.clone(),
            source: format!("/waltalkie/{}", self.slot),
            identity: Identity {
                slot: self.slot.clone(),
                system_identifier: system.identifier.clone(),
                timeline: system.timeline,
                cluster_id: kafka.cluster_id,
                topic_ids: kafka.topic_ids,
                topics: kafka.topics,
                resnapshot_until,
            },
            ends,
            positions: self.positions(),
            stored,
            failpoints: self.failpoints.clone(),
        })
    }

    /// Makes records of changes.
    pub(crate) fn writer(&self) -> Writer {
        Writer::new(self.schema_ids.event, self.schema_ids.user)
    }

    /// Encodes positions.
    pub(crate) fn positions(&self) -> Encoder<Position> {
        Encoder::new(self.schema_ids.position)
    }

    /// Decodes events.
    pub(crate) fn events(&self) -> Decoder<ChatEvent> {
        Decoder::new(Arc::clone(&self.registry), self.schema_ids.event)
    }

    /// A new producer, then the position that no older producer can change any more, then what Kafka says of itself.
    pub(crate) async fn fence_and_read(&self) -> Result<(Fenced, Option<Position>, KafkaFacts), Error> {
        let (config, topics, slot) = (Arc::clone(&self.config), self.topics.clone(), self.slot.clone());
        let failpoints = self.failpoints.clone();
        let blocking = move || {
            if failpoints.dies_at(Point::Fencing) {
                return Err(Error::PublisherGone);
            }
            let fenced = Fenced::take_over(&config, &slot)?;
            let consumer = position::looker(&config)?;
            if let Some(undecided) = checks::undecided(&consumer, &position::looker_at_all(&config)?, &topics)? {
                return Err(Error::Refused { slot, reason: undecided.to_string() });
            }
            Ok::<_, Error>((fenced, consumer))
        };
        let (fenced, consumer) = tokio::task::spawn_blocking(blocking).await.unwrap_or(Err(Error::PublisherGone))?;
        let (stored, kafka) = self.read_with(consumer).await?;
        Ok((fenced, stored, kafka))
    }

    /// The position, and what Kafka says of itself. Without fencing both may change at any moment.
    pub(crate) async fn read_stored(&self) -> Result<(Option<Position>, KafkaFacts), Error> {
        self.read_with(position::looker(&self.config)?).await
    }

    async fn read_with(&self, consumer: Looker) -> Result<(Option<Position>, KafkaFacts), Error> {
        let (topics, slot) = (self.topics.clone(), self.slot.clone());
        let blocking = move || {
            let bytes = position::read_bytes(&consumer, &topics, &slot)?;
            let last = checks::last_events(&consumer, &topics)?;
            let kafka = checks::kafka_facts(&consumer, &topics)?;
            Ok::<_, Error>((bytes, last, kafka))
        };
        let (bytes, last, mut kafka) =
            tokio::task::spawn_blocking(blocking).await.unwrap_or(Err(Error::PublisherGone))?;
        let stored = self.position_in(bytes).await?;
        kafka.last_events = self.events_in(&last).await?;
        if let Some(stored) = &stored {
            let (config, partitions) = (Arc::clone(&self.config), stored.partitions.clone());
            let ends = move || checks::ends_of(&position::looker_at_all(&config)?, &partitions);
            kafka.ends = tokio::task::spawn_blocking(ends).await.unwrap_or(Err(Error::PublisherGone))?;
        }
        Ok((stored, kafka))
    }

    /// A position as it is stored.
    pub(crate) async fn position_in(&self, bytes: Option<Vec<u8>>) -> Result<Option<Position>, Error> {
        position::decode(Arc::clone(&self.registry), self.schema_ids.position, bytes).await
    }

    /// Where records of the history came from.
    pub(crate) async fn events_in(&self, records: &[Raw]) -> Result<Vec<LastEvent>, Error> {
        let decoder = self.events();
        let mut events = Vec::new();
        for record in records {
            let ChatEvent { origin, .. } = decoder.decode(&record.value).await?;
            events.push(LastEvent {
                topic: self.topics.events.clone(),
                partition: record.partition,
                offset: record.offset,
                place: Place { commit_lsn: Lsn::from_bits(origin.commit_lsn), ordinal: origin.ordinal },
            });
        }
        Ok(events)
    }

    /// Where the server's earlier timelines ended.
    pub(crate) async fn switches(&self, connection: &mut Connection, system: &System) -> Result<Vec<Switch>, Error> {
        if system.timeline == 1 {
            return Ok(Vec::new());
        }
        match connection.timeline_history(system.timeline).await {
            Err(error) if error.is_missing_file() => Err(self.refused(format!(
                "the server is on timeline {0} and lacks the file {0:08X}.history in pg_wal, which says where it left the \
                 earlier ones: copy it back from the WAL archive",
                system.timeline
            ))),
            outcome => Ok(outcome?),
        }
    }

    pub(crate) async fn is_unused(&self, client: &tokio_postgres::Client) -> Result<bool, Error> {
        if checks::has_rows(client).await? {
            return Ok(false);
        }
        let (config, topics) = (Arc::clone(&self.config), self.topics.clone());
        tokio::task::spawn_blocking(move || checks::is_log_empty(&position::looker(&config)?, &topics))
            .await
            .unwrap_or(Err(Error::PublisherGone))
    }

    async fn start_stream(
        &self,
        client: &tokio_postgres::Client,
        first: Connection,
        mark: Mark,
        held: &Held,
    ) -> Result<Option<ReplicationStream>, Error> {
        let mut connection = Some(first);
        let mut attempt = 0;
        loop {
            if !held.is_held() {
                // Whoever holds the slot may do so rightfully now.
                return Ok(None);
            }
            checks::end_holder(client, &self.slot).await?;
            let connection = match connection.take() {
                Some(connection) => connection,
                None => Connection::open(&checks::slot_server(&self.config)?).await?,
            };
            match connection.start(&self.slot, &self.publication, mark.confirmable).await {
                Err(error) if error.is_slot_active() && attempt < SLOT_ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(SLOT_RETRY).await;
                }
                outcome => return Ok(Some(outcome?)),
            }
        }
    }

    pub(crate) fn refused(&self, reason: String) -> Error {
        Error::Refused { slot: self.slot.clone(), reason }
    }
}
