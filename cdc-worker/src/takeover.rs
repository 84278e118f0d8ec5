//! From a held lease to a running stream, in the order that makes every earlier holder harmless:
//!
//! ```text
//!   lease ─▶ new producer, fencing the old ─▶ stored position ─▶ checks ─▶ end the slot's holder ─▶ START_REPLICATION
//! ```
//!
//! The position is read only after the fencing: from then on nobody else can add one. The holder's connection is ended
//! only after that: a worker that was stopped keeps its sockets, and with them the slot, until somebody does.

mod log;

use std::sync::Arc;
use std::time::Duration;

use runtime::{Config, Tracer};
use schemas::registry::Registry;
use schemas::{ChatEvent, Decoder, Encoder, PartitionEnd, Position, Record, User};

use crate::checks::{self, Facts, KafkaFacts};
use crate::error::Error;
use crate::failpoint::Failpoints;
use crate::lease::Held;
use crate::lsn::Lsn;
use crate::mapping::Mapping;
use crate::position::mark_of;
use crate::progress::Mark;
use crate::publisher::{Fenced, Identity, Publisher, Task};
use crate::record::{Topics, Writer};
use crate::replication::{Connection, ReplicationError, ReplicationStream, Switch, System};
use crate::resnapshot::Completing;
use crate::sequence::Sequence;
use crate::transaction::Place;
use crate::withheld::Withheld;

/// How often the slot is asked for while its old holder is ending.
const SLOT_RETRY: Duration = Duration::from_millis(20);
/// How many times.
const SLOT_ATTEMPTS: u32 = 250;
/// How long transactions may take that were published and can't be seen yet.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);

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
    /// The slot is confirmed up to here; the stream begins there.
    pub(crate) confirmed: Lsn,
    /// How far the chats are that were published last.
    pub(crate) sequence: Sequence,
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
        Box::pin(self.take_over_for(held, None)).await
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
        if let Some(problem) = checks::publication_is_fit(&client, &self.config).await? {
            tracing::warn!(problem, "rows of tables that make no events are passed over");
        }
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
        if let Some(reason) = checks::restored(&client, &kafka, VISIBLE_WITHIN).await? {
            return Err(self.refused(reason));
        }
        let mark = stored.as_ref().map_or(Mark { place: Place::START, confirmable: slot.confirmed_flush_lsn }, mark_of);
        let withheld = Withheld::read(&client).await?;
        let mapping = Mapping::new(checks::event_tables(&client).await?);
        // Not from where the position stands: whether what the server sends up to there is what was published is seen, too.
        let confirmed = slot.confirmed_flush_lsn.min(mark.confirmable);
        let Some(stream) = self.start_stream(&client, connection, confirmed, held).await? else { return Ok(None) };
        let sequence = Sequence::after(&kafka.last_events);
        let ends = stored.map(|stored| stored.partitions).unwrap_or_default();
        let until = completing.as_ref().map(Completing::until);
        let publisher = self.publisher(fenced, &system, kafka, ends, mark, until)?;
        let (writer, stored) = (self.writer(), mark);
        Ok(Some(Session { stream, publisher, mapping, writer, stored, confirmed, sequence, completing, withheld }))
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

    async fn start_stream(
        &self,
        client: &tokio_postgres::Client,
        first: Connection,
        from: Lsn,
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
            match connection.start(&self.slot, &self.publication, from).await {
                Err(error) if error.is_slot_active() && attempt < SLOT_ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(SLOT_RETRY).await;
                }
                Err(error) if error.may_lack_slot() => return Err(self.without_slot(client, error).await?),
                outcome => return Ok(Some(outcome?)),
            }
        }
    }

    /// What to say of a slot that was there a moment ago.
    async fn without_slot(&self, client: &tokio_postgres::Client, error: ReplicationError) -> Result<Error, Error> {
        let reason = match checks::slot_facts(client, &self.slot).await? {
            Some(slot) => checks::slot_refusal(&slot),
            None => Some(checks::without_slot(client).await),
        };
        Ok(reason.map_or_else(|| error.into(), |reason| self.refused(reason)))
    }

    pub(crate) fn refused(&self, reason: String) -> Error {
        Error::Refused { slot: self.slot.clone(), reason }
    }
}
