//! What a run's history holds, read back as its consumers read it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use runtime::Config;
use runtime::kafka::Quiet;
use serde::Serialize;

use crate::bench::progress;

/// Longest that nothing may arrive before the end.
const SILENCE: Duration = Duration::from_secs(30);

/// The history against what was committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counted {
    pub(super) events: u64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) out_of_order: u64,
    /// Bytes of keys, values and headers.
    pub(super) bytes: u64,
}

impl Counted {
    pub(super) const fn is_right(&self) -> bool {
        self.lost == 0 && self.repeated == 0 && self.out_of_order == 0
    }

    /// Takes another run in. Bytes are those of the last one.
    pub(super) const fn add(&mut self, run: &Self) {
        self.events += run.events;
        self.lost += run.lost;
        self.repeated += run.repeated;
        self.out_of_order += run.out_of_order;
        self.bytes = run.bytes;
    }
}

/// A consumer of committed records of a whole topic.
pub(super) fn consumer(config: &Config, topic: &str, partitions: u16, from: Offset) -> Result<BaseConsumer<Quiet>> {
    let consumer: BaseConsumer<Quiet> = runtime::kafka::client_config(&config.kafka)
        .set("group.id", config.names().group("bench"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create_with_context(Quiet)?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, i32::from(partition), from)?;
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}

/// The event's id, `<chat_id>/<seq>`, from its headers.
pub(super) fn place<'a>(message: &'a BorrowedMessage<'_>) -> Option<(&'a str, u64)> {
    let header = message.headers()?.iter().find(|header| header.key == "ce_id")?;
    let (chat, seq) = std::str::from_utf8(header.value?).ok()?.rsplit_once('/')?;
    Some((chat, seq.parse().ok()?))
}

/// A record's chat and seq, if it is an event.
pub(super) type PlaceOf = for<'a> fn(&'a BorrowedMessage<'_>) -> Option<(Cow<'a, str>, u64)>;

/// Reads a history to its end and compares it with what was written: `events` rows over `chats`.
pub(super) fn read_back(config: &Config, topic: &str, events: u64, chats: u64, place: PlaceOf) -> Result<Counted> {
    let consumer = consumer(config, topic, config.kafka.partitions, Offset::Beginning)?;
    let bar = progress(events, "reading the history back");
    let mut counted = Counted::default();
    let mut heads: HashMap<String, u64> = HashMap::new();
    let mut open = config.kafka.partitions;
    let mut last_sign = Instant::now();
    while open > 0 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                last_sign = Instant::now();
                let (chat, seq) = place(&message).context("a record that isn't an event")?;
                counted.see(&mut heads, &chat, seq);
                counted.bytes += bytes_of(&message);
                if counted.events.is_multiple_of(10_000) {
                    bar.set_position(counted.events);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error.into()),
            None => ensure!(last_sign.elapsed() < SILENCE, "nothing arrives from {topic}"),
        }
    }
    bar.finish_and_clear();
    let of_chat = |number: u64| events / chats + u64::from(number < events % chats);
    for number in 0..chats.min(events) {
        let head = heads.get(&format!("bench-{number}")).copied().unwrap_or(0);
        counted.lost += of_chat(number).saturating_sub(head);
    }
    Ok(counted)
}

impl Counted {
    fn see(&mut self, heads: &mut HashMap<String, u64>, chat: &str, seq: u64) {
        self.events += 1;
        let head = match heads.get_mut(chat) {
            Some(head) => head,
            None => heads.entry(chat.to_owned()).or_insert(0),
        };
        if seq <= *head {
            self.repeated += 1;
        } else {
            self.lost += seq - *head - 1;
            self.out_of_order += u64::from(seq != *head + 1);
            *head = seq;
        }
    }
}

fn bytes_of(message: &BorrowedMessage<'_>) -> u64 {
    let headers = message.headers().map_or(0, |headers| {
        headers.iter().map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len)).sum::<usize>()
    });
    (message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len) + headers) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(seqs: &[u64]) -> Counted {
        let (mut counted, mut heads) = (Counted::default(), HashMap::new());
        for seq in seqs {
            counted.see(&mut heads, "c", *seq);
        }
        counted
    }

    #[test]
    fn whatever_is_wrong_is_counted() {
        assert!(counted(&[1, 2, 3]).is_right());
        assert_eq!(counted(&[1, 3]).lost, 1);
        assert_eq!(counted(&[1, 2, 2]).repeated, 1);
        assert!(!counted(&[2, 1]).is_right());
    }
}
