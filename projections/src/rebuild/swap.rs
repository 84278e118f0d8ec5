//! The fresh tables take the place of the live ones.

use std::sync::Arc;
use std::time::Duration;

use runtime::kafka::admin::Admin;
use runtime::postgres::quoted;
use runtime::retry::Backoff;
use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;

use super::fresh::{self, Fresh};
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
const TOPICS: &str = "SELECT DISTINCT topic FROM consumer_offset WHERE consumer = $1";
const FORGET: &str = "DELETE FROM consumer_offset WHERE consumer = $1 AND topic = $2 AND log_id <> $3";
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
    if !change_places::<P>(rebuilder, &transaction, fresh).await? {
        return Ok(false);
    }
    transaction.commit().await.map_err(failed())?;
    Ok(true)
}

/// Says whether every offset went forward.
async fn change_places<P: Replay>(
    rebuilder: &Rebuilder,
    transaction: &Transaction<'_>,
    fresh: &Fresh,
) -> Result<bool, Error> {
    let failed = || Error::database("swapping tables");
    let (schema, former) = (quoted(&fresh.schema), quoted(&format!("{}_former", fresh.schema)));
    let live = transaction.query_one("SELECT quote_ident(current_schema())", &[]).await.map_err(failed())?;
    let live: String = live.get(0);
    // Whoever is still at work on the fresh tables, a rebuild that was given up for dead, is waited for or comes too late.
    let lock = format!("SELECT FROM {schema}.consumer_offset ORDER BY topic, partition FOR UPDATE");
    transaction.query(&lock, &[]).await.map_err(failed())?;
    if P::OTHER_TOPICS.is_empty() {
        let (rows, moved) = move_offsets(transaction, &schema).await.map_err(failed())?;
        // A runner that came while nothing was locked yet may be ahead.
        if moved != rows {
            return Ok(false);
        }
    }
    forget_other_logs::<P>(rebuilder, transaction).await?;
    if !rebuilder.loses_rows {
        no_loss::<P>(transaction, &live, &schema).await?;
    }
    let tables: Vec<String> = P::TABLES.iter().map(|table| format!("{live}.{}", quoted(table))).collect();
    let lock = format!("{PATIENCE_OF_READERS}; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", tables.join(", "));
    transaction.batch_execute(&lock).await.map_err(failed())?;
    // Made since the rebuild began, perhaps hours ago.
    fresh::no_obstacle::<P>(transaction).await?;
    let moving = async {
        transaction.batch_execute(&format!("CREATE SCHEMA {former}")).await?;
        for table in P::TABLES {
            let table = quoted(table);
            fresh::settle_like(transaction, &format!("{live}.{table}"), &format!("{schema}.{table}")).await?;
            transaction
                .batch_execute(&format!(
                    "ALTER TABLE {live}.{table} SET SCHEMA {former}; ALTER TABLE {schema}.{table} SET SCHEMA {live};
                     DROP TABLE {former}.{table}"
                ))
                .await?;
        }
        transaction.execute(VERSION, &[&P::NAME, &(P::VERSION as i32)]).await?;
        transaction.batch_execute(&format!("DROP SCHEMA {former}; DROP SCHEMA {schema} CASCADE")).await
    };
    moving.await.map_err(failed())?;
    Ok(true)
}

/// Offsets of logs that aren't there any more would stop the runners again; without one they begin at the beginning.
async fn forget_other_logs<P: Replay>(rebuilder: &Rebuilder, transaction: &Transaction<'_>) -> Result<(), Error> {
    let failed = || Error::database("forgetting offsets of another log");
    let admin = Admin::new(&rebuilder.wiring.config.kafka)?;
    for row in transaction.query(TOPICS, &[&P::NAME]).await.map_err(failed())? {
        let topic: String = row.get(0);
        let log_id = admin.log_id(&topic).await?;
        transaction.execute(FORGET, &[&P::NAME, &topic, &log_id]).await.map_err(failed())?;
    }
    Ok(())
}

/// Refuses to take rows away that can't be had again.
async fn no_loss<P: Replay>(transaction: &Transaction<'_>, live: &str, schema: &str) -> Result<(), Error> {
    for &(table, key) in P::IRREPLACEABLE {
        let name = quoted(table);
        let lost = format!(
            "SELECT count(*) FROM (SELECT {key} FROM {live}.{name} EXCEPT SELECT {key} FROM {schema}.{name}) AS lost"
        );
        let lost =
            transaction.query_one(&lost, &[]).await.map_err(Error::database("looking for rows that would be lost"))?;
        match lost.get(0) {
            0 => {}
            rows => return Err(Error::WouldLose { projection: P::NAME, table, rows }),
        }
    }
    Ok(())
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
