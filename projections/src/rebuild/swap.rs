//! The fresh tables take the place of the live ones.

use std::sync::Arc;
use std::time::Duration;

use runtime::postgres::quoted;
use runtime::retry::Backoff;
use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;

use super::fresh::Fresh;
use super::{Rebuilder, Replay, Until, targets};
use crate::error::Error;

/// Locks are waited for so long, and then let go of: whoever reads the tables waits behind the swap. A swap that is stopped
/// in the middle is ended by the server, since the runners wait for it.
const PATIENCE: &str = "
    SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";
const PATIENCE_OF_READERS: &str = "SET LOCAL lock_timeout = '1s'";
/// What is read while the runners wait takes no longer.
const LAST_PASS: Duration = Duration::from_secs(30);
/// Attempts before it is told to whoever asked for it.
const ATTEMPTS: usize = 20;
/// Pauses between them: readers come first.
const PAUSES_MS: (u64, u64) = (500, 10_000);

/// Runners lock these rows before anything else in their transactions.
pub(super) const LOCK_OFFSETS: &str = "
    SELECT FROM consumer_offset WHERE consumer = $1 ORDER BY topic, partition FOR UPDATE";
const VERSION: &str = "
    INSERT INTO projection_version (projection, version, rebuilt_at) VALUES ($1, $2, now())
    ON CONFLICT (projection) DO UPDATE SET version = excluded.version, rebuilt_at = excluded.rebuilt_at";

/// Reads what is left and swaps; says how many records were left.
pub(super) async fn swap<P: Replay>(rebuilder: &Rebuilder, projection: &Arc<P>, fresh: &Fresh) -> Result<u64, Error> {
    let mut records = 0;
    let mut pauses = Backoff::new(PAUSES_MS.0, PAUSES_MS.1);
    let mut attempt = 1;
    loop {
        let outcome = attempt_once(rebuilder, projection, fresh, &mut records).await;
        match outcome {
            Ok(true) => return Ok(records),
            Ok(false) => {}
            Err(Error::Database { source, .. }) if is_in_use(&source) && attempt < ATTEMPTS => {}
            Err(failure) => return Err(failure),
        }
        if attempt == ATTEMPTS {
            return Err(Error::Busy { projection: P::NAME });
        }
        attempt += 1;
        tracing::info!(projection = P::NAME, "the tables are in use, or much was left to read; the swap tries again");
        tokio::time::sleep(pauses.next_pause()).await;
        records += rebuilder.pass(projection, fresh, Until::End).await?;
    }
}

fn is_in_use(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(code))
}

/// Says whether it was done; if not, nothing has changed.
async fn attempt_once<P: Replay>(
    rebuilder: &Rebuilder,
    projection: &Arc<P>,
    fresh: &Fresh,
    records: &mut u64,
) -> Result<bool, Error> {
    let failed = || Error::database("swapping tables");
    let mut client = rebuilder.connect().await?;
    let transaction = client.transaction().await.map_err(failed())?;
    transaction.batch_execute(PATIENCE).await.map_err(failed())?;
    transaction.query(LOCK_OFFSETS, &[&P::NAME]).await.map_err(failed())?;
    // From here on the runners wait.
    let until = targets::<P>(rebuilder, &transaction).await?;
    match tokio::time::timeout(LAST_PASS, rebuilder.pass(projection, fresh, until)).await {
        Ok(read) => *records += read?,
        Err(_) => return Ok(false),
    }
    if !change_places::<P>(&transaction, fresh).await.map_err(failed())? {
        return Ok(false);
    }
    transaction.commit().await.map_err(failed())?;
    Ok(true)
}

/// Says whether every offset went forward.
async fn change_places<P: Replay>(transaction: &Transaction<'_>, fresh: &Fresh) -> Result<bool, tokio_postgres::Error> {
    let (schema, former) = (quoted(&fresh.schema), quoted(&format!("{}_former", fresh.schema)));
    let live: String = transaction.query_one("SELECT quote_ident(current_schema())", &[]).await?.get(0);
    if P::OTHER_TOPICS.is_empty() {
        let (rows, moved) = move_offsets(transaction, &schema).await?;
        // A runner that came while nothing was locked yet may be ahead.
        if moved != rows {
            return Ok(false);
        }
    }
    transaction.batch_execute(&format!("{PATIENCE_OF_READERS}; CREATE SCHEMA {former}")).await?;
    for table in P::TABLES {
        let table = quoted(table);
        transaction
            .batch_execute(&format!(
                "ALTER TABLE {live}.{table} SET SCHEMA {former}; ALTER TABLE {schema}.{table} SET SCHEMA {live};
                 DROP TABLE {former}.{table}"
            ))
            .await?;
    }
    transaction.execute(VERSION, &[&P::NAME, &(P::VERSION as i32)]).await?;
    transaction.batch_execute(&format!("DROP SCHEMA {former}; DROP SCHEMA {schema} CASCADE")).await?;
    Ok(true)
}

/// Takes the rebuilt offsets, never one that is behind the live one; how many there are, and how many were taken.
async fn move_offsets(transaction: &Transaction<'_>, schema: &str) -> Result<(u64, u64), tokio_postgres::Error> {
    let moved = format!(
        "INSERT INTO consumer_offset AS live (consumer, topic, partition, next_offset, log_id)
         SELECT consumer, topic, partition, next_offset, log_id FROM {schema}.consumer_offset
             ON CONFLICT (consumer, topic, partition) DO UPDATE
            SET next_offset = excluded.next_offset, log_id = excluded.log_id
          WHERE live.log_id <> excluded.log_id OR live.next_offset <= excluded.next_offset"
    );
    let rows = transaction.query_one(&format!("SELECT count(*) FROM {schema}.consumer_offset"), &[]).await?;
    Ok((rows.get::<_, i64>(0) as u64, transaction.execute(&moved, &[]).await?))
}
