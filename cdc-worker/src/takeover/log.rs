//! What a takeover reads from Kafka: the position, the last records, and what Kafka says of itself.

use std::sync::Arc;

use schemas::{ChatEvent, Position};

use super::Worker;
use crate::checks::{self, Head, KafkaFacts, LastEvent, LastRecords, Raw};
use crate::error::Error;
use crate::failpoint::Point;
use crate::lsn::Lsn;
use crate::position::{self, Lookers};
use crate::publisher::Fenced;
use crate::transaction::Place;

impl Worker {
    /// A new producer, then the position that no older producer can change any more, then what Kafka says of itself.
    pub(crate) async fn fence_and_read(&self) -> Result<(Fenced, Option<Position>, KafkaFacts), Error> {
        let (config, slot, failpoints) = (Arc::clone(&self.config), self.slot.clone(), self.failpoints.clone());
        let fencing = move || {
            if failpoints.dies_at(Point::Fencing) {
                return Err(Error::PublisherGone);
            }
            Fenced::take_over(&config, &slot)
        };
        // The readers connect meanwhile, and read afterwards.
        let (fenced, lookers) = tokio::join!(tokio::task::spawn_blocking(fencing), self.lookers());
        let (fenced, lookers) = (fenced.unwrap_or(Err(Error::PublisherGone))?, lookers?);
        let (topics, slot) = (self.topics.clone(), self.slot.clone());
        let deciding = move || match checks::undecided(&lookers.committed, &lookers.all, &topics)? {
            Some(undecided) => Err(Error::Refused { slot, reason: undecided.to_string() }),
            None => Ok(lookers),
        };
        let lookers = tokio::task::spawn_blocking(deciding).await.unwrap_or(Err(Error::PublisherGone))?;
        let (stored, kafka) = self.read_with(lookers).await?;
        Ok((fenced, stored, kafka))
    }

    /// The position, and what Kafka says of itself. Without fencing both may change at any moment.
    pub(crate) async fn read_stored(&self) -> Result<(Option<Position>, KafkaFacts), Error> {
        self.read_with(self.lookers().await?).await
    }

    async fn lookers(&self) -> Result<Lookers, Error> {
        let (config, topics) = (Arc::clone(&self.config), self.topics.clone());
        let blocking = move || Lookers::connect(&config, &topics);
        tokio::task::spawn_blocking(blocking).await.unwrap_or(Err(Error::PublisherGone))
    }

    async fn read_with(&self, lookers: Lookers) -> Result<(Option<Position>, KafkaFacts), Error> {
        let (topics, slot) = (self.topics.clone(), self.slot.clone());
        let blocking = move || {
            let Lookers { committed, all } = lookers;
            let bytes = position::read_bytes(&committed, &topics, &slot)?;
            let last = checks::last_records(&committed, &topics)?;
            let kafka = checks::kafka_facts(&committed, &topics)?;
            Ok::<_, Error>((all, bytes, last, kafka))
        };
        let (all, bytes, last, mut kafka) =
            tokio::task::spawn_blocking(blocking).await.unwrap_or(Err(Error::PublisherGone))?;
        let stored = self.position_in(bytes).await?;
        let LastRecords { events, changes } = last;
        (kafka.last_events, kafka.last_changes) = (self.events_in(&events).await?, changes);
        if let Some(stored) = &stored {
            let partitions = stored.partitions.clone();
            let ends = move || checks::ends_of(&all, &partitions);
            kafka.ends = tokio::task::spawn_blocking(ends).await.unwrap_or(Err(Error::PublisherGone))?;
        }
        Ok((stored, kafka))
    }

    /// A position as it is stored.
    pub(crate) async fn position_in(&self, bytes: Option<Vec<u8>>) -> Result<Option<Position>, Error> {
        let decoded = position::decode(Arc::clone(&self.registry), self.schema_ids.position, bytes).await;
        let place = || format!("the position in {}", self.topics.positions);
        decoded.map_err(|error| checks::unreadable(&self.slot, &place(), error))
    }

    /// Where records of the history came from.
    pub(crate) async fn events_in(&self, records: &[Raw]) -> Result<Vec<LastEvent>, Error> {
        let decoder = self.events();
        let mut events = Vec::new();
        for record in records {
            let Raw { partition, offset, .. } = *record;
            let place = || format!("the record of {}/{partition} at offset {offset}", self.topics.events);
            let decoded = decoder.decode(&record.value).await;
            let event = decoded.map_err(|error| checks::unreadable(&self.slot, &place(), error))?;
            let head = Head::of(&event);
            let ChatEvent { chat_id, origin, .. } = event;
            let place = Place { commit_lsn: Lsn::from_bits(origin.commit_lsn), ordinal: origin.ordinal };
            events.push(LastEvent { topic: self.topics.events.clone(), partition, offset, place, chat_id, head });
        }
        Ok(events)
    }

    /// Whether neither the history nor the event tables hold anything.
    pub(crate) async fn is_unused(&self, client: &tokio_postgres::Client) -> Result<bool, Error> {
        if checks::has_rows(client).await? {
            return Ok(false);
        }
        let (config, topics) = (Arc::clone(&self.config), self.topics.clone());
        tokio::task::spawn_blocking(move || checks::is_log_empty(&position::looker(&config)?, &topics))
            .await
            .unwrap_or(Err(Error::PublisherGone))
    }
}
