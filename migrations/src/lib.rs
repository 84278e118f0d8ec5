//! Brings the two databases to the shape that this program needs: tables, publication, slot, and the facts of the
//! installation. Everything here may be run again at any time and changes nothing the second time.
//!
//! The SQL is in `truth/` and `read/`; the rules for changing it are in `README.md`.

mod failover;
mod handover;
mod installation;
mod replication;
mod script;

pub use failover::{FailoverFacts, Standby, Verdict};
pub use handover::{Pause, find_pause, let_copy, pause, resume};
pub use installation::Installation;
pub use replication::{
    PublicationProblem, SlotMade, ensure_publication, ensure_slot, publication_problem, server_problems,
};
pub use script::{read_script, slot_script, truth_script};

use runtime::Secret;
use runtime::postgres::{self, PostgresError, quoted};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const APPLIED_BY_OTHERS: &str =
    ": this role may not make tables there; `waltalkie migrate --print` prints what somebody else has to apply";

/// What migrating can fail with.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] PostgresError),
    /// A migration failed, or the database has one that this program doesn't know.
    #[error("migrating {database} failed{}", if is_forbidden(source.as_ref()) { APPLIED_BY_OTHERS } else { "" })]
    Migration {
        /// Database.
        database: &'static str,
        /// What the migrator says.
        #[source]
        source: Box<refinery::Error>,
    },
    /// A statement failed.
    #[error("preparing Postgres failed: {what}")]
    Statement {
        /// What was tried, and what it needs.
        what: String,
        /// What Postgres says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server isn't set up for this.
    #[error("{0}")]
    Server(String),
}

mod truth_sql {
    refinery::embed_migrations!("truth");
}

mod read_sql {
    refinery::embed_migrations!("read");
}

/// Migrates the source of truth; returns the names of the migrations that were new.
pub async fn migrate_truth(url: &Secret) -> Result<Vec<String>, MigrateError> {
    let mut client = open(url, "postgres.truth_url").await?;
    run("the source of truth", truth_sql::migrations::runner(), &mut client).await
}

/// Migrates the read models; returns the names of the migrations that were new.
pub async fn migrate_read(url: &Secret) -> Result<Vec<String>, MigrateError> {
    let mut client = open(url, "postgres.read_url").await?;
    run("the read models", read_sql::migrations::runner(), &mut client).await
}

async fn open(url: &Secret, setting: &'static str) -> Result<Client, MigrateError> {
    Ok(postgres::connect(&postgres::parse(url, setting)?).await?)
}

async fn run(
    database: &'static str,
    runner: refinery::Runner,
    client: &mut Client,
) -> Result<Vec<String>, MigrateError> {
    // Two migrators at once would each make the tables: the second waits here. The lock ends with the connection.
    client
        .execute("SELECT pg_advisory_lock(7767)", &[])
        .await
        .map_err(|source| MigrateError::Statement { what: "waiting for other migrators".into(), source })?;
    let applied = if is_up_to_date(database, &runner, client).await? {
        Vec::new()
    } else {
        let report = runner
            .set_abort_missing(true)
            .set_abort_divergent(true)
            .run_async(client)
            .await
            .map_err(|source| MigrateError::Migration { database, source: Box::new(source) })?;
        report.applied_migrations().iter().map(ToString::to_string).collect()
    };
    client
        .execute("SELECT pg_advisory_unlock(7767)", &[])
        .await
        .map_err(|source| MigrateError::Statement { what: "letting other migrators go on".into(), source })?;
    Ok(applied)
}

/// Whether nothing is left to do. The migrator itself would ask for its table to be made, there or not, which needs
/// CREATE on the schema.
async fn is_up_to_date(
    database: &'static str,
    runner: &refinery::Runner,
    client: &mut Client,
) -> Result<bool, MigrateError> {
    let row = client
        .query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[])
        .await
        .map_err(|source| MigrateError::Statement { what: "looking for the migrations' table".into(), source })?;
    if !row.get::<_, bool>(0) {
        return Ok(false);
    }
    let applied = runner
        .get_applied_migrations_async(client)
        .await
        .map_err(|source| MigrateError::Migration { database, source: Box::new(source) })?;
    Ok(applied == *runner.get_migrations())
}

/// Whether the server says that this role may not.
fn is_forbidden(error: &refinery::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<tokio_postgres::Error>() {
            return cause.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
        }
        source = cause.source();
    }
    false
}

/// Makes a database on the server of `server_url` if it isn't there; for the local stack and tests.
pub async fn ensure_database(server_url: &Secret, name: &str) -> Result<bool, MigrateError> {
    let client = open(server_url, "postgres").await?;
    let statement =
        |source| MigrateError::Statement { what: format!("making database {name} (needs CREATEDB)"), source };
    let there =
        client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await.map_err(statement)?.is_some();
    if !there {
        client.batch_execute(&format!("CREATE DATABASE {}", quoted(name))).await.map_err(statement)?;
    }
    Ok(!there)
}
