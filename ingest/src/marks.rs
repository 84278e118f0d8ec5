//! Receipts into `chat.marks`: at most one record a chat, person and second of this node, whatever clients send.
//!
//! *Failure.* Clients aren't kept waiting for Kafka. A record that doesn't get there is sent again, with what came
//! meanwhile, until one does; only with the node a receipt is lost, and the next one, which is at least as high, makes up
//! for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use runtime::{Config, RoleHealth, Shutdown, clock, kafka};
use schemas::topics::Topic;
use schemas::wire::{Code, Rejection};
use schemas::{Encoder, Mark};

use crate::error::Error;
use crate::{metrics, start};

/// Chats and people whose receipts wait for their second to pass.
const MOST_WAITING: usize = 1 << 20;
/// Least time between two records of a chat and person.
const SPACING: Duration = Duration::from_secs(1);
/// How long a gateway that stops waits for Kafka to take the last ones.
const AT_THE_END: Duration = Duration::from_secs(4);
/// How long what was sent last is remembered, so that the same again makes no record.
const REMEMBERED: Duration = Duration::from_secs(10);
/// How long a record waits for others of its partition: nobody waits for it, and each request costs the broker.
const LINGER_MS: &str = "100";

/// What a receipt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It reached a device.
    Delivered,
    /// It was read, and so delivered.
    Read,
}

/// A chat and a person.
type Key = (String, String);
/// Delivered and read.
type Seqs = (i64, i64);

#[derive(Default)]
struct Slot {
    /// Not by the wall clock: one that is set back would hold receipts up for as long.
    sent_at: Option<Instant>,
    sent: Seqs,
    /// The highest that came, sent or not.
    waiting: Seqs,
}

/// What a record says, and what the one before it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    from: Seqs,
    to: Seqs,
}

/// A record that Kafka hasn't acknowledged.
struct UnderWay {
    key: Key,
    step: Step,
    delivery: DeliveryFuture,
}

/// The receipts of one gateway node.
pub struct Marks {
    slots: Mutex<HashMap<Key, Slot>>,
    under_way: Mutex<Vec<UnderWay>>,
    producer: FutureProducer,
    topic: String,
    encoder: Encoder<Mark>,
}

impl Marks {
    /// Starts; `None` when it is time to stop before the registry was there.
    pub async fn start(config: &Config, health: &RoleHealth, shutdown: &Shutdown) -> Result<Option<Arc<Self>>, Error> {
        let names = config.names();
        let registry = config.registry_client()?;
        let Some(schema_id) = start::schema_id::<Mark>(&registry, health, shutdown).await else { return Ok(None) };
        let marks = Arc::new(Self {
            slots: Mutex::default(),
            under_way: Mutex::default(),
            producer: kafka::producer_config(&config.kafka).set("linger.ms", LINGER_MS).create()?,
            topic: names.topic(Topic::ChatMarks),
            encoder: Encoder::new(schema_id),
        });
        shutdown.spawn(Arc::clone(&marks).flush_each_second(shutdown.clone()));
        Ok(Some(marks))
    }

    /// Takes receipts of a person; membership and head were checked. They go at once, or when their second has passed.
    pub fn take(&self, user_id: &str, kind: Kind, marks: Vec<(String, i64)>) -> Result<(), Rejection> {
        let now = Instant::now();
        metrics::marks(marks.len());
        let mut due = Vec::new();
        {
            let mut slots = lock(&self.slots);
            if slots.len() + marks.len() > MOST_WAITING {
                return Err(
                    Rejection::new(Code::Overloaded, "Too many receipts wait already; try again.").retry_after(2_000)
                );
            }
            for (chat_id, seq) in marks {
                let key = (chat_id, user_id.to_owned());
                let slot = slots.entry(key.clone()).or_default();
                slot.waiting.0 = slot.waiting.0.max(seq);
                if kind == Kind::Read {
                    slot.waiting.1 = slot.waiting.1.max(seq);
                }
                if slot.is_past(now, SPACING) {
                    due.extend(slot.send(now).map(|step| (key, step)));
                }
            }
        }
        self.produce(due);
        Ok(())
    }

    async fn flush_each_second(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            let goes_on = shutdown.pause(Duration::from_millis(250)).await;
            self.take_back_what_failed();
            let now = Instant::now();
            let mut due = Vec::new();
            lock(&self.slots).retain(|key, slot| {
                if goes_on && !slot.is_past(now, SPACING) {
                    return true;
                }
                match slot.send(now) {
                    Some(step) => {
                        due.push((key.clone(), step));
                        true
                    }
                    // Idle for a second: the next receipt goes at once, with or without this memory.
                    None => !slot.is_past(now, REMEMBERED),
                }
            });
            self.produce(due);
            if !goes_on {
                self.until_delivered().await;
                return;
            }
        }
    }

    /// A producer that is dropped takes along what it hasn't sent.
    async fn until_delivered(&self) {
        let under_way = std::mem::take(&mut *lock(&self.under_way));
        let deliveries = join_all(under_way.into_iter().map(|record| record.delivery));
        match tokio::time::timeout(AT_THE_END, deliveries).await {
            Ok(outcomes) if outcomes.iter().all(|outcome| matches!(outcome, Ok(Ok(_)))) => {}
            _ => tracing::warn!("the last receipts did not reach Kafka; clients say them again with the next ones"),
        }
    }

    fn produce(&self, due: Vec<(Key, Step)>) {
        let marked_at = clock::now_ms();
        for (key, step) in due {
            let (delivered_seq, read_seq) = step.to;
            let mark = Mark {
                chat_id: key.0.clone(),
                user_id: key.1.clone(),
                delivered_seq: (delivered_seq > 0).then_some(delivered_seq),
                read_seq: (read_seq > 0).then_some(read_seq),
                marked_at,
            };
            let Ok(value) = self.encoder.encode(&mark) else { continue };
            let record = FutureRecord::to(&self.topic).key(&mark.chat_id).payload(&value).timestamp(marked_at);
            match self.producer.send_result(record) {
                Ok(delivery) => lock(&self.under_way).push(UnderWay { key, step, delivery }),
                Err((error, _)) => {
                    tracing::debug!(error = %error, "a receipt could not be handed to Kafka");
                    lock(&self.slots).entry(key).or_default().take_back(step);
                }
            }
        }
    }

    /// Forgets records that Kafka has; those that it didn't get are to be sent again.
    fn take_back_what_failed(&self) {
        let mut failed = Vec::new();
        lock(&self.under_way).retain_mut(|record| match (&mut record.delivery).now_or_never() {
            None => true,
            Some(Ok(Ok(_))) => false,
            Some(_) => {
                failed.push((std::mem::take(&mut record.key), record.step));
                false
            }
        });
        if failed.is_empty() {
            return;
        }
        tracing::warn!(receipts = failed.len(), "receipts did not reach Kafka in time and are sent again");
        let mut slots = lock(&self.slots);
        for (key, step) in failed {
            slots.entry(key).or_default().take_back(step);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    /// Whether the last record is so long ago, or there was none.
    fn is_past(&self, now: Instant, least: Duration) -> bool {
        self.sent_at.is_none_or(|sent_at| now.saturating_duration_since(sent_at) >= least)
    }

    /// What is worth a record now, if anything is.
    fn send(&mut self, now: Instant) -> Option<Step> {
        if self.waiting.0 <= self.sent.0 && self.waiting.1 <= self.sent.1 {
            return None;
        }
        let (from, to) = (self.sent, (self.waiting.0.max(self.sent.0), self.waiting.1.max(self.sent.1)));
        self.sent = to;
        self.sent_at = Some(now);
        Some(Step { from, to })
    }

    /// A record was lost: what it said is to be said again. If a later one said more, that is repeated, which does no harm.
    fn take_back(&mut self, step: Step) {
        self.waiting = (self.waiting.0.max(step.to.0), self.waiting.1.max(step.to.1));
        self.sent = (self.sent.0.min(step.from.0), self.sent.1.min(step.from.1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_sends_maxima_and_nothing_twice() {
        let mut slot = Slot { waiting: (5, 2), ..Slot::default() };
        let now = Instant::now();
        assert_eq!(slot.send(now), Some(Step { from: (0, 0), to: (5, 2) }));
        assert_eq!(slot.send(now), None);
        slot.waiting = (4, 4);
        assert_eq!(slot.send(now), Some(Step { from: (5, 2), to: (5, 4) }));
    }

    #[test]
    fn a_record_a_second_by_a_clock_that_nobody_sets() {
        let mut slot = Slot { waiting: (5, 2), ..Slot::default() };
        let now = Instant::now();
        assert!(slot.is_past(now, REMEMBERED), "the first one waits");
        slot.send(now);
        assert!(!slot.is_past(now + Duration::from_millis(999), SPACING));
        assert!(slot.is_past(now + Duration::from_secs(1), SPACING));
    }

    #[test]
    fn what_kafka_did_not_get_is_sent_again_with_what_came_meanwhile() {
        let mut slot = Slot { waiting: (5, 2), ..Slot::default() };
        let now = Instant::now();
        let lost = slot.send(now).unwrap();
        slot.take_back(lost);
        assert_eq!(slot.send(now), Some(lost));
        // A later one went meanwhile, and nobody knows yet whether it arrived.
        slot.waiting = (7, 2);
        slot.send(now);
        slot.take_back(lost);
        assert_eq!(slot.send(now), Some(Step { from: (0, 0), to: (7, 2) }));
        // It was forgotten before the loss was known.
        let mut forgotten = Slot::default();
        forgotten.take_back(Step { from: (5, 2), to: (7, 2) });
        assert_eq!(forgotten.send(now).map(|step| step.to), Some((7, 2)));
    }
}
