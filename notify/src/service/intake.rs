//! The intake: `chat.notifications` becomes tasks, each once, whatever comes twice.
//!
//! A record that can't be read goes to the dead letters as it came, and its partition goes on.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use runtime::kafka::Received;
use schemas::topics::Topic;
use schemas::{Decoder, Notification, notification_type};

use super::Notifier;
use super::consume::Work;
use super::error::{Error, chain};
use super::{adding, metrics};

/// The work of one process.
pub(crate) struct Intake {
    notifier: Arc<Notifier>,
    decoder: Decoder<Notification>,
}

impl Intake {
    pub(crate) fn new(notifier: &Arc<Notifier>, schema_id: u32) -> Self {
        Self { decoder: Decoder::new(Arc::clone(&notifier.registry), schema_id), notifier: Arc::clone(notifier) }
    }
}

impl Work for Intake {
    const NAME: &'static str = "notifier-senders";
    const LAG: &'static str = metrics::INTAKE_LAG;
    const TOPICS: &'static [Topic] = &[Topic::ChatNotifications];
    const FROM_END: bool = false;
    const BATCH: usize = 500;
    type Plan = Vec<Notification>;

    async fn prepare(&self, records: &[Received]) -> Result<(Vec<Notification>, usize), Error> {
        let mut notifications = Vec::with_capacity(records.len());
        for record in records {
            let value = record.value.as_deref().unwrap_or_default();
            match self.decoder.decode(value).await {
                Ok(notification) => notifications.push(notification),
                Err(error) if error.is_transient() => return Err(error.into()),
                Err(error) => self.bury(record, value, &chain(&error)).await?,
            }
        }
        Ok((notifications, records.len()))
    }

    async fn apply(&self, transaction: &Transaction<'_>, notifications: &Vec<Notification>) -> Result<(), Error> {
        let of = |kind: &str| -> Vec<&Notification> {
            notifications.iter().filter(|notification| notification.notification_type == kind).collect()
        };
        let messages: Vec<Notification> = of(notification_type::MESSAGE).into_iter().cloned().collect();
        adding::add_messages(&self.notifier, transaction, &messages, false).await?;
        for group in of(notification_type::GROUP) {
            adding::add_group(transaction, group).await?;
        }
        for read in of(notification_type::READ) {
            adding::add_clears(&self.notifier, transaction, read).await?;
        }
        // Only those that come back from the dead letters: others are made with their task.
        for digest in of(notification_type::DIGEST) {
            adding::add_mail(transaction, digest).await?;
        }
        Ok(())
    }

    fn done(&self, _records: &[Received]) {
        self.notifier.wake.notify_one();
    }
}

impl Intake {
    async fn bury(&self, record: &Received, value: &[u8], reason: &str) -> Result<(), Error> {
        ::metrics::counter!(metrics::POISON).increment(1);
        let (topic, partition, offset) = (&*record.topic, record.partition, record.offset);
        tracing::error!(
            topic,
            partition,
            offset,
            error = reason,
            "a notification can't be read and goes to the dead letters"
        );
        let source = (topic, &*partition.to_string(), &*offset.to_string());
        let key = record.key.as_deref().unwrap_or_default();
        self.notifier.publisher.bury_bytes(key, value, source, reason).await
    }
}
