//! Publication and slot, and whether the server can have them.

use runtime::Names;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::{MigrateError, quoted};

/// The tables whose inserts are events.
const PUBLISHED: &str = "message, chat_change, user_change";

/// A slot that this call made, and where its stream starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotMade {
    /// Changes committed from here on are streamed.
    pub consistent_lsn: u64,
}

/// What keeps a server from logical replication, each with the way to mend it.
pub async fn server_problems(client: &Client) -> Result<Vec<String>, MigrateError> {
    let statement = |source| MigrateError::Statement { what: "reading the server's settings".into(), source };
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('wal_level'),
                    current_setting('max_replication_slots')::int, current_setting('max_wal_senders')::int",
            &[],
        )
        .await
        .map_err(statement)?;
    let (version, wal_level): (i32, String) = (row.get(0), row.get(1));
    let (slots, senders): (i32, i32) = (row.get(2), row.get(3));
    let mut problems = Vec::new();
    if version < 150_000 {
        problems.push(format!("PostgreSQL {} is too old: 15 or later is needed", version / 10_000));
    }
    if wal_level != "logical" {
        problems.push(format!(
            "wal_level is `{wal_level}`: run ALTER SYSTEM SET wal_level = 'logical' and restart the server (managed \
             services: logical_replication = on)"
        ));
    }
    if slots < 1 || senders < 1 {
        problems.push("max_replication_slots and max_wal_senders must each be at least 1; set them and restart".into());
    }
    Ok(problems)
}

/// Makes the publication of inserts if it isn't there; refuses one that publishes something else.
pub async fn ensure_publication(client: &Client, names: &Names) -> Result<(), MigrateError> {
    let name = names.publication();
    let statement = |source| MigrateError::Statement {
        what: format!("making publication {name} (the role must own the tables and may CREATE in the database)"),
        source,
    };
    let found = client
        .query_opt(
            "SELECT p.pubinsert AND NOT (p.pubupdate OR p.pubdelete OR p.pubtruncate) AND p.pubviaroot
                    AND NOT p.puballtables
                    AND (SELECT array_agg(t.tablename::text ORDER BY t.tablename) FROM pg_publication_tables t WHERE t.pubname = p.pubname)
                        = ARRAY['chat_change', 'message', 'user_change']
               FROM pg_publication p WHERE p.pubname = $1",
            &[&name],
        )
        .await
        .map_err(statement)?;
    match found.map(|row| row.get::<_, Option<bool>>(0).unwrap_or(false)) {
        Some(true) => Ok(()),
        Some(false) => Err(MigrateError::Server(format!(
            "publication {name} isn't as it was made: it must publish inserts of {PUBLISHED} through the partition root, and \
             nothing else. Somebody changed it; put it back with ALTER PUBLICATION before events are lost"
        ))),
        None => client.batch_execute(&publication_sql(names)).await.map_err(statement),
    }
}

pub(crate) fn publication_sql(names: &Names) -> String {
    format!(
        "CREATE PUBLICATION {} FOR TABLE {PUBLISHED} WITH (publish = 'insert', publish_via_partition_root = true)",
        quoted(&names.publication())
    )
}

/// Makes the logical slot if it isn't there. Waits for transactions that are open anywhere on the server to end.
pub async fn ensure_slot(client: &Client, names: &Names) -> Result<Option<SlotMade>, MigrateError> {
    let name = names.slot();
    let statement = |source| MigrateError::Statement {
        what: format!("making slot {name} (the role needs REPLICATION, the server a free slot)"),
        source,
    };
    let there = client
        .query_opt("SELECT 1 FROM pg_replication_slots WHERE slot_name = $1", &[&name])
        .await
        .map_err(statement)?;
    if there.is_some() {
        return Ok(None);
    }
    let version: i32 =
        client.query_one("SELECT current_setting('server_version_num')::int", &[]).await.map_err(statement)?.get(0);
    // A failover slot is kept on standbys too, so that a switch loses nothing.
    let failover = if version >= 170_000 { ", failover => true" } else { "" };
    let sql = format!("SELECT (lsn - '0/0')::bigint FROM pg_create_logical_replication_slot($1, 'pgoutput'{failover})");
    match client.query_one(&sql, &[&name]).await {
        Ok(row) => Ok(Some(SlotMade { consistent_lsn: row.get::<_, i64>(0) as u64 })),
        // Another migrator was quicker.
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_OBJECT) => Ok(None),
        Err(source) => Err(statement(source)),
    }
}
