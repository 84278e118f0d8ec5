//! Producers that are alone under their slot's transactional ids.

use std::time::Duration;

use runtime::Config;
use schemas::{Encoder, Position};

use crate::error::Error;
use crate::producer::{Options, ProduceError, Producer, Record};
use crate::record::{Destination, Topics};

/// How long a transaction may stay open before Kafka aborts it and frees its readers.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the topics stand among those of a producer.
pub(super) const EVENTS: usize = 0;
pub(super) const USERS: usize = 1;
pub(super) const POSITIONS: usize = 2;

/// The transactional ids of a slot, which take turns.
///
/// Kafka says that a transaction is committed when that can't be undone any more, and writes the markers then. Until it
/// has, it takes no next transaction of the same id: one id alone would wait for the markers.
const IDS: [&str; 2] = ["a", "b"];

/// Producers that have fenced every earlier one of their slot.
///
/// Transactions still follow one another: the next is begun when everything of the one before is at the brokers and its
/// commit has been asked for, so each partition has their records in order; and it is committed after that one was, so
/// that none is ever committed whose predecessor wasn't. Between partitions a reader may see one transaction before the
/// end of the one before it.
///
/// Two ids can't be taken over at once, so their order matters: always the first id first, and the first transaction is
/// always of the first id. Of two workers that take over at the same time, the one whose first id is the older so fails
/// with its first transaction, whoever has the newer second one.
pub struct Fenced {
    producers: [Producer; 2],
    turn: usize,
}

impl Fenced {
    /// New producers under the slot's transactional ids; blocks. Earlier ones can't commit anything after this, and what
    /// they left open is aborted.
    pub fn take_over(config: &Config, slot: &str) -> Result<Self, Error> {
        let [first, second] = IDS;
        let first = take_over(config, slot, first)?;
        let second = take_over(config, slot, second)?;
        Ok(Self { producers: [first, second], turn: 0 })
    }

    /// The producer whose turn it is.
    pub(super) const fn producer(&mut self) -> &mut Producer {
        &mut self.producers[self.turn]
    }

    /// Asks for the commit of what is at the brokers, and gives the turn to the other producer. The commit before must have
    /// been finished.
    pub(super) fn start_commit(&mut self) -> Result<(), ProduceError> {
        self.producer().start_commit()?;
        self.turn = 1 - self.turn;
        Ok(())
    }

    /// Waits for the commit that was asked for.
    pub(super) fn finish_commit(&mut self) -> Result<(), ProduceError> {
        self.producers[1 - self.turn].finish_commit()
    }

    /// Gives up the open transaction, as far as Kafka still listens. A commit that was asked for stays so.
    pub(super) fn abort(self) -> Result<(), ProduceError> {
        let [first, second] = self.producers;
        if self.turn == 0 { first } else { second }.abort()
    }

    /// Publishes one position on its own; blocks.
    pub fn publish_position(&mut self, position: &Position, encoder: &Encoder<Position>) -> Result<(), Error> {
        let value = encoder.encode(position)?;
        let failed = |source| Error::Publish { what: "writing the position".into(), source };
        append_position(self.producer(), position, &value).map_err(failed)?;
        self.producer().commit().map_err(failed)
    }
}

/// Adds a position to the open transaction.
pub(super) fn append_position(producer: &mut Producer, position: &Position, value: &[u8]) -> Result<(), ProduceError> {
    let record = Record {
        key: position.slot.as_bytes(),
        value: Some(value),
        timestamp_ms: runtime::clock::now_ms(),
        headers: &[],
    };
    producer.append(POSITIONS, Some(0), &record)
}

/// Where a destination's topic stands.
pub(super) const fn topic_of(destination: Destination) -> usize {
    match destination {
        Destination::Events => EVENTS,
        Destination::Users => USERS,
    }
}

fn take_over(config: &Config, slot: &str, id: &str) -> Result<Producer, Error> {
    let topics = Topics::new(&config.names());
    let options = Options {
        transactional_id: config.names().transactional_id(&format!("cdc-{slot}-{id}")),
        transaction_timeout: TRANSACTION_TIMEOUT,
        topics: vec![topics.events, topics.users, topics.positions],
        compression: config.cdc.compression,
    };
    Producer::take_over(&config.kafka, &options)
        .map_err(|source| Error::Publish { what: "taking over the transactional id".into(), source })
}
