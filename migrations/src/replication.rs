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
    Ok(problems_of(row.get(0), row.get(1), row.get(2), row.get(3)))
}

fn problems_of(version: i32, wal_level: &str, slots: i32, senders: i32) -> Vec<String> {
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
        problems.push(format!(
            "max_replication_slots is {slots} and max_wal_senders {senders}; each must be at least 1: set them with ALTER \
             SYSTEM and restart the server"
        ));
    }
    problems
}

/// What is wrong with the publication; the texts say how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicationProblem {
    /// It isn't there.
    Missing,
    /// Rows of the event tables aren't published: nothing tells of that.
    LeavesOut(String),
    /// It publishes more than inserts, which stops the worker when it comes.
    More(String),
    /// It publishes inserts of other tables too, which the worker passes over.
    MoreTables(String),
}

/// Looks whether the publication is as it was made. Waits for no lock of the tables.
pub async fn publication_problem(
    client: &Client,
    names: &Names,
) -> Result<Option<PublicationProblem>, tokio_postgres::Error> {
    let name = names.publication();
    let found = client
        .query_opt(
            "SELECT p.puballtables, p.pubinsert AND p.pubviaroot
                    AND NOT EXISTS (SELECT FROM pg_publication_rel r
                                     WHERE r.prpubid = p.oid AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL)),
                    p.pubupdate OR p.pubdelete OR p.pubtruncate,
                    EXISTS (SELECT FROM pg_publication_namespace n WHERE n.pnpubid = p.oid),
                    ARRAY(SELECT n.nspname || '.' || c.relname
                            FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid
                            JOIN pg_namespace n ON n.oid = c.relnamespace
                           WHERE r.prpubid = p.oid ORDER BY 1)
               FROM pg_publication p WHERE p.pubname = $1",
            &[&name],
        )
        .await?;
    let Some(row) = found else { return Ok(Some(PublicationProblem::Missing)) };
    let (is_of_all, is_whole, has_more): (bool, bool, bool) = (row.get(0), row.get(1), row.get(2));
    let (is_of_schemas, tables): (bool, Vec<String>) = (row.get(3), row.get(4));
    let more = if has_more { PublicationProblem::More } else { PublicationProblem::MoreTables };
    if is_of_all && is_whole {
        return Ok(Some(more(format!(
            "publication {name} publishes all tables, and must publish inserts of {PUBLISHED} alone: DROP PUBLICATION {} while \
             no worker streams and nobody writes, then `waltalkie migrate`",
            quoted(&name)
        ))));
    }
    let wanted = ["public.chat_change", "public.message", "public.user_change"];
    let lacks = wanted.iter().any(|wanted| !tables.iter().any(|table| table == wanted));
    if is_whole && !has_more && !is_of_schemas && tables == wanted {
        return Ok(None);
    }
    let problem = format!(
        "publication {name} was changed by somebody, or its tables were: it must publish inserts of {PUBLISHED} through the \
         partition root, all rows and columns, and nothing else, and has the tables {}. Rename back what was renamed, then put it \
         back: ALTER PUBLICATION {quoted} SET TABLE {PUBLISHED}; ALTER PUBLICATION {quoted} SET (publish = 'insert', \
         publish_via_partition_root = true)",
        tables.join(", "),
        quoted = quoted(&name)
    );
    Ok(Some(if !is_whole || lacks { PublicationProblem::LeavesOut(problem) } else { more(problem) }))
}

/// Makes the publication of inserts if it isn't there; refuses one that publishes something else.
pub async fn ensure_publication(client: &Client, names: &Names) -> Result<(), MigrateError> {
    let name = names.publication();
    let statement = |source| MigrateError::Statement {
        what: format!("making publication {name} (the role must own the tables and may CREATE in the database)"),
        source,
    };
    match publication_problem(client, names).await.map_err(statement)? {
        None => Ok(()),
        Some(
            PublicationProblem::LeavesOut(problem)
            | PublicationProblem::More(problem)
            | PublicationProblem::MoreTables(problem),
        ) => Err(MigrateError::Server(problem)),
        Some(PublicationProblem::Missing) => client.batch_execute(&publication_sql(names)).await.map_err(statement),
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
        Err(error) if error.code() == Some(&SqlState::CONFIGURATION_LIMIT_EXCEEDED) => {
            Err(MigrateError::Server(format!(
                "slot {name} can't be made: all of the server's slots are taken. Drop one that nobody needs any more \
             (pg_replication_slots), or raise max_replication_slots with ALTER SYSTEM and restart the server"
            )))
        }
        Err(source) => Err(statement(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_is_wrong_is_named() {
        assert_eq!(problems_of(150_000, "logical", 1, 1), Vec::<String>::new());
        let problems = problems_of(140_011, "replica", 0, 0);
        for (problem, expected) in
            problems.iter().zip(["PostgreSQL 14", "ALTER SYSTEM SET wal_level", "max_wal_senders"])
        {
            assert!(problem.contains(expected), "{problem}");
        }
        assert_eq!(problems.len(), 3);
    }
}
