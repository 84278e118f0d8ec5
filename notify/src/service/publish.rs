//! Writing to `chat.notifications` and its dead letters: idempotent producer, acks=all, waited for.

use futures_util::future::try_join_all;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use runtime::{Config, kafka};
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{Encoder, Notification, Record};
use tokio::sync::OnceCell;

use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::metrics;

/// For a record that finds no room in the producer's queue.
const ROOM: Timeout = Timeout::After(Duration::from_secs(10));
/// Notifications under way at once; bounds memory.
const AT_ONCE: usize = 2_000;

/// The producer of one process.
pub(crate) struct Publisher {
    producer: FutureProducer,
    topic: String,
    dead: String,
    registry: Arc<Registry>,
    encoder: OnceCell<Encoder<Notification>>,
}

impl Publisher {
    pub(crate) fn new(config: &Config, registry: Arc<Registry>) -> Result<Self, Error> {
        let names = config.names();
        Ok(Self {
            producer: kafka::producer_config(&config.kafka).create().map_err(Error::Producer)?,
            topic: names.topic(Topic::ChatNotifications),
            dead: names.topic(Topic::ChatNotificationsDlq),
            registry,
            encoder: OnceCell::new(),
        })
    }

    async fn encoder(&self) -> Result<&Encoder<Notification>, Error> {
        self.encoder
            .get_or_try_init(|| async { Ok(Encoder::new(own_schema_id::<Notification>(&self.registry).await?)) })
            .await
    }

    /// Writes all of them; returns when Kafka has them.
    pub(crate) async fn publish(&self, notifications: &[Notification]) -> Result<(), Error> {
        if notifications.is_empty() {
            return Ok(());
        }
        let encoder = self.encoder().await?;
        for part in notifications.chunks(AT_ONCE) {
            let encoded = part
                .iter()
                .map(|notification| Ok((notification.key(), encoder.encode(notification)?)))
                .collect::<Result<Vec<_>, Error>>()?;
            try_join_all(encoded.iter().map(|(key, value)| self.send(&self.topic, key.as_bytes(), value, None)))
                .await?;
        }
        ::metrics::counter!(metrics::PUBLISHED).increment(notifications.len() as u64);
        Ok(())
    }

    /// Puts a notification aside that no try brought to where it should go.
    pub(crate) async fn bury(&self, notification: &Notification, reason: &str) -> Result<(), Error> {
        let value = self.encoder().await?.encode(notification)?;
        self.bury_bytes(notification.key().as_bytes(), &value, (&self.topic, "", ""), reason).await
    }

    /// Puts a record aside as it came. `source` is its topic, partition and offset.
    pub(crate) async fn bury_bytes(
        &self,
        key: &[u8],
        value: &[u8],
        source: (&str, &str, &str),
        reason: &str,
    ) -> Result<(), Error> {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "reason", value: Some(reason) })
            .insert(Header { key: "source_topic", value: Some(source.0) })
            .insert(Header { key: "source_partition", value: Some(source.1) })
            .insert(Header { key: "source_offset", value: Some(source.2) });
        ::metrics::counter!(metrics::DEAD_LETTERS).increment(1);
        self.send(&self.dead, key, value, Some(headers)).await
    }

    async fn send(&self, topic: &str, key: &[u8], value: &[u8], headers: Option<OwnedHeaders>) -> Result<(), Error> {
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).key(key).payload(value);
        if let Some(headers) = headers {
            record = record.headers(headers);
        }
        let taken = self.producer.send(record, ROOM).await;
        taken.map(drop).map_err(|(source, _)| Error::Produce { topic: topic.to_owned(), source })
    }
}

/// The id of our own version of a record's schema.
pub(crate) async fn own_schema_id<R: Record>(registry: &Registry) -> Result<u32, Error> {
    registry.id_of::<R>().await.map_err(|failure| {
        if failure.is_not_found() { Error::Unregistered { record: R::NAME } } else { failure.into() }
    })
}
