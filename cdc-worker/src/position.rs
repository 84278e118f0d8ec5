//! The stored position: reading it, and writing the first one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use runtime::Config;
use runtime::kafka::{Quiet, client_config};
use runtime::retry::Backoff;
use schemas::registry::Registry;
use schemas::{Decoder, Encoder, FrameError, Position, Record};

use crate::error::Error;
use crate::progress::Mark;
use crate::publisher::Fenced;
use crate::record::Topics;
use crate::replication::Connection;
use crate::takeover::Worker;
use crate::transaction::Place;
use crate::{Lsn, checks};

/// How long reading may go without anything arriving.
const SILENCE: Duration = Duration::from_secs(10);
/// How long writing the first position is tried.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);
/// Records before the end among which the latest position is first looked for.
const TAIL_OFFSETS: i64 = 1_000;

/// What a stored position says of the slot.
pub fn mark_of(position: &Position) -> Mark {
    Mark {
        place: Place { commit_lsn: Lsn::from_bits(position.commit_lsn), ordinal: position.ordinal },
        confirmable: Lsn::from_bits(position.confirmable_lsn),
    }
}

/// A consumer that reads single partitions to their ends.
pub(crate) type Looker = BaseConsumer<Quiet>;

/// A consumer of committed records that reads single partitions to their ends, without a group.
pub(crate) fn looker(config: &Config) -> Result<Looker, Error> {
    looker_with(config, "read_committed")
}

/// The same of all records, whatever became of their transactions.
pub(crate) fn looker_at_all(config: &Config) -> Result<Looker, Error> {
    looker_with(config, "read_uncommitted")
}

/// Readers of committed records and of all, as a takeover needs both.
pub(crate) struct Lookers {
    pub(crate) committed: Looker,
    pub(crate) all: Looker,
}

impl Lookers {
    /// Makes both, and returns when they are connected; blocks.
    pub(crate) fn connect(config: &Config, topics: &Topics) -> Result<Self, Error> {
        let lookers = Self { committed: looker(config)?, all: looker_at_all(config)? };
        for looker in [&lookers.committed, &lookers.all] {
            checks::partitions_of(looker, &topics.positions)?;
        }
        Ok(lookers)
    }
}

fn looker_with(config: &Config, isolation: &str) -> Result<Looker, Error> {
    client_config(&config.kafka)
        .set("group.id", config.names().group("cdc"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "10")
        .create_with_context(Quiet)
        .map_err(Error::kafka("a consumer can't be made"))
}

/// The slot's latest committed position; blocks. Call it after taking over the transactional ids: then no earlier
/// producer can add one behind what is read here.
pub(crate) fn read_bytes(consumer: &Looker, topics: &Topics, slot: &str) -> Result<Option<Vec<u8>>, Error> {
    let topic = &topics.positions;
    let (low, high) =
        consumer.fetch_watermarks(topic, 0, SILENCE).map_err(Error::kafka(format!("reading the ends of {topic}")))?;
    let tail = (high - TAIL_OFFSETS).max(low);
    match scan(consumer, topic, slot, tail)? {
        None if tail > low => scan(consumer, topic, slot, low),
        found => Ok(found),
    }
}

/// The last record of the slot from an offset to the end of what is committed.
fn scan(consumer: &Looker, topic: &str, slot: &str, from: i64) -> Result<Option<Vec<u8>>, Error> {
    let mut latest = None;
    visit(consumer, &[(topic, 0)], Offset::Offset(from), |message| {
        if message.key() == Some(slot.as_bytes()) {
            latest = message.payload().map(<[u8]>::to_vec);
        }
        true
    })?;
    Ok(latest)
}

/// Reads partitions from an offset to their ends, or until the visitor has seen enough; blocks.
pub(crate) fn visit(
    consumer: &Looker,
    partitions: &[(&str, i32)],
    from: Offset,
    mut visitor: impl FnMut(&rdkafka::message::BorrowedMessage<'_>) -> bool,
) -> Result<(), Error> {
    let mut assignment = TopicPartitionList::new();
    for (topic, partition) in partitions {
        assignment.add_partition_offset(topic, *partition, from).map_err(Error::kafka(format!("reading {topic}")))?;
    }
    let what = || {
        let mut topics: Vec<&str> = partitions.iter().map(|(topic, _)| *topic).collect();
        topics.dedup();
        format!("reading {}", topics.join(" and "))
    };
    consumer.assign(&assignment).map_err(Error::kafka(what()))?;
    let mut open = partitions.len();
    let mut last_sign = Instant::now();
    while open > 0 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                last_sign = Instant::now();
                if !visitor(&message) {
                    break;
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(source)) if is_topic_forbidden(&source) || last_sign.elapsed() > SILENCE => {
                return Err(Error::Kafka { what: what(), source });
            }
            None if last_sign.elapsed() > SILENCE => {
                return Err(Error::Kafka {
                    what: format!("{}: nothing arrives", what()),
                    source: KafkaError::Canceled,
                });
            }
            Some(Err(_)) | None => {}
        }
    }
    consumer.unassign().map_err(Error::kafka(what()))
}

/// Whether waiting is in vain. The client also reports that the group is forbidden, of which nothing is needed here.
fn is_topic_forbidden(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}

/// Decodes a stored position, whichever version of its schema wrote it.
pub(crate) async fn decode(
    registry: Arc<Registry>,
    own_id: u32,
    bytes: Option<Vec<u8>>,
) -> Result<Option<Position>, FrameError> {
    match bytes {
        Some(bytes) => Ok(Some(Decoder::<Position>::new(registry, own_id).decode(&bytes).await?)),
        None => Ok(None),
    }
}

/// Writes the first position of a slot that was just made, so that the worker knows its beginning.
///
/// Refused where it would hide a hole: if there is a position already, the slot is a new one in place of a lost one; if
/// there are events or rows, they came before the slot. Such a history has to be completed from the tables first.
///
/// Brokers that don't know new topics yet, and other things that pass, are waited for.
pub async fn write_first_position(config: &Config, slot_made: migrations::SlotMade) -> Result<(), Error> {
    let deadline = Instant::now() + FIRST_PATIENCE;
    let mut backoff = Backoff::default();
    loop {
        match try_first_position(config, slot_made).await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                tracing::debug!(error = %error.chain(), "the first position isn't written yet; trying again");
                tokio::time::sleep(backoff.next_pause()).await;
            }
            outcome => return outcome,
        }
    }
}

/// Writes the first position of a slot that somebody else made, if it has none and nothing was ever written; says whether
/// it did. Disturbs no worker otherwise.
pub async fn ensure_first_position(config: &Config) -> Result<bool, Error> {
    let names = config.names();
    let (slot, topics) = (names.slot(), Topics::new(&names));
    let client = checks::connect(config).await?;
    let Some(facts) = checks::slot_facts(&client, &slot).await? else { return Ok(false) };
    let shared = Arc::new(config.clone());
    let look = move || {
        let consumer = looker(&shared)?;
        Ok::<_, Error>(read_bytes(&consumer, &topics, &slot)?.is_none() && checks::is_log_empty(&consumer, &topics)?)
    };
    let is_without = tokio::task::spawn_blocking(look).await.unwrap_or(Err(Error::PublisherGone))?;
    // With rows or events, the worker decides, and says what can be done.
    if !is_without || checks::has_rows(&client).await? {
        return Ok(false);
    }
    let start = migrations::SlotMade { consistent_lsn: facts.confirmed_flush_lsn.0 };
    write_first_position(config, start).await.map(|()| true)
}

/// Publishes a position on its own.
pub(crate) async fn publish(worker: &Worker, mut fenced: Fenced, position: Position) -> Result<Fenced, Error> {
    let encoder = worker.positions();
    let blocking = move || fenced.publish_position(&position, &encoder).map(|()| fenced);
    tokio::task::spawn_blocking(blocking).await.unwrap_or(Err(Error::PublisherGone))
}

async fn try_first_position(config: &Config, slot_made: migrations::SlotMade) -> Result<(), Error> {
    let names = config.names();
    let slot = names.slot();
    let topics = Topics::new(&names);
    let registry = Arc::new(Registry::new(config.registry.url.expose(), names.prefix())?);
    let position_id =
        registry.id_of::<Position>().await.map_err(|source| Error::Schema { record: Position::NAME, source })?;
    let client = checks::connect(config).await?;
    let system = Connection::open(&checks::slot_server(config)?).await?.identify().await?;
    if checks::has_rows(&client).await? {
        return Err(Error::Refused {
            slot,
            reason:
                "it was made after rows had been written to message, chat_change or user_change, which it will never \
                     show: run `waltalkie cdc resnapshot`, which publishes them out of the tables"
                    .into(),
        });
    }
    let config = Arc::new(config.clone());
    let write = move || {
        let mut fenced = Fenced::take_over(&config, &slot)?;
        let consumer = looker(&config)?;
        if read_bytes(&consumer, &topics, &slot)?.is_some() || !checks::is_log_empty(&consumer, &topics)? {
            return Err(Error::Refused {
                slot,
                reason:
                    "it was made anew, and what was committed since the old one was lost is missing from the history: \
                         run `waltalkie cdc resnapshot`, which completes it from the tables"
                        .into(),
            });
        }
        let kafka = checks::kafka_facts(&consumer, &topics)?;
        let position = Position {
            slot,
            system_identifier: system.identifier,
            timeline: system.timeline,
            // Nothing was published yet: every transaction that the slot will show is new.
            commit_lsn: 0,
            ordinal: Place::START.ordinal,
            confirmable_lsn: Lsn(slot_made.consistent_lsn).to_bits(),
            cluster_id: kafka.cluster_id,
            partitions: Vec::new(),
            topics: kafka.topics,
            resnapshot_until_lsn: None,
            handed_over_at: None,
            left_out_at: None,
            written_at: runtime::clock::now_ms(),
        };
        fenced.publish_position(&position, &Encoder::new(position_id))
    };
    tokio::task::spawn_blocking(write).await.unwrap_or(Err(Error::PublisherGone))
}
