//! What the two ends can do by themselves: Postgres' stream read by nobody, and Kafka's transactions filled from memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cdc_worker::Lsn;
use cdc_worker::mapping::Mapping;
use cdc_worker::pgoutput::{self, Message};
use cdc_worker::publisher::HeaderMaker;
use cdc_worker::record::{Batch, Outgoing, Writer};
use cdc_worker::replication::{Connection, Incoming, ReplicationStream};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use runtime::config::Compression;
use runtime::{Config, kafka};
use schemas::Origin;
use schemas::topics::Topic;

use super::report::Speed;
use super::site::Installation;

/// Records that the bare producer goes round; enough to defeat every cache and compression window.
const RECORDS: u64 = 200_000;
/// Rows in one transaction of the bare producer: at most as many as the worker's.
const TRANSACTION_ROWS: usize = 20_000;
/// Bytes of a position record.
const POSITION_BYTES: usize = 400;
/// What waits in its queue at most, so that memory is bounded.
const QUEUED_KIB: usize = 8 << 10;
const CALL: Duration = Duration::from_secs(30);
/// How often a slot is asked for that somebody still has.
const GONE: Duration = Duration::from_millis(50);

/// How the server sends large transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Large {
    /// Whole, once they are committed, as the worker has it.
    Whole,
    /// In pieces while they are open.
    InPieces,
}

async fn stream(installation: &Installation, large: Large) -> Result<ReplicationStream> {
    let server = cdc_worker::slot_server(&installation.config)?;
    let (slot, publication) = (&installation.slot, &installation.publication);
    let deadline = Instant::now() + CALL;
    loop {
        let connection = Connection::open(&server).await?;
        let started = match large {
            Large::Whole => connection.start(slot, publication, Lsn::ZERO).await,
            Large::InPieces => connection.start_streaming(slot, publication, Lsn::ZERO).await,
        };
        match started {
            // The server notices only now and then that the reader before has gone.
            Err(error) if error.is_slot_active() && Instant::now() < deadline => tokio::time::sleep(GONE).await,
            outcome => return Ok(outcome?),
        }
    }
}

/// Reads the slot to so many rows and confirms nothing, so that it can be read again.
pub(super) async fn null_reader(installation: &Installation, large: Large, events: u64) -> Result<Speed> {
    let installation = installation.clone();
    runtime::dedicated::run("null-reader", move || async move { read(&installation, large, events).await }).await?
}

async fn read(installation: &Installation, large: Large, events: u64) -> Result<Speed> {
    let mut stream = stream(installation, large).await?;
    let began = Instant::now();
    let mut rows = 0;
    while rows < events {
        while let Some(message) = stream.next_message()? {
            match message {
                Incoming::Data { payload: [b'I', ..], .. } => rows += 1,
                Incoming::Data { .. } | Incoming::Keepalive { .. } => {}
            }
        }
        if rows < events {
            stream.fill(true).await?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    stream.close().await;
    Ok(Speed { seconds, events_per_s: events as f64 / seconds })
}

/// The first records of the backlog as the worker makes them.
pub(super) async fn capture(installation: &Installation, events: u64) -> Result<Batch> {
    let mut stream = stream(installation, Large::Whole).await?;
    let mut mapping = Mapping::default();
    let writer = Writer::new(1, 2);
    let mut records = Batch::default();
    let wanted = events.min(RECORDS) as usize;
    while records.len() < wanted {
        while let Some(message) = stream.next_message()? {
            let Incoming::Data { payload, .. } = message else { continue };
            match pgoutput::decode(payload)? {
                Message::Relation(relation) => mapping.learn(&relation)?,
                Message::Insert { relation_id, tuple } if records.len() < wanted => {
                    let change = mapping.change(relation_id, tuple, Origin::default())?;
                    writer.write(change, &mut records)?;
                }
                _ => {}
            }
        }
        if records.len() < wanted {
            stream.fill(true).await?;
        }
    }
    stream.close().await;
    Ok(records)
}

/// A transactional producer of Kafka's C library and nothing else, with the worker's settings.
pub(super) struct Bare {
    producer: ThreadedProducer<DefaultProducerContext>,
    events: String,
    positions: String,
    headers: HeaderMaker,
}

impl Bare {
    pub(super) fn new(installation: &Installation) -> Result<Self> {
        let config = &installation.config;
        let names = config.names();
        let producer: ThreadedProducer<DefaultProducerContext> = settings(config).create()?;
        producer.init_transactions(CALL)?;
        Ok(Self {
            producer,
            events: names.topic(Topic::ChatEvents),
            positions: names.topic(Topic::CdcPositions),
            headers: HeaderMaker::new(format!("/waltalkie/{}", installation.slot)),
        })
    }

    /// One transaction: the records and a position.
    pub(super) fn publish<'a>(&mut self, records: impl Iterator<Item = Outgoing<'a>>) -> Result<()> {
        self.producer.begin_transaction()?;
        for record in records {
            let mut base = BaseRecord::to(&self.events)
                .key(record.key)
                .payload(record.value.context("the backlog holds messages only")?)
                .timestamp(record.timestamp_ms)
                .headers(headers(&self.headers.make(&record)));
            while let Err((error, back)) = self.producer.send(base) {
                if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                    return Err(error.into());
                }
                self.producer.poll(Duration::from_millis(10));
                base = back;
            }
        }
        let position = [0; POSITION_BYTES];
        self.producer
            .send(BaseRecord::to(&self.positions).partition(0).key("bare").payload(&position[..]))
            .map_err(|(error, _)| error)?;
        kafka::flush(self.producer.client(), CALL);
        Ok(self.producer.commit_transaction(CALL)?)
    }
}

/// A transactional producer that compresses as the worker does.
fn settings(config: &Config) -> ClientConfig {
    let mut settings = kafka::producer_config(&config.kafka);
    settings
        .set("transactional.id", config.names().transactional_id("bare"))
        .set("queue.buffering.max.kbytes", QUEUED_KIB.to_string())
        .set("compression.type", config.cdc.compression.name())
        // The commit flushes, so that waiting for fuller batches costs a lone record nothing.
        .set("linger.ms", "20");
    if config.cdc.compression == Compression::Zstd {
        settings.set("compression.level", "1");
    }
    settings
}

fn headers(pairs: &[(&str, &[u8])]) -> OwnedHeaders {
    let none = OwnedHeaders::new_with_capacity(pairs.len());
    pairs.iter().fold(none, |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }))
}

/// Publishes so many records from memory in transactions.
pub(super) fn bare_producer(installation: &Installation, records: &Batch, events: u64) -> Result<Speed> {
    let mut bare = Bare::new(installation)?;
    tokio::task::block_in_place(|| {
        let began = Instant::now();
        let mut rest = events as usize;
        let mut records = records.iter().cycle();
        while rest > 0 {
            let rows = rest.min(TRANSACTION_ROWS);
            bare.publish(records.by_ref().take(rows))?;
            rest -= rows;
        }
        let seconds = began.elapsed().as_secs_f64();
        Ok(Speed { seconds, events_per_s: events as f64 / seconds })
    })
}
