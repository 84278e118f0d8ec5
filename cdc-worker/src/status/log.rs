//! What Kafka says: a window of the topics, the newest position, and whether it fits the topics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use runtime::Config;
use schemas::registry::Registry;
use schemas::{ChatEvent, Decoder, Position, Record};

use crate::checks::{self, KafkaFacts, LastEvent};
use crate::error::Error;
use crate::lsn::Lsn;
use crate::position::{self, Looker, mark_of};
use crate::record::Topics;
use crate::transaction::Place;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of one wait for records.
const POLL: Duration = Duration::from_millis(50);
/// A transaction that is open for so long isn't just one that was met on its way.
const OPEN_FOR: Duration = Duration::from_secs(1);

/// Ready to watch from where the topics ended.
pub(super) struct Log {
    positions: Positions,
    topics: Topics,
    config: Config,
    looked: Looked,
    position: Option<Position>,
    last_events: Vec<LastEvent>,
}

/// What the blocking part of the preparation found.
struct Looked {
    consumer: Looker,
    /// Where committed records ended, of the partitions of events and positions.
    ends: Vec<(String, i32, i64)>,
    at: Instant,
    position: Option<Vec<u8>>,
    last_events: Vec<checks::Raw>,
}

/// What was seen.
pub(super) struct Seen {
    /// The newest position, at the end of the window.
    pub(super) position: Option<Position>,
    /// Whether rows were published in the window; an idle slot's positions move without any.
    pub(super) has_moved: bool,
    /// How long after the first look a position was seen that covers all WAL of then.
    pub(super) covered_after: Option<Duration>,
    /// Events that appeared.
    pub(super) events: u64,
    /// In which time.
    pub(super) counted: Duration,
    /// When the newest published event occurred, by the server's clock.
    pub(super) newest_event_ms: Option<i64>,
    /// Whether there are records of a transaction that is still open; looked at only if no position covers.
    pub(super) has_open: bool,
    /// What a start compares.
    pub(super) kafka: KafkaFacts,
}

/// What the window showed.
struct Window {
    consumer: Looker,
    positions: Vec<(Instant, Vec<u8>)>,
    events: u64,
    counted: Duration,
    newest_event_ms: Option<i64>,
}

/// Decodes positions.
struct Positions {
    registry: Arc<Registry>,
    own_id: u32,
}

impl Positions {
    async fn decode(&self, bytes: Vec<u8>) -> Result<Option<Position>, Error> {
        position::decode(Arc::clone(&self.registry), self.own_id, Some(bytes)).await
    }
}

impl Log {
    /// Where the topics end, the position and the last events.
    pub(super) async fn prepare(config: &Config) -> Result<Self, Error> {
        let names = config.names();
        let (topics, slot) = (Topics::new(&names), names.slot());
        let registry = Arc::new(Registry::new(config.registry.url.expose(), names.prefix())?);
        let positions = Positions { own_id: id_of::<Position>(&registry).await?, registry: Arc::clone(&registry) };
        let events = Decoder::<ChatEvent>::new(Arc::clone(&registry), id_of::<ChatEvent>(&registry).await?);
        let mut looked = {
            let (config, topics) = (config.clone(), topics.clone());
            blocking(move || look(&config, &topics, &slot)).await?
        };
        let mut last_events = Vec::new();
        for raw in &looked.last_events {
            let ChatEvent { origin, .. } = events.decode(&raw.value).await?;
            let place = Place { commit_lsn: Lsn::from_bits(origin.commit_lsn), ordinal: origin.ordinal };
            let (topic, partition, offset) = (topics.events.clone(), raw.partition, raw.offset);
            last_events.push(LastEvent { topic, partition, offset, place });
        }
        let position = match looked.position.take() {
            Some(bytes) => positions.decode(bytes).await?,
            None => None,
        };
        Ok(Self { positions, topics, config: config.clone(), looked, position, last_events })
    }

    /// Watches for a time, and looks when all of the WAL up to `wal_end` is published.
    pub(super) async fn watch(self, wal_end: Lsn, window: Duration) -> Result<Seen, Error> {
        let looked_at = Instant::now();
        let Self { positions, topics, config, looked, mut position, last_events } = self;
        let covers = |position: &Position| Lsn::from_bits(position.confirmable_lsn) >= wal_end;
        let mut covered_after = position.as_ref().is_some_and(covers).then_some(Duration::ZERO);
        let newest_before = looked.last_events.iter().filter_map(|raw| raw.timestamp_ms).max();
        let (watched_topics, slot) = (topics.clone(), config.names().slot());
        let seen = blocking(move || watch(looked, &watched_topics, &slot, looked_at + window)).await?;
        let Window { consumer, positions: records, events, counted, newest_event_ms } = seen;
        let mut has_moved = false;
        for (at, bytes) in records {
            let Some(newer) = positions.decode(bytes).await? else { continue };
            if covered_after.is_none() && covers(&newer) {
                covered_after = Some(at.saturating_duration_since(looked_at));
            }
            has_moved |= position.as_ref().map(mark_of).map(|mark| mark.place) != Some(mark_of(&newer).place);
            position = Some(newer);
        }
        let partitions = position.as_ref().map(|position| position.partitions.clone()).unwrap_or_default();
        let needs_open = covered_after.is_none();
        let (mut kafka, has_open) = blocking(move || {
            let mut kafka = checks::kafka_facts(&consumer, &topics)?;
            // Read after the position, which so can't speak of later offsets.
            kafka.ends = checks::ends_of(&consumer, &partitions)?;
            let has_open = needs_open && has_open(&consumer, &position::looker_at_all(&config)?, &topics)?;
            Ok((kafka, has_open))
        })
        .await?;
        kafka.last_events = last_events;
        let newest_event_ms = newest_event_ms.max(newest_before);
        Ok(Seen { position, has_moved, covered_after, events, counted, newest_event_ms, has_open, kafka })
    }
}

async fn id_of<R: Record>(registry: &Registry) -> Result<u32, Error> {
    registry.id_of::<R>().await.map_err(|source| Error::Schema { record: R::NAME, source })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::PublisherGone))
}

/// The end of a partition; of a consumer of committed records, the end of what is decided.
fn end(consumer: &Looker, topic: &str, partition: i32) -> Result<i64, Error> {
    let ends = consumer.fetch_watermarks(topic, partition, PATIENCE);
    Ok(ends.map_err(Error::kafka(format!("reading the end of {topic}/{partition}")))?.1)
}

fn look(config: &Config, topics: &Topics, slot: &str) -> Result<Looked, Error> {
    let consumer = position::looker(config)?;
    let mut ends = Vec::new();
    for topic in [&topics.events, &topics.positions] {
        for partition in checks::partitions_of(&consumer, topic)? {
            ends.push((topic.clone(), partition, end(&consumer, topic, partition)?));
        }
    }
    let at = Instant::now();
    // The last events before the position: one that is past it was published without it.
    let last_events = checks::last_events(&consumer, topics)?;
    let position = position::read_bytes(&consumer, topics, slot)?;
    Ok(Looked { consumer, ends, at, position, last_events })
}

/// Counts what appears until a moment, from where the topics ended when they were looked at.
fn watch(looked: Looked, topics: &Topics, slot: &str, until: Instant) -> Result<Window, Error> {
    let Looked { consumer, ends, at, .. } = looked;
    let failed = || Error::kafka(format!("reading {} and {}", topics.events, topics.positions));
    let mut assignment = TopicPartitionList::new();
    for (topic, partition, offset) in &ends {
        assignment.add_partition_offset(topic, *partition, Offset::Offset(*offset)).map_err(failed())?;
    }
    consumer.assign(&assignment).map_err(failed())?;
    let (mut positions, mut events, mut newest_event_ms) = (Vec::new(), 0, None);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        // Ends of partitions are told as errors; a real one shows itself at the next question.
        let Some(Ok(record)) = consumer.poll(left.min(POLL)) else { continue };
        if record.topic() == topics.events {
            events += 1;
            newest_event_ms = newest_event_ms.max(record.timestamp().to_millis());
        } else if let (true, Some(value)) = (record.key() == Some(slot.as_bytes()), record.payload()) {
            positions.push((Instant::now(), value.to_vec()));
        }
    }
    let counted = at.elapsed();
    consumer.unassign().map_err(failed())?;
    Ok(Window { consumer, positions, events, counted, newest_event_ms })
}

/// Whether records stay neither committed nor aborted.
fn has_open(committed: &Looker, all: &Looker, topics: &Topics) -> Result<bool, Error> {
    let began = Instant::now();
    for topic in [&topics.events, &topics.users, &topics.positions] {
        for partition in checks::partitions_of(committed, topic)? {
            let written = end(all, topic, partition)?;
            while end(committed, topic, partition)? < written {
                if began.elapsed() > OPEN_FOR {
                    return Ok(true);
                }
                // Nothing is assigned: this waits, and serves the client meanwhile.
                let _ = committed.poll(POLL);
            }
        }
    }
    Ok(false)
}
