//! Receipts into `chat.marks`: at most one record a chat, person and second, whatever clients send.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};
use runtime::{Config, RoleHealth, Shutdown, clock, kafka};
use schemas::topics::Topic;
use schemas::wire::{Code, Rejection};
use schemas::{Encoder, Mark};

use crate::error::Error;
use crate::{metrics, start};

/// Chats and people whose receipts wait for their second to pass.
const MOST_WAITING: usize = 1 << 20;
/// Least time between two records of a chat and person.
const SPACING_MS: i64 = 1_000;
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

#[derive(Default)]
struct Slot {
    sent_at_ms: i64,
    sent: (i64, i64),
    /// Delivered and read that were not sent yet, as maxima.
    waiting: (i64, i64),
}

type Slots = HashMap<(String, String), Slot>;

/// The receipts of one gateway node.
pub struct Marks {
    slots: Mutex<Slots>,
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
            producer: kafka::producer_config(&config.kafka).set("linger.ms", LINGER_MS).create()?,
            topic: names.topic(Topic::ChatMarks),
            encoder: Encoder::new(schema_id),
        });
        shutdown.spawn(Arc::clone(&marks).flush_each_second(shutdown.clone()));
        Ok(Some(marks))
    }

    /// Takes receipts of a person; membership and head were checked. They go at once, or when their second has passed.
    pub fn take(&self, user_id: &str, kind: Kind, marks: Vec<(String, i64)>) -> Result<(), Rejection> {
        let now_ms = clock::now_ms();
        metrics::marks(marks.len());
        let mut due = Vec::new();
        {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
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
                if now_ms - slot.sent_at_ms >= SPACING_MS {
                    due.extend(slot.send(now_ms).map(|cursor| (key, cursor)));
                }
            }
        }
        for (key, cursor) in due {
            self.produce(key, cursor, now_ms);
        }
        Ok(())
    }

    async fn flush_each_second(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            let goes_on = shutdown.pause(Duration::from_millis(250)).await;
            let now_ms = clock::now_ms();
            let mut due = Vec::new();
            self.slots.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, slot| {
                if goes_on && now_ms - slot.sent_at_ms < SPACING_MS {
                    return true;
                }
                match slot.send(now_ms) {
                    Some(cursor) => {
                        due.push((key.clone(), cursor));
                        true
                    }
                    // Idle for a second: the next receipt goes at once, with or without this memory.
                    None => now_ms - slot.sent_at_ms < 10 * SPACING_MS,
                }
            });
            for (key, cursor) in due {
                self.produce(key, cursor, now_ms);
            }
            if !goes_on {
                return;
            }
        }
    }

    fn produce(&self, (chat_id, user_id): (String, String), (delivered_seq, read_seq): (i64, i64), marked_at: i64) {
        let mark = Mark {
            chat_id,
            user_id,
            delivered_seq: (delivered_seq > 0).then_some(delivered_seq),
            read_seq: (read_seq > 0).then_some(read_seq),
            marked_at,
        };
        let Ok(value) = self.encoder.encode(&mark) else { return };
        let record = FutureRecord::to(&self.topic).key(&mark.chat_id).payload(&value).timestamp(marked_at);
        // Not waited for: a receipt that is lost is sent again with the next one, which is at least as high.
        if let Err((error, _)) = self.producer.send_result(record) {
            tracing::debug!(error = %error, "a receipt could not be handed to Kafka");
        }
    }
}

impl Slot {
    /// What is worth a record now, if anything is.
    fn send(&mut self, now_ms: i64) -> Option<(i64, i64)> {
        if self.waiting.0 <= self.sent.0 && self.waiting.1 <= self.sent.1 {
            return None;
        }
        self.sent = (self.waiting.0.max(self.sent.0), self.waiting.1.max(self.sent.1));
        self.sent_at_ms = now_ms;
        Some(self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_sends_maxima_and_nothing_twice() {
        let mut slot = Slot { waiting: (5, 2), ..Slot::default() };
        assert_eq!(slot.send(1_000), Some((5, 2)));
        assert_eq!(slot.send(2_000), None);
        slot.waiting = (4, 4);
        assert_eq!(slot.send(3_000), Some((5, 4)));
    }
}
