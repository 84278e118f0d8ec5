//! One partition that this process owns: its producer, its state, and the transaction that brings a batch in.
//!
//! ```text
//!   events ──▶ transform ──▶ ┌ Kafka transaction of operators-<partition> ──────────────────┐
//!                            │ chat.activity · chat.abuse · chat.events.dlq                 │
//!                            │ operators.state: changed windows, tombstones, progress       │──▶ commit
//!                            │ the group's offset                                           │
//!                            └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! Rows go to the partition that their events came from: it has one writer, so its order is that of the events. What the
//! transform knows is ahead of Kafka until the commit; if that fails, the whole partition is thrown away and restored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use runtime::kafka::{self, Received, dead_letter};
use schemas::{ChatEvent, OperatorProgress, OperatorState};

use crate::error::Error;
use crate::failpoint::{Act, Point};
use crate::transform::{Tally, Transform};
use crate::window::Row;
use crate::wiring::Wiring;

/// Each step of a transaction.
const STEP: Duration = Duration::from_secs(6);
/// After this the broker aborts a transaction whose producer has gone and nobody took over, so that readers can go on.
const TRANSACTION_TIMEOUT_MS: &str = "10000";
/// How often it is looked whether the brokers have everything.
const LOOK: Duration = Duration::from_millis(2);

/// A record of `chat.events`, read.
pub(crate) enum Item {
    /// An event and its offset.
    Event(i64, Box<ChatEvent>),
    /// A record that is no event, and why.
    Unreadable(Received, String),
}

impl Item {
    fn offset(&self) -> i64 {
        match self {
            Self::Event(offset, _) => *offset,
            Self::Unreadable(received, _) => received.offset,
        }
    }
}

/// What one transaction did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) events: u64,
    pub(crate) activity: u64,
    pub(crate) abuse: u64,
    pub(crate) dead_letters: u64,
    pub(crate) tally: Tally,
    pub(crate) windows: [usize; 3],
}

/// A partition in hand.
pub(crate) struct Partition {
    number: i32,
    source: String,
    producer: BaseProducer,
    transform: Transform,
    next_offset: i64,
}

impl Partition {
    /// A producer under the partition's transactional id: from here on nobody else can commit anything for it, and what they
    /// left open is aborted. Blocks.
    pub(crate) fn fence(wiring: &Wiring, number: i32) -> Result<BaseProducer, Error> {
        let mut settings = kafka::producer_config(&wiring.config.kafka);
        settings
            .set("transactional.id", wiring.names.transactional_id(&format!("operators-{number}")))
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
            .set("delivery.timeout.ms", TRANSACTION_TIMEOUT_MS)
            .set("linger.ms", "5");
        let producer: BaseProducer = settings.create().map_err(Error::kafka("making a producer", number))?;
        let taken = producer.init_transactions(STEP);
        taken.map_err(Error::kafka("taking the transactional id", number))?;
        Ok(producer)
    }

    /// A partition whose state was read after it was fenced.
    pub(crate) fn new(
        number: i32,
        source: String,
        producer: BaseProducer,
        transform: Transform,
        next_offset: i64,
    ) -> Self {
        Self { number, source, producer, transform, next_offset }
    }

    /// Serves the client's reports while there is nothing to write.
    pub(crate) fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Takes events in and commits what follows from them, or nothing. Blocks. After an error the partition must be thrown
    /// away.
    pub(crate) fn take_in(
        &mut self,
        items: Vec<Item>,
        group: Option<&Arc<ConsumerGroupMetadata>>,
        wiring: &Wiring,
    ) -> Result<Done, Error> {
        let (mut done, mut rows, mut letters) = (Done::default(), Vec::new(), Vec::new());
        for item in items {
            // Read again after a commit of which nobody heard.
            if item.offset() < self.next_offset {
                continue;
            }
            self.next_offset = item.offset() + 1;
            done.events += 1;
            match item {
                Item::Event(_, event) => self.transform.apply(&event, &mut rows, &mut done.tally),
                Item::Unreadable(received, reason) => letters.push((received, reason)),
            }
        }
        if done.events > 0 {
            let committed = self.transaction(&rows, &letters, group, wiring);
            if let Err(failure) = &committed
                && !matches!(failure, Error::Died)
            {
                // So that readers needn't wait for whoever is next. It may be fenced, and then this fails too.
                let _ = self.producer.abort_transaction(STEP);
            }
            committed?;
        }
        done.activity = rows.iter().filter(|row| matches!(row, Row::Activity(_))).count() as u64;
        done.abuse = rows.len() as u64 - done.activity;
        done.dead_letters = letters.len() as u64;
        done.windows = self.transform.windows();
        Ok(done)
    }

    fn transaction(
        &mut self,
        rows: &[Row],
        letters: &[(Received, String)],
        group: Option<&Arc<ConsumerGroupMetadata>>,
        wiring: &Wiring,
    ) -> Result<(), Error> {
        let number = self.number;
        let step = move |step| Error::kafka(step, number);
        self.producer.begin_transaction().map_err(step("beginning a transaction"))?;
        let group = if self.pass(Point::Begun, wiring)? == Act::WithoutGroup { None } else { group };
        for row in rows {
            self.send_row(row, wiring)?;
        }
        for (received, reason) in letters {
            self.send_letter(received, reason, wiring)?;
        }
        self.send_state(wiring)?;
        let deadline = Instant::now() + STEP;
        // What isn't there by then makes the commit fail.
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(LOOK);
        }
        self.pass(Point::Produced, wiring)?;
        if let Some(group) = group {
            // Refused if the group has given the partition to somebody else since the batch was read.
            let mut offsets = TopicPartitionList::new();
            let offset = Offset::Offset(self.next_offset);
            offsets.add_partition_offset(&self.source, self.number, offset).map_err(step("naming the offset"))?;
            let sent = self.producer.send_offsets_to_transaction(&offsets, group, STEP);
            sent.map_err(step("sending the group's offset"))?;
        }
        self.pass(Point::Prepared, wiring)?;
        self.producer.commit_transaction(STEP).map_err(step("committing"))?;
        self.pass(Point::Committed, wiring)?;
        Ok(())
    }

    fn pass(&self, point: Point, wiring: &Wiring) -> Result<Act, Error> {
        match wiring.failpoints.at(point, self.number) {
            Act::Die => Err(Error::Died),
            act => Ok(act),
        }
    }

    fn send_row(&self, row: &Row, wiring: &Wiring) -> Result<(), Error> {
        let (topic, chat_id, end_ms, value) = match row {
            Row::Activity(row) => {
                (&wiring.topics.activity, &row.chat_id, row.window_end, wiring.encoders.activity.encode(row))
            }
            Row::Abuse(row) => (&wiring.topics.abuse, &row.chat_id, row.window_end, wiring.encoders.abuse.encode(row)),
        };
        let value = value.map_err(Error::Encoding)?;
        let record = BaseRecord::<[u8], [u8]>::to(topic).partition(self.number).key(chat_id.as_bytes());
        self.send(record.timestamp(end_ms).payload(&value))
    }

    fn send_letter(&self, received: &Received, reason: &str, wiring: &Wiring) -> Result<(), Error> {
        let headers = dead_letter::headers(received, "operators", reason);
        let mut record = BaseRecord::<[u8], [u8]>::to(&wiring.topics.dead_letters).headers(headers);
        if let Some(key) = &received.key {
            record = record.key(key);
        }
        if let Some(value) = &received.value {
            record = record.payload(value);
        }
        self.send(record)
    }

    /// What changed since the last transaction, and how far the partition was read.
    fn send_state(&mut self, wiring: &Wiring) -> Result<(), Error> {
        let progress = OperatorProgress {
            topic_log: wiring.topic_log.clone(),
            next_offset: self.next_offset,
            watermark_at: self.transform.watermark_ms(),
        };
        let changes = self.transform.take_changes();
        let windows = changes.into_iter().map(|change| {
            let state = change.window.map(|window| OperatorState { progress: None, open_window: Some(window) });
            (change.key, state)
        });
        let progress = Some(OperatorState { progress: Some(progress), open_window: None });
        for (key, state) in windows.chain([(OperatorState::PROGRESS_KEY.to_owned(), progress)]) {
            let record = BaseRecord::<[u8], [u8]>::to(&wiring.topics.state).partition(self.number).key(key.as_bytes());
            match state {
                Some(state) => {
                    let value = wiring.encoders.state.encode(&state).map_err(Error::Encoding)?;
                    self.send(record.payload(&value))?;
                }
                None => self.send(record)?,
            }
        }
        Ok(())
    }

    /// Queues a record, waiting while the client's queue is full.
    fn send(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<(), Error> {
        let deadline = Instant::now() + STEP;
        let mut record = record;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again))
                    if Instant::now() < deadline =>
                {
                    self.producer.poll(LOOK);
                    record = again;
                }
                Err((source, _)) => return Err(Error::Kafka { step: "sending", partition: self.number, source }),
            }
        }
    }
}
