//! Live rows against rebuilt ones, at the same offsets.
//!
//! The live rows are copied, and their offsets noted, in one snapshot; it is taken while the offsets are locked, which is
//! for a moment only. The history is then replayed up to there, and the two are compared in the database.

use std::sync::Arc;

use runtime::postgres::quoted;
use tokio_postgres::{IsolationLevel, Transaction};

use super::fresh::{Begin, Fresh};
use super::{Rebuilder, Replay, Until, targets};
use crate::error::Error;

/// Rows that differ are shown up to this many.
const SHOWN: i64 = 10;
/// Compacted topics may lack what the live tables were made of, if it was overtaken since. Another look decides.
const ATTEMPTS: usize = 3;
/// The comparison reads whole tables, and its values must look the same on both sides.
const WHOLE_TABLES: &str = "
    SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on;
    SET LOCAL plan_cache_mode = auto; SET LOCAL timezone = 'UTC'; SET LOCAL lock_timeout = '10s'";

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Each table: its name, rows and hash on the live side, then on the rebuilt one. The hash doesn't depend on the order
    /// of the rows.
    pub tables: Vec<(&'static str, Side, Side)>,
    /// Topic, partition and the offset up to which both have read.
    pub offsets: Vec<(String, i32, i64)>,
    /// The first rows that differ.
    pub differences: Vec<Difference>,
}

impl Verdict {
    /// Whether every row is the same.
    pub fn is_equal(&self) -> bool {
        self.tables.iter().all(|(_, live, rebuilt)| live == rebuilt)
    }
}

/// One side of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Rows.
    pub rows: i64,
    /// Hash of all of them.
    pub hash: String,
}

/// A row that only one side has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Table.
    pub table: &'static str,
    /// Whether it is the live side's; the rebuilt one's otherwise.
    pub is_live: bool,
    /// The row as JSON, without the text of a message.
    pub row: String,
    /// Its chat, if it has one.
    pub chat_id: Option<String>,
}

pub(super) async fn verify<P: Replay>(rebuilder: &Rebuilder, projection: &Arc<P>) -> Result<Verdict, Error> {
    let mut attempt = 1;
    loop {
        let verdict = once(rebuilder, projection).await?;
        if verdict.is_equal() || P::HAS_PAST || attempt == ATTEMPTS {
            return Ok(verdict);
        }
        attempt += 1;
    }
}

async fn once<P: Replay>(rebuilder: &Rebuilder, projection: &Arc<P>) -> Result<Verdict, Error> {
    let schema = format!("verify_{}", P::NAME);
    let fresh = Fresh::open(rebuilder, &**projection, &schema, None, Begin::Anew).await?;
    let copy = format!("{schema}_live");
    let verdict = rebuilder.unless_stopped(Box::pin(replayed(rebuilder, projection, &fresh, &copy))).await;
    // Two copies of the tables, with everybody's words: not to be left, whatever came of it.
    let cleared = if matches!(verdict, Err(Error::Stopped)) { fresh.clear(&copy).await } else { Ok(()) };
    let client = rebuilder.connect().await?;
    super::fresh::drop_schema(&client, &copy).await?;
    fresh.drop().await?;
    cleared.and(verdict)
}

async fn replayed<P: Replay>(
    rebuilder: &Rebuilder,
    projection: &Arc<P>,
    fresh: &Fresh,
    copy: &str,
) -> Result<Verdict, Error> {
    let failed = || Error::database("comparing rows");
    rebuilder.progress.phase("copying the live rows");
    let until = copy_live::<P>(rebuilder, copy).await?;
    let offsets = match &until {
        Until::End => Vec::new(),
        Until::Offsets(offsets) => {
            offsets.iter().map(|((topic, number), end)| (topic.clone(), *number, *end)).collect()
        }
    };
    rebuilder.pass(projection, fresh, until).await?;
    rebuilder.progress.phase("comparing rows");
    let mut client = fresh.pool.get().await?;
    let transaction = client.transaction().await.map_err(failed())?;
    compare::<P>(&transaction, copy, offsets).await.map_err(failed())
}

/// Copies what counts of the live tables, and says which offsets they are at.
async fn copy_live<P: Replay>(rebuilder: &Rebuilder, copy: &str) -> Result<Until, Error> {
    let failed = || Error::database("copying the live rows");
    let (mut locking, mut copying) = (rebuilder.connect().await?, rebuilder.connect().await?);
    super::fresh::drop_schema(&copying, copy).await?;
    let lock = locking.transaction().await.map_err(failed())?;
    let patience = "SET LOCAL lock_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";
    lock.batch_execute(patience).await.map_err(failed())?;
    lock.query(super::swap::LOCK_OFFSETS, &[&P::NAME]).await.map_err(failed())?;
    let snapshot = copying.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await;
    let snapshot = snapshot.map_err(failed())?;
    // The first statement takes it.
    snapshot.batch_execute("SELECT 1").await.map_err(failed())?;
    let until = targets::<P>(rebuilder, &snapshot).await?;
    // The runners may go on.
    lock.rollback().await.map_err(failed())?;
    let copied = async {
        let schema = quoted(copy);
        let whose = super::fresh::described(copy, &format!("{}{}, the live rows", super::fresh::MADE_BY_US, P::NAME));
        snapshot.batch_execute(&format!("CREATE SCHEMA {schema}; {whose}")).await?;
        for table in P::TABLES {
            let (decided, table) = (P::decided(table), quoted(table));
            let statement = format!("CREATE TABLE {schema}.{table} AS SELECT r.* FROM {table} r WHERE {decided}");
            snapshot.batch_execute(&statement).await?;
        }
        snapshot.commit().await
    };
    copied.await.map_err(failed())?;
    Ok(until)
}

/// In a session that sees the rebuilt tables.
async fn compare<P: Replay>(
    transaction: &Transaction<'_>,
    copy: &str,
    offsets: Vec<(String, i32, i64)>,
) -> Result<Verdict, tokio_postgres::Error> {
    transaction.batch_execute(WHOLE_TABLES).await?;
    let mut verdict = Verdict { tables: Vec::new(), offsets, differences: Vec::new() };
    for &table in P::TABLES {
        let name = quoted(table);
        let live = format!("SELECT r.* FROM {}.{name} r", quoted(copy));
        let rebuilt = format!("SELECT r.* FROM {name} r WHERE {}", P::decided(table));
        let (live_side, rebuilt_side) = (side(transaction, &live).await?, side(transaction, &rebuilt).await?);
        if live_side != rebuilt_side {
            let different = format!(
                "SELECT is_live, (line #- '{{message,content}}')::text, line ->> 'chat_id' FROM (
                     SELECT true AS is_live, to_jsonb(d) AS line FROM ({live} EXCEPT ALL {rebuilt}) d
                      UNION ALL
                     SELECT false, to_jsonb(d) FROM ({rebuilt} EXCEPT ALL {live}) d) AS different
                  ORDER BY line::text, is_live LIMIT $1"
            );
            for row in transaction.query(&different, &[&SHOWN]).await? {
                let (is_live, row, chat_id) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                verdict.differences.push(Difference { table, is_live, row, chat_id });
            }
        }
        verdict.tables.push((table, live_side, rebuilt_side));
    }
    Ok(verdict)
}

async fn side(transaction: &Transaction<'_>, rows: &str) -> Result<Side, tokio_postgres::Error> {
    let sums = format!(
        "SELECT count(*), coalesce(sum(('x' || left(hash, 15))::bit(60)::bigint), 0)::text,
                coalesce(sum(('x' || right(hash, 15))::bit(60)::bigint), 0)::text
           FROM (SELECT md5(d::text) AS hash FROM ({rows}) AS d) AS hashes"
    );
    let row = transaction.query_one(&sums, &[]).await?;
    let sum =
        |column: usize| row.try_get::<_, String>(column).map(|text| text.parse::<u128>().unwrap_or_default() as u64);
    Ok(Side { rows: row.try_get(0)?, hash: format!("{:016x}{:016x}", sum(1)?, sum(2)?) })
}
