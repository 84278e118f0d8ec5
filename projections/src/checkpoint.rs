//! Offsets in the table `consumer_offset`, which move in the transaction of the rows.
//!
//! *Exactly once.* [`advance`] moves a partition's offset only from where this runner knows it to be, and holds the row's lock
//! until the end of the transaction. So of two runners that believe to own a partition, one waits, then finds the offset moved,
//! rolls back and reads again from there; so does one whose offset was moved back, with a backup of the database. What it knows
//! is what it loaded with its assignment, or committed since ([`Positions`]), and not the batch's first offset: offsets have
//! gaps (transaction markers). The reader hands out each assignment's records without a hole from a loaded offset on.
//!
//! *Fresh partitions* have offset 0, which stands for the beginning, wherever that is by now.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use deadpool_postgres::{Pool, Transaction};
use runtime::kafka::reader::{Loading, Place};
use runtime::kafka::{OffsetStore, Received, Start};
use tokio_postgres::Error as PgError;
use tokio_postgres::types::ToSql;

use crate::error::{self, Error};
use crate::projection::Projection;
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
const FIRST_VERSION: &str =
    "INSERT INTO projection_version (projection, version) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const VERSION: &str = "SELECT version FROM projection_version WHERE projection = $1";
const ADVANCE: &str = "
    UPDATE consumer_offset o SET next_offset = p.next_offset
      FROM unnest($3::text[], $4::int[], $5::bigint[], $6::bigint[]) AS p (topic, partition, first_offset, next_offset)
     WHERE o.consumer = $1 AND o.log_id = $2 AND o.topic = p.topic AND o.partition = p.partition
       AND o.next_offset = p.first_offset";

/// A projection's offsets, for the reader.
pub(crate) struct Checkpoint {
    pub(crate) consumer: &'static str,
    pub(crate) version: u32,
    pub(crate) log_id: Arc<str>,
    pub(crate) pool: Pool,
    pub(crate) status: Status,
    pub(crate) positions: Positions,
}

/// The stored offset of each partition of the present assignment, as one loop knows it.
#[derive(Clone, Default)]
pub(crate) struct Positions(Arc<Mutex<HashMap<Place, i64>>>);

impl Positions {
    /// The ranges, each from the stored offset on; `None` if a partition is none of the assignment's, or was read beyond its
    /// first record already.
    pub(crate) fn stored<'a>(&self, ranges: &Ranges<'a>) -> Option<Ranges<'a>> {
        let positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from_stored = |(place, (first, next)): (&(&'a str, i32), &(i64, i64))| {
            let at = positions.get(&(place.0.to_owned(), place.1)).filter(|at| *at <= first)?;
            Some((*place, (*at, *next)))
        };
        ranges.iter().map(from_stored).collect()
    }

    /// The ranges are committed.
    pub(crate) fn committed(&self, ranges: &Ranges<'_>) {
        let mut positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((topic, partition), (_, next)) in ranges {
            positions.insert(((*topic).to_owned(), *partition), *next);
        }
    }

    fn loaded(&self, starts: &HashMap<Place, Start>) {
        let offset = |start: &Start| if let Start::At(offset) = start { *offset } else { 0 };
        let loaded = starts.iter().map(|(place, start)| (place.clone(), offset(start))).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
    }
}

impl Checkpoint {
    /// Refuses rows that another version made; the first version that comes makes the first rows.
    pub(crate) async fn check_version(&self) -> Result<(), Error> {
        let client = self.pool.get().await?;
        let query = async {
            client.execute(FIRST_VERSION, &[&self.consumer, &(self.version as i32)]).await?;
            client.query_one(VERSION, &[&self.consumer]).await
        };
        let found: i32 = query.await.map_err(Error::database("reading versions"))?.get(0);
        if found as u32 == self.version {
            return Ok(());
        }
        Err(Error::OtherVersion { projection: self.consumer, found: found as u32, wanted: self.version })
    }

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

    /// Where each of these partitions starts; makes the rows that aren't there.
    pub(crate) async fn starts(&self, places: &[Place]) -> Result<HashMap<Place, Start>, Error> {
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
            let starts = async {
                self.check_version().await?;
                self.starts(places).await
            };
            match starts.await {
                Ok(starts) => {
                    self.positions.loaded(&starts);
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

/// For each partition, the first offset of some records, or the stored one before it, and the one after the last.
pub(crate) type Ranges<'a> = BTreeMap<(&'a str, i32), (i64, i64)>;

/// What these records take up.
pub(crate) fn ranges(records: &[Received]) -> Ranges<'_> {
    let mut ranges = BTreeMap::new();
    for record in records {
        ranges
            .entry((&*record.topic, record.partition))
            .and_modify(|(_, next): &mut (i64, i64)| *next = record.offset + 1)
            .or_insert((record.offset, record.offset + 1));
    }
    ranges
}

/// Moves the offsets past these records, if each partition's stored one is that at which its range begins; says whether it was
/// so. If not, the transaction must be rolled back.
///
/// Nor does it for another version than that which made the rows: of two programs, one of which is newer, only the one whose
/// tables are there goes on. That is a statement of its own, behind the lock: the first one may have waited for it while the
/// tables were swapped, and would still see the version of before.
pub(crate) async fn advance<P: Projection>(
    transaction: &Transaction<'_>,
    log_id: &str,
    places: &Ranges<'_>,
) -> Result<bool, PgError> {
    let topics: Vec<&str> = places.iter().map(|((topic, _), _)| *topic).collect();
    let partitions: Vec<i32> = places.iter().map(|((_, partition), _)| *partition).collect();
    let firsts: Vec<i64> = places.iter().map(|(_, (first, _))| *first).collect();
    let nexts: Vec<i64> = places.iter().map(|(_, (_, next))| *next).collect();
    let (advance, version) = (transaction.prepare_cached(ADVANCE).await?, transaction.prepare_cached(VERSION).await?);
    let values: [&(dyn ToSql + Sync); 6] = [&P::NAME, &log_id, &topics, &partitions, &firsts, &nexts];
    let name: [&(dyn ToSql + Sync); 1] = [&P::NAME];
    let (moved, version) = tokio::join!(transaction.execute(&advance, &values), transaction.query_opt(&version, &name));
    let is_ours = version?.is_some_and(|row| row.get::<_, i32>(0) == P::VERSION as i32);
    Ok(is_ours && moved? == places.len() as u64)
}
