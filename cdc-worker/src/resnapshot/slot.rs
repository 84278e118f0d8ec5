//! The slot that takes over from the tables, and the two moments that tie them together.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::Fault;
use crate::checks;
use crate::error::Error;
use crate::lsn::Lsn;
use crate::takeover::Worker;

/// How long the old slot's connection may take to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what ends by itself.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Prefix of the message that marks the end of what was read.
const PREFIX: &str = "waltalkie.resnapshot";

/// Drops the slot, if it is there, and makes it; returns where its stream starts. Waits for transactions that are open
/// anywhere on the server.
pub(super) async fn make_anew(worker: &Worker, client: &Client) -> Result<Lsn, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        checks::end_holder(client, &worker.slot).await?;
        let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
        match client.query(drop, &[&worker.slot]).await {
            Ok(_) => break,
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) && Instant::now() < deadline => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(source) => return Err(Error::Query { what: "dropping the slot", source }),
        }
    }
    let made = migrations::ensure_slot(client, &worker.config.names()).await?;
    let made = made.ok_or_else(|| Fault::OtherSlot(worker.slot.clone()))?;
    Ok(Lsn(made.consistent_lsn))
}

/// A place in the WAL behind the commit of everything that can be read now. Writes a message there, so that the stream
/// comes past it also while nobody writes anything else.
pub(super) async fn mark_wal(client: &Client) -> Result<Lsn, Error> {
    let sql = "SELECT (pg_logical_emit_message(true, $1, '') - '0/0')::bigint";
    let row = client.query_one(sql, &[&PREFIX]).await.map_err(Error::query("writing a message into the WAL"))?;
    Ok(Lsn::from_bits(row.get(0)))
}
