//! Schemas that rebuilds and comparisons have left in the read database. Nothing else tells of them.

use tokio_postgres::Client;

use super::fresh::MADE_BY_US;
use crate::error::Error;

/// Whoever works on a schema holds the lock by its name; the live rows of a comparison lie beside its own.
const LEFT: &str = "
    SELECT n.nspname FROM pg_namespace n
     WHERE starts_with(obj_description(n.oid, 'pg_namespace'), $1) AND NOT EXISTS (
           SELECT FROM pg_locks l
            WHERE l.locktype = 'advisory' AND l.classid = 7768 AND l.objsubid = 2
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND l.objid = (hashtext(regexp_replace(n.nspname, '_live$', ''))::bigint & 4294967295)::oid)
     ORDER BY n.nspname";

/// A schema that nobody works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// Of a rebuild that was stopped: it can be gone on with.
    Rebuild(String),
    /// Of a comparison that was killed: of no use to anybody.
    Comparison(String),
    /// The state as of a time, which was asked for.
    AsOf(String),
}

/// All of them.
pub async fn leftovers(client: &Client) -> Result<Vec<Leftover>, Error> {
    let rows =
        client.query(LEFT, &[&MADE_BY_US]).await.map_err(Error::database("looking for what rebuilds have left"))?;
    let kind = |schema: String| {
        if schema.contains("_as_of_") {
            Leftover::AsOf(schema)
        } else if schema.starts_with("verify_") {
            Leftover::Comparison(schema)
        } else {
            Leftover::Rebuild(schema)
        }
    };
    Ok(rows.iter().map(|row| kind(row.get(0))).collect())
}
