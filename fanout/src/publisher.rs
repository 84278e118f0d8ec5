//! The publisher: `chat.events` to Redis, once a chat however many members it has.
//!
//! ```text
//!  chat.events ──▶ Reader ──▶ SPUBLISH chat:{id}            one envelope an event, not even decoded
//!                     │   └─▶ SPUBLISH user:{id}            members of chat.created and member.*, who may not follow yet
//!  chat.cursors ─▶────┴─────▶ Coalesced ──every second──▶ SPUBLISH chat:{id}   one receipt envelope a chat
//! ```
//!
//! *Progress.* Group offsets in Kafka, a group of its own; a first start begins at the end, since what is older reaches
//! people by resume. Events go out in pipelines, each chat's in order; offsets are committed with the receipts, after Redis
//! has answered for everything before them. It waits for no projection.
//!
//! *Failure.* Redis away: the same pipeline again until it is taken, so that nothing is passed over; nodes drop what they
//! have by `seq`. Killed: what wasn't committed is published again. Nobody subscribed: Pub/Sub forgets, and nodes read
//! what they miss from heads. Receipts that are lost in a crash are overtaken by the next, and read from the cursors when
//! a client connects. An event that can't be decoded still goes to its chat; only its new members aren't told, and nodes
//! find those by looking at memberships now and then.

mod receipts;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use runtime::kafka::reader::{Batch, Ends, GroupOffsets, Reader, Received, Settings};
use runtime::redis::Commands;
use runtime::retry::Backoff;
use runtime::trace::Span;
use runtime::{Config, Names, RoleHealth, Shutdown, Tracer, clock, kafka};
use schemas::topics::Topic;
use schemas::wire::relay::{Kind, Relayed};
use schemas::{ChatEvent, Cursor, Decoder, event_type};
use tokio::time::{Interval, MissedTickBehavior};

use self::receipts::Coalesced;
use crate::error::Error;
use crate::metrics;

/// Most records in one pipeline.
const BATCH_RECORDS: usize = 500;
/// How often a chat's receipts go out, and offsets are committed.
const RECEIPTS_EVERY: Duration = Duration::from_secs(1);
/// Times that the registry is asked for a schema before an event goes without its new members being told.
const DECODE_TRIES: u32 = 3;

/// Runs the role until shutdown begins.
pub async fn run(config: Arc<Config>, health: RoleHealth, shutdown: Shutdown) -> Result<(), Error> {
    let names = config.names();
    let registry = Arc::new(config.registry_client()?);
    let event_id = registry.id_of::<ChatEvent>().await.unwrap_or(u32::MAX);
    let cursor_id = registry.id_of::<Cursor>().await.unwrap_or(u32::MAX);
    let settings = Settings {
        client: kafka::client_config(&config.kafka),
        group: names.group("publisher"),
        topics: vec![names.topic(Topic::ChatEvents), names.topic(Topic::ChatCursors)],
        batch_records: BATCH_RECORDS,
        gather: Duration::ZERO,
        lag_metric: metrics::PUBLISHER_LAG,
    };
    let reader = Reader::start(settings, Arc::new(GroupOffsets), &shutdown)?;
    let publisher = Publisher {
        cursors_topic: names.topic(Topic::ChatCursors),
        names,
        reader,
        redis: runtime::redis::commands(&config.redis)?,
        events: Decoder::new(Arc::clone(&registry), event_id),
        cursors: Decoder::new(registry, cursor_id),
        receipts: Coalesced::default(),
        tracer: Tracer::start(&config.trace, "publisher", &shutdown),
        uncommitted: Ends::default(),
        health,
        shutdown,
    };
    publisher.run().await
}

struct Publisher {
    names: Names,
    cursors_topic: String,
    reader: Reader,
    redis: Commands,
    events: Decoder<ChatEvent>,
    cursors: Decoder<Cursor>,
    receipts: Coalesced,
    tracer: Tracer,
    /// What Redis has.
    uncommitted: Ends,
    health: RoleHealth,
    shutdown: Shutdown,
}

impl Publisher {
    async fn run(mut self) -> Result<(), Error> {
        let mut tick = ticker();
        self.health.ready();
        loop {
            tokio::select! {
                biased;
                // A busy topic must not keep receipts and commits waiting.
                _ = tick.tick() => {
                    self.health.ready();
                    if !self.flush().await {
                        return Ok(());
                    }
                }
                batch = self.reader.next() => match batch? {
                    None => break,
                    Some(batch) => {
                        if !self.publish(batch).await {
                            return Ok(());
                        }
                    }
                },
            }
        }
        self.flush_once().await;
        Ok(())
    }

    /// Publishes a batch's events and takes in its cursors; `false` when it was time to stop before Redis had it.
    async fn publish(&mut self, batch: Batch) -> bool {
        let mut pipeline = Pipeline::with_capacity(batch.records.len());
        let mut events = 0;
        let mut spans = Vec::new();
        for record in &batch.records {
            if *record.topic == *self.cursors_topic {
                self.take_cursor(record).await;
            } else if let Some(value) = &record.value {
                spans.extend(self.add_event(&mut pipeline, record, value).await);
                events += 1;
            }
        }
        if events > 0 {
            if !self.send(&pipeline).await {
                return false;
            }
            spans.into_iter().for_each(Span::end);
            ::metrics::counter!(metrics::PUBLISHED).increment(events);
        }
        self.uncommitted.take(&batch);
        true
    }

    /// Appends an event; its span, if it is sampled.
    async fn add_event(&self, pipeline: &mut Pipeline, record: &Received, value: &[u8]) -> Option<Span> {
        let Some(chat_id) = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else {
            tracing::error!(
                partition = record.partition,
                offset = record.offset,
                "an event has no key and reaches nobody"
            );
            return None;
        };
        let mut span = self.tracer.follow("publisher", record.trace);
        if let Some(span) = &mut span {
            span.note("messaging.kafka.partition", record.partition.to_string());
            span.note("messaging.kafka.offset", record.offset.to_string());
        }
        let envelope = Relayed {
            kind: Kind::Event,
            partition: record.partition,
            offset: record.offset,
            relayed_at_ms: clock::now_ms(),
            trace: span.as_ref().map(Span::context),
            value,
        }
        .to_bytes();
        if record.event_type.as_deref().is_none_or(changes_members) {
            for user_id in self.joining(record, value).await {
                pipeline.cmd("SPUBLISH").arg(self.names.user_channel(&user_id)).arg(&envelope).ignore();
            }
        }
        pipeline.cmd("SPUBLISH").arg(self.names.chat_channel(chat_id)).arg(envelope).ignore();
        span
    }

    /// People in an event's memberships.
    async fn joining(&self, record: &Received, value: &[u8]) -> HashSet<String> {
        let mut backoff = Backoff::default();
        for attempt in 1..=DECODE_TRIES {
            match self.events.decode(value).await {
                Ok(event) => return event.memberships.into_iter().map(|membership| membership.user_id).collect(),
                Err(error) if error.is_transient() && attempt < DECODE_TRIES => {
                    tracing::debug!(%error, "the registry is asked again");
                    self.shutdown.pause(backoff.next_pause()).await;
                }
                Err(error) => {
                    let (partition, offset) = (record.partition, record.offset);
                    tracing::warn!(%error, partition, offset, "an event can't be decoded; its new members hear of it later");
                    break;
                }
            }
        }
        HashSet::new()
    }

    async fn take_cursor(&mut self, record: &Received) {
        let Some(value) = &record.value else { return };
        match self.cursors.decode(value).await {
            Ok(cursor) => self.receipts.take(&cursor, record.partition, record.offset),
            Err(error) => {
                let (partition, offset) = (record.partition, record.offset);
                tracing::warn!(%error, partition, offset, "a cursor can't be decoded and isn't shown to others");
            }
        }
    }

    /// Sends receipts, then commits what Redis has; `false` when it was time to stop.
    async fn flush(&mut self) -> bool {
        while let Some((pipeline, count)) = self.next_receipts() {
            if !self.send(&pipeline).await {
                return false;
            }
            ::metrics::counter!(metrics::PUBLISHED_RECEIPTS).increment(count as u64);
        }
        self.commit();
        true
    }

    /// The same at the end, when Redis is tried once.
    async fn flush_once(&mut self) {
        while let Some((pipeline, _)) = self.next_receipts() {
            if pipeline.exec_async(&mut self.redis).await.is_err() {
                break;
            }
        }
        self.commit();
    }

    fn next_receipts(&mut self) -> Option<(Pipeline, usize)> {
        let part = self.receipts.drain(BATCH_RECORDS, clock::now_ms());
        if part.is_empty() {
            return None;
        }
        let mut pipeline = Pipeline::with_capacity(part.len());
        for (chat_id, envelope) in &part {
            pipeline.cmd("SPUBLISH").arg(self.names.chat_channel(chat_id)).arg(envelope).ignore();
        }
        Some((pipeline, part.len()))
    }

    fn commit(&mut self) {
        if let Err(error) = self.reader.commit(&mut self.uncommitted) {
            // Published again after a restart; nodes drop it by seq.
            tracing::debug!(%error, "offsets can't be committed now");
        }
    }

    async fn send(&mut self, pipeline: &Pipeline) -> bool {
        let mut backoff = Backoff::default();
        loop {
            match pipeline.exec_async(&mut self.redis).await {
                Ok(()) => {
                    self.health.ready();
                    return true;
                }
                Err(error) => {
                    ::metrics::counter!(metrics::PUBLISH_RETRIES).increment(1);
                    tracing::warn!(%error, "Redis didn't take events; sending them again");
                    self.health.not_ready("Redis is away");
                    if !self.shutdown.pause(backoff.next_pause()).await {
                        return false;
                    }
                }
            }
        }
    }
}

fn ticker() -> Interval {
    let mut tick = tokio::time::interval(RECEIPTS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

fn changes_members(event: &str) -> bool {
    matches!(
        event,
        event_type::CHAT_CREATED | event_type::MEMBER_JOINED | event_type::MEMBER_LEFT | event_type::MEMBER_UPDATED
    )
}
