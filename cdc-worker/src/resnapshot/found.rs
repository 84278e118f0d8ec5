//! What is found before anything is changed.

use schemas::Position;
use tokio_postgres::Client;

use super::Fault;
use super::log::{self, Log};
use super::report::{Report, Summary};
use super::tables;
use crate::checks::{self, Difference, Facts, KafkaFacts};
use crate::error::Error;
use crate::lsn::Lsn;
use crate::replication::{Connection, System};
use crate::takeover::Worker;

pub(super) struct Found {
    pub(super) client: Client,
    pub(super) system: System,
    pub(super) kafka: KafkaFacts,
    pub(super) log: Log,
    /// Why a plain worker wouldn't start.
    pub(super) refusal: Option<String>,
    stored: Option<Position>,
    /// The mark of an earlier run, where its slot and the topics are still what they were.
    is_resumed: bool,
}

/// Where an earlier run was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resumed {
    /// The slot's start, if the tables are still being read.
    pub(super) start: Lsn,
    /// Of the last row.
    pub(super) ordinal: i64,
    /// What the tables had is in the history; the stream is being followed.
    pub(super) is_past_tables: bool,
    /// Up to where it is.
    pub(super) until: Lsn,
}

impl Found {
    /// Looks at slot, position and topics, and reads the history.
    pub(super) async fn look(
        worker: &Worker,
        report: &Report,
        stored: Option<Position>,
        kafka: KafkaFacts,
    ) -> Result<Self, Error> {
        let client = tables::connect(&worker.config).await?;
        checks::server_is_fit(&client, &worker.config).await?;
        let mut connection = Connection::open(&checks::slot_server(&worker.config)?).await?;
        let system = connection.identify().await?;
        let slot = checks::slot_facts(&client, &worker.slot).await?;
        if let Some(reason) = slot.as_ref().and_then(checks::foreign_slot) {
            return Err(worker.refused(reason));
        }
        if let Some(reason) = stored.as_ref().and_then(checks::handover_refusal) {
            return Err(worker.refused(reason));
        }
        let is_unused = stored.is_none() && worker.is_unused(&client).await?;
        let refusal = |is_completing| match &slot {
            Some(slot) => {
                let stored = stored.as_ref();
                // After a promotion the slot is made anew in any case, so that where the timelines part needn't be asked.
                let switches = &[];
                checks::refusal(&Facts {
                    slot,
                    system: &system,
                    switches,
                    kafka: &kafka,
                    stored,
                    is_unused,
                    is_completing,
                })
            }
            None => Some("the slot isn't there".to_owned()),
        };
        let is_marked = stored.as_ref().is_some_and(|stored| stored.resnapshot_until_lsn.is_some());
        let (refusal, is_resumed) = (refusal(false), is_marked && refusal(true).is_none());
        let log = log::read(worker, report).await?;
        // Who only looks does so beside a worker that publishes: the history is held against a later end of the WAL.
        let system = connection.identify().await?;
        Ok(Self { client, system, kafka, log, refusal, stored, is_resumed })
    }

    /// Whether the tables can complete the history; an error says why not.
    pub(super) async fn is_prefix(&self) -> Result<(), Error> {
        if let Some(problem) = self.stored.as_ref().and_then(|stored| checks::reshaped(&self.kafka, stored)) {
            return Err(Fault::NotAPrefix { place: "the history".into(), problem }.into());
        }
        let last = checks::last_of_here(&self.kafka, self.stored.as_ref(), &self.system, self.log.last);
        if let Some(last) = last.filter(|last| last.commit_lsn >= self.system.flush_lsn) {
            return Err(Fault::NotAPrefix {
                place: "the history".into(),
                problem: format!(
                    "it has an event of {}, but this server's WAL ends at {}: new events would stand before old ones",
                    last.commit_lsn, self.system.flush_lsn
                ),
            }
            .into());
        }
        tables::is_prefix(&self.client, &self.log).await?;
        // Of one that was written anew in place of what was published, the version tells nothing.
        match checks::first_other_change(&self.client, &self.kafka.last_changes).await? {
            Some(Difference { place, problem }) => Err(Fault::NotAPrefix { place, problem }.into()),
            None => Ok(()),
        }
    }

    /// Whether nothing is missing.
    pub(super) async fn is_whole(&self, report: &Report) -> Result<bool, Error> {
        if !tables::missing_of_chats(&self.client, &self.log, report).await?.is_empty() {
            return Ok(false);
        }
        let mut after = String::new();
        while let Some(missing) = tables::missing_users(&self.client, &self.log.users, &mut after).await? {
            if !missing.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where an earlier run was stopped, if this one goes on with it.
    pub(super) fn resumed(&self) -> Option<Resumed> {
        self.stored.as_ref().filter(|_| self.is_resumed).and_then(Resumed::of)
    }

    pub(super) fn tell(&self, summary: &mut Summary) {
        summary.events_before = self.log.events;
        summary.was_resumed = self.is_resumed;
        summary.refused_because.clone_from(&self.refusal);
    }
}

impl Resumed {
    /// What a marked position says.
    ///
    /// What comes from the tables stands right in front of the slot's start, up to which the slot is confirmable
    /// meanwhile. No commit record is so short, so nothing of the stream ever stands right in front of where it is
    /// confirmable.
    fn of(position: &Position) -> Option<Self> {
        let (place, confirmable) = (Lsn::from_bits(position.commit_lsn), Lsn::from_bits(position.confirmable_lsn));
        Some(Self {
            start: confirmable,
            ordinal: position.ordinal,
            is_past_tables: place.0 + 1 != confirmable.0,
            until: Lsn::from_bits(position.resnapshot_until_lsn?),
        })
    }
}
