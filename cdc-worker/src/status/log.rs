//! What Kafka says: a window of the topics, the newest position, and whether it fits the topics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use runtime::Config;
use schemas::Position;

use crate::checks::{self, KafkaFacts, LastEvent, LastRecords};
use crate::error::Error;
use crate::failpoint::Failpoints;
use crate::lsn::Lsn;
use crate::position::{self, Looker, mark_of};
use crate::record::Topics;
use crate::takeover::Worker;

/// Of one wait for records.
const POLL: Duration = Duration::from_millis(50);
/// A transaction that is open for so long isn't just one that was met on its way.
const OPEN_FOR: Duration = Duration::from_secs(1);

/// Ready to watch from where the topics ended.
pub(super) struct Log {
    worker: Worker,
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
    last: LastRecords,
}

/// What was seen.
pub(super) struct Seen {
    /// What a start would ask with.
    pub(super) worker: Worker,
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

impl Log {
    /// Where the topics end, the position and the last events.
    pub(super) async fn prepare(config: &Config) -> Result<Self, Error> {
        let worker = Worker::prepare(Arc::new(config.clone()), Failpoints::default()).await?;
        let (shared, topics, slot) = (Arc::clone(&worker.config), worker.topics.clone(), worker.slot.clone());
        let mut looked = blocking(move || look(&shared, &topics, &slot)).await?;
        let last_events = worker.events_in(&looked.last.events).await?;
        let position = worker.position_in(looked.position.take()).await?;
        Ok(Self { worker, looked, position, last_events })
    }

    /// Watches for a time, and looks when all of the WAL up to `wal_end` is published.
    pub(super) async fn watch(self, wal_end: Lsn, window: Duration) -> Result<Seen, Error> {
        let looked_at = Instant::now();
        let Self { worker, mut looked, mut position, last_events } = self;
        let last_changes = std::mem::take(&mut looked.last.changes);
        let covers = |position: &Position| Lsn::from_bits(position.confirmable_lsn) >= wal_end;
        let mut covered_after = position.as_ref().is_some_and(covers).then_some(Duration::ZERO);
        let newest_before = looked.last.events.iter().filter_map(|raw| raw.timestamp_ms).max();
        let (config, topics) = (Arc::clone(&worker.config), worker.topics.clone());
        let (watched, slot) = (topics.clone(), worker.slot.clone());
        let seen = blocking(move || watch(looked, &watched, &slot, looked_at + window)).await?;
        let Window { consumer, positions: records, events, counted, newest_event_ms } = seen;
        let mut has_moved = false;
        for (at, bytes) in records {
            let Some(newer) = worker.position_in(Some(bytes)).await? else { continue };
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
            let all = position::looker_at_all(&config)?;
            // Read after the position, which so can't speak of later offsets.
            kafka.ends = checks::ends_of(&all, &partitions)?;
            let has_open = needs_open && checks::open_transaction(&consumer, &all, &topics, OPEN_FOR)?.is_some();
            Ok((kafka, has_open))
        })
        .await?;
        (kafka.last_events, kafka.last_changes) = (last_events, last_changes);
        let newest_event_ms = newest_event_ms.max(newest_before);
        Ok(Seen { worker, position, has_moved, covered_after, events, counted, newest_event_ms, has_open, kafka })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::PublisherGone))
}

fn look(config: &Config, topics: &Topics, slot: &str) -> Result<Looked, Error> {
    let consumer = position::looker(config)?;
    let mut ends = Vec::new();
    for topic in [&topics.events, &topics.positions] {
        for partition in checks::partitions_of(&consumer, topic)? {
            ends.push((topic.clone(), partition, checks::end_of(&consumer, topic, partition)?));
        }
    }
    let at = Instant::now();
    // The last records before the position: one that is past it was published without it.
    let last = checks::last_records(&consumer, topics)?;
    let position = position::read_bytes(&consumer, topics, slot)?;
    Ok(Looked { consumer, ends, at, position, last })
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
