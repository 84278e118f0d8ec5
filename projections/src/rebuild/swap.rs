//! The fresh tables take the place of the live ones.

use std::sync::Arc;

use runtime::postgres::quoted;
use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;

use super::fresh::Fresh;
use super::{Rebuilder, Replay, targets};
use crate::error::Error;

/// How long the swap waits for a lock that somebody holds, before it lets go of its own and tries again: whoever reads
/// the tables waits behind it.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '5s'";
/// Attempts.
const ATTEMPTS: usize = 20;

/// Runners lock these rows before anything else in their transactions.
pub(super) const LOCK_OFFSETS: &str = "
    SELECT FROM consumer_offset WHERE consumer = $1 ORDER BY topic, partition FOR UPDATE";
const VERSION: &str = "
    INSERT INTO projection_version (projection, version, rebuilt_at) VALUES ($1, $2, now())
    ON CONFLICT (projection) DO UPDATE SET version = excluded.version, rebuilt_at = excluded.rebuilt_at";

/// Reads what is left and swaps; says how many records were left.
pub(super) async fn swap<P: Replay>(rebuilder: &Rebuilder, projection: &Arc<P>, fresh: &Fresh) -> Result<u64, Error> {
    let mut records = 0;
    let mut attempt = 0;
    loop {
        attempt += 1;
        match once(rebuilder, projection, fresh, &mut records).await {
            Err(Error::Database { source, .. })
                if attempt < ATTEMPTS
                    && source.code().is_some_and(|code| {
                        [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
                    }) =>
            {
                tracing::info!(projection = P::NAME, "the tables are in use; the swap tries again");
            }
            outcome => return outcome.map(|()| records),
        }
    }
}

async fn once<P: Replay>(
    rebuilder: &Rebuilder,
    projection: &Arc<P>,
    fresh: &Fresh,
    records: &mut u64,
) -> Result<(), Error> {
    let failed = || Error::database("swapping tables");
    let mut client = rebuilder.connect().await?;
    let transaction = client.transaction().await.map_err(failed())?;
    transaction.batch_execute(LOCK_TIMEOUT).await.map_err(failed())?;
    transaction.query(LOCK_OFFSETS, &[&P::NAME]).await.map_err(failed())?;
    // From here on the runners wait.
    let until = targets::<P>(rebuilder, &transaction).await?;
    *records += rebuilder.pass(projection, fresh, until).await?;
    change_places::<P>(&transaction, fresh).await.map_err(failed())?;
    transaction.commit().await.map_err(failed())
}

async fn change_places<P: Replay>(transaction: &Transaction<'_>, fresh: &Fresh) -> Result<(), tokio_postgres::Error> {
    let (schema, former) = (quoted(&fresh.schema), quoted(&format!("{}_former", fresh.schema)));
    let live: String = transaction.query_one("SELECT quote_ident(current_schema())", &[]).await?.get(0);
    transaction.batch_execute(&format!("CREATE SCHEMA {former}")).await?;
    for table in P::TABLES {
        let table = quoted(table);
        transaction
            .batch_execute(&format!(
                "ALTER TABLE {live}.{table} SET SCHEMA {former}; ALTER TABLE {schema}.{table} SET SCHEMA {live}"
            ))
            .await?;
    }
    if P::OTHER_TOPICS.is_empty() {
        transaction
            .execute(
                &format!(
                    "INSERT INTO consumer_offset (consumer, topic, partition, next_offset, log_id)
                     SELECT consumer, topic, partition, next_offset, log_id FROM {schema}.consumer_offset
                         ON CONFLICT (consumer, topic, partition) DO UPDATE
                        SET next_offset = excluded.next_offset, log_id = excluded.log_id"
                ),
                &[],
            )
            .await?;
    }
    transaction.execute(VERSION, &[&P::NAME, &(P::VERSION as i32)]).await?;
    transaction.batch_execute(&format!("DROP SCHEMA {former} CASCADE; DROP SCHEMA {schema} CASCADE")).await
}
