//! How far the history goes: its topics, read from beginning to end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::message::{BorrowedMessage, Message};
use schemas::{ChatEvent, PartitionEnd};

use super::Fault;
use super::report::{Report, Step};
use crate::checks::{self, Head, PublishedChange};
use crate::error::Error;
use crate::lsn::Lsn;
use crate::position::{self, Looker};
use crate::record::Topics;
use crate::takeover::Worker;
use crate::transaction::Place;

/// How long one question to Kafka may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Records between two words about how far it is.
const TELL_EVERY: u64 = 1_000;

/// What the topics hold.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) chats: HashMap<String, Head>,
    /// Last version by person.
    pub(super) users: HashMap<String, i64>,
    pub(super) events: u64,
    /// The furthest place of an event.
    pub(super) last: Option<Place>,
    /// Ends of all partitions.
    pub(super) ends: Vec<PartitionEnd>,
}

/// Reads both topics' committed records. A chat whose events aren't dense from 1 is an error.
pub(crate) async fn read(worker: &Worker, report: &Report) -> Result<Log, Error> {
    let (config, topics, decoder) = (Arc::clone(&worker.config), worker.topics.clone(), worker.events());
    let slot = worker.slot.clone();
    let (report, handle) = (report.clone(), tokio::runtime::Handle::current());
    let blocking = move || {
        let consumer = position::looker(&config)?;
        let mut log = Log { ends: ends(&consumer, &topics)?, ..Log::default() };
        let total = log.ends.iter().map(|end| end.last_offset.max(0) as u64).sum();
        let mut records = 0;
        each(&consumer, &log.ends.clone(), |message| {
            records += 1;
            if records % TELL_EVERY == 0 {
                report.tell(Step::ReadingLog { done: records, total });
            }
            if message.topic() == topics.users {
                return log.user(message);
            }
            let value = message.payload().unwrap_or_default();
            let event = handle.block_on(decoder.decode(value));
            let place =
                || format!("the record of {}/{} at offset {}", message.topic(), message.partition(), message.offset());
            log.event(event.map_err(|error| checks::unreadable(&slot, &place(), error))?)
        })?;
        report.tell(Step::ReadingLog { done: total, total });
        Ok(log)
    };
    tokio::task::spawn_blocking(blocking).await.unwrap_or(Err(Error::PublisherGone))
}

/// Calls a function with each record of the partitions, up to their ends or the first error.
fn each(
    consumer: &Looker,
    ends: &[PartitionEnd],
    mut visitor: impl FnMut(&BorrowedMessage<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let partitions: Vec<(&str, i32)> = ends.iter().map(|end| (end.topic_name.as_str(), end.partition_number)).collect();
    let mut failed = None;
    position::visit(consumer, &partitions, Offset::Beginning, |message| {
        failed = visitor(message).err();
        failed.is_none()
    })?;
    failed.map_or(Ok(()), Err)
}

/// The last offset of each partition, 0 records included.
fn ends(consumer: &Looker, topics: &Topics) -> Result<Vec<PartitionEnd>, Error> {
    let facts = checks::kafka_facts(consumer, topics)?;
    let mut ends = Vec::new();
    for topic in [&topics.events, &topics.users] {
        for partition in checks::partitions_of(consumer, topic)? {
            let (_, high) = consumer
                .fetch_watermarks(topic, partition, PATIENCE)
                .map_err(Error::kafka(format!("reading the end of {topic}/{partition}")))?;
            ends.push(PartitionEnd {
                topic_name: topic.clone(),
                topic_uuid: facts.topic_ids.get(topic).cloned().unwrap_or_default(),
                partition_number: partition,
                last_offset: high - 1,
            });
        }
    }
    Ok(ends)
}

impl Log {
    /// Last seq by chat.
    pub(super) fn heads(&self) -> HashMap<String, i64> {
        self.chats.iter().map(|(chat_id, head)| (chat_id.clone(), head.seq)).collect()
    }

    fn event(&mut self, event: ChatEvent) -> Result<(), Error> {
        let head = Head::of(&event);
        let ChatEvent { chat_id, seq, origin, .. } = event;
        self.events += 1;
        let place = Place { commit_lsn: Lsn::from_bits(origin.commit_lsn), ordinal: origin.ordinal };
        self.last = self.last.max(Some(place));
        let before = self.chats.get(&chat_id).map_or(0, |head| head.seq);
        if seq != before + 1 {
            let problem = format!("the history has seq {seq} after {before}");
            return Err(Fault::NotAPrefix { place: format!("chat {chat_id}"), problem }.into());
        }
        match self.chats.get_mut(&chat_id) {
            Some(known) => *known = head,
            None => {
                self.chats.insert(chat_id, head);
            }
        }
        Ok(())
    }

    fn user(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Error> {
        let Some(PublishedChange { user_id, version, .. }) = PublishedChange::of(message) else {
            let place = format!("{}/{} at offset {}", message.topic(), message.partition(), message.offset());
            let problem = "a record without the header ce_id that this program gives each".into();
            return Err(Fault::NotAPrefix { place, problem }.into());
        };
        let head = self.users.entry(user_id).or_insert(version);
        *head = version.max(*head);
        Ok(())
    }
}
