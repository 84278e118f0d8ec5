//! Offsets in the table `consumer_offset`, which move in the transaction of the rows.
//!
//! *Exactly once.* [`advance`] moves a partition's offset only if the stored one isn't past the batch already, and holds
//! the row's lock until the end of the transaction. So of two runners that believe to own a partition, one waits, then
//! finds the offset moved, rolls back and reads again from there. Offsets have gaps (transaction markers), hence "not
//! past" rather than "equal": the reader hands out each assignment's records without a hole from a stored offset on.
//!
//! *Fresh partitions* have offset 0, which stands for the beginning, wherever that is by now.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use deadpool_postgres::{Pool, Transaction};
use runtime::kafka::reader::{Loading, Place};
use runtime::kafka::{OffsetStore, Received, Start};
use tokio_postgres::Error as PgError;

use crate::error::{self, Error};
use crate::status::Status;

const MAKE: &str = "
    INSERT INTO consumer_offset (consumer, topic, partition, next_offset, log_id)
    SELECT $1, p.topic, p.partition, 0, $4 FROM unnest($2::text[], $3::int[]) AS p (topic, partition)
    ON CONFLICT DO NOTHING";
const LOAD: &str = "
    SELECT o.topic, o.partition, o.next_offset, o.log_id FROM consumer_offset o
      JOIN unnest($2::text[], $3::int[]) AS p (topic, partition) ON o.topic = p.topic AND o.partition = p.partition
     WHERE o.consumer = $1";
const OTHER_LOG: &str =
    "SELECT log_id FROM consumer_offset WHERE consumer = $1 AND topic = $2 AND log_id <> $3 LIMIT 1";
const ADVANCE: &str = "
    UPDATE consumer_offset o SET next_offset = p.next_offset
      FROM unnest($3::text[], $4::int[], $5::bigint[], $6::bigint[]) AS p (topic, partition, first_offset, next_offset)
     WHERE o.consumer = $1 AND o.log_id = $2 AND o.topic = p.topic AND o.partition = p.partition
       AND o.next_offset <= p.first_offset";

/// A projection's offsets, for the reader.
pub(crate) struct Checkpoint {
    pub(crate) consumer: &'static str,
    pub(crate) log_id: Arc<str>,
    pub(crate) pool: Pool,
    pub(crate) status: Status,
}

impl Checkpoint {
    /// Refuses offsets of another log: they would be taken for this one's, and records skipped or repeated.
    pub(crate) async fn check_log(&self, topic: &str) -> Result<(), Error> {
        let client = self.pool.get().await?;
        let other = client
            .query_opt(OTHER_LOG, &[&self.consumer, &topic, &&*self.log_id])
            .await
            .map_err(Error::database("reading offsets"))?;
        match other {
            None => Ok(()),
            Some(row) => {
                Err(Error::OtherLog { projection: self.consumer, recorded: row.get(0), found: self.log_id.to_string() })
            }
        }
    }

    async fn starts(&self, places: &[Place]) -> Result<HashMap<Place, Start>, Error> {
        let topics: Vec<&str> = places.iter().map(|(topic, _)| topic.as_str()).collect();
        let partitions: Vec<i32> = places.iter().map(|(_, partition)| *partition).collect();
        let client = self.pool.get().await?;
        let failed = Error::database("reading offsets");
        let query = async {
            client.execute(MAKE, &[&self.consumer, &topics, &partitions, &&*self.log_id]).await?;
            client.query(LOAD, &[&self.consumer, &topics, &partitions]).await
        };
        let rows = query.await.map_err(failed)?;
        rows.iter()
            .map(|row| {
                let recorded: String = row.get(3);
                if *recorded != *self.log_id {
                    let found = self.log_id.to_string();
                    return Err(Error::OtherLog { projection: self.consumer, recorded, found });
                }
                let start = match row.get(2) {
                    0 => Start::Beginning,
                    offset => Start::At(offset),
                };
                Ok(((row.get(0), row.get(1)), start))
            })
            .collect()
    }
}

impl OffsetStore for Checkpoint {
    fn load<'a>(&'a self, places: &'a [Place]) -> Loading<'a> {
        Box::pin(async move {
            match self.starts(places).await {
                Ok(starts) => {
                    self.status.ready();
                    Ok(starts)
                }
                Err(failure) => {
                    let problem = error::chain(&failure);
                    self.status.not_ready(problem.clone());
                    Err(problem)
                }
            }
        })
    }
}

/// For each partition, the first offset of these records and the one after the last.
pub(crate) fn ranges(records: &[Received]) -> BTreeMap<(&str, i32), (i64, i64)> {
    let mut ranges = BTreeMap::new();
    for record in records {
        ranges
            .entry((&*record.topic, record.partition))
            .and_modify(|(_, next): &mut (i64, i64)| *next = record.offset + 1)
            .or_insert((record.offset, record.offset + 1));
    }
    ranges
}

/// Moves the offsets past these records, if no partition's stored offset is past its first; says whether it was so. If
/// not, the transaction must be rolled back.
pub(crate) async fn advance(
    transaction: &Transaction<'_>,
    consumer: &str,
    log_id: &str,
    records: &[Received],
) -> Result<bool, PgError> {
    let places = ranges(records);
    let topics: Vec<&str> = places.iter().map(|((topic, _), _)| *topic).collect();
    let partitions: Vec<i32> = places.iter().map(|((_, partition), _)| *partition).collect();
    let firsts: Vec<i64> = places.iter().map(|(_, (first, _))| *first).collect();
    let nexts: Vec<i64> = places.iter().map(|(_, (_, next))| *next).collect();
    let statement = transaction.prepare_cached(ADVANCE).await?;
    let moved = transaction.execute(&statement, &[&consumer, &log_id, &topics, &partitions, &firsts, &nexts]).await?;
    Ok(moved == places.len() as u64)
}
