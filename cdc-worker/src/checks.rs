//! What is looked at before streaming starts, and what forbids it.
//!
//! A position and a slot that don't belong together lose or repeat events without a sound: Postgres moves an older start
//! position forward, a recreated topic begins at zero again. Each such case is refused, with the reason and the way out.

mod kafka;
mod people;
mod rows;
mod rules;
mod timeline;

use migrations::PublicationProblem;
use runtime::Config;
use runtime::postgres;
use tokio_postgres::Client;

pub(crate) use kafka::{
    KafkaFacts, LastEvent, LastRecords, Raw, end_of, ends_of, is_log_empty, kafka_facts, last_records,
    open_transaction, partitions, partitions_of, present_ends, undecided, unreadable,
};
pub(crate) use people::{PublishedChange, first_other_change};
pub(crate) use rows::{Difference, Head, all_is_visible, first_difference, restored};
pub(crate) use rules::{
    Facts, foreign_slot, handover_refusal, kafka_refusal, last_of_here, refusal, reshaped, slot_refusal,
};

use crate::error::Error;
use crate::left_out;
use crate::lsn::Lsn;
use crate::replication::ReplicationError;

/// What the server says of the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFacts {
    /// Output plugin.
    pub plugin: String,
    /// Whether the slot belongs to this database.
    pub is_of_this_database: bool,
    /// Whether it ends with the session that made it, as the copy on a standby does that isn't ready yet.
    pub is_temporary: bool,
    /// Process that streams it.
    pub active_pid: Option<i32>,
    /// The oldest WAL that is kept for it.
    pub restart_lsn: Option<Lsn>,
    /// Confirmed up to here.
    pub confirmed_flush_lsn: Lsn,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// Why the server gave it up; PostgreSQL 17 and later.
    pub invalidation_reason: Option<String>,
}

/// Connection settings of the server that holds the slot.
pub fn slot_server(config: &Config) -> Result<postgres::Server, Error> {
    let postgres = &config.postgres;
    let (url, setting) = if postgres.replication_url.is_empty() {
        (&postgres.truth_url, "postgres.truth_url")
    } else {
        (&postgres.replication_url, "postgres.replication_url")
    };
    Ok(postgres::parse(url, setting)?)
}

/// A connection for queries to the server that holds the slot. A standby that wasn't promoted is an error that passes.
pub(crate) async fn connect(config: &Config) -> Result<Client, Error> {
    let server = slot_server(config)?;
    let client = postgres::connect(&server).await?;
    let row = client
        .query_one("SELECT pg_is_in_recovery()", &[])
        .await
        .map_err(Error::query("asking whether the server is a standby"))?;
    if row.get(0) {
        return Err(ReplicationError::Standby { place: postgres::place(&server) }.into());
    }
    Ok(client)
}

/// Settings and publication, as far as they can be wrong; an error says how to mend them. `Some` is what does no harm.
pub(crate) async fn server_is_fit(client: &Client, config: &Config) -> Result<Option<String>, Error> {
    settings_are_fit(client, config).await?;
    publication_is_fit(client, config).await
}

/// The server's settings alone.
pub(crate) async fn settings_are_fit(client: &Client, config: &Config) -> Result<(), Error> {
    let problems = migrations::server_problems(client).await?;
    if problems.is_empty() { Ok(()) } else { Err(refused(config, problems.join("; "))) }
}

/// The publication alone; blocks on no lock of the tables. [`Error::Unfit`] if it leaves rows out. `Some` if it has tables
/// that make no events, whose rows are passed over.
pub(crate) async fn publication_is_fit(client: &Client, config: &Config) -> Result<Option<String>, Error> {
    let names = config.names();
    let problem =
        migrations::publication_problem(client, &names).await.map_err(Error::query("reading the publication"))?;
    let problem = match problem {
        None => return Ok(None),
        Some(PublicationProblem::MoreTables(problem)) => return Ok(Some(problem)),
        Some(PublicationProblem::More(problem)) => return Err(refused(config, problem)),
        Some(PublicationProblem::LeavesOut(problem)) => problem,
        Some(PublicationProblem::Missing) => {
            format!("publication {} isn't there; `waltalkie migrate` makes it", names.publication())
        }
    };
    Err(Error::Unfit { slot: names.slot(), reason: format!("{problem}. {}", left_out::WAY_OUT) })
}

fn refused(config: &Config, reason: String) -> Error {
    Error::Refused { slot: config.names().slot(), reason }
}

/// What the server says of a slot; `None` if there is none.
pub(crate) async fn slot_facts(client: &Client, slot: &str) -> Result<Option<SlotFacts>, Error> {
    let row = client
        .query_opt(
            "SELECT plugin::text, database = current_database(), active_pid,
                    (restart_lsn - '0/0')::bigint, (confirmed_flush_lsn - '0/0')::bigint, wal_status,
                    to_jsonb(s) ->> 'invalidation_reason', temporary
               FROM pg_replication_slots s WHERE slot_name = $1",
            &[&slot],
        )
        .await
        .map_err(Error::query("reading the slot"))?;
    Ok(row.map(|row| SlotFacts {
        plugin: row.get::<_, Option<String>>(0).unwrap_or_default(),
        is_of_this_database: row.get::<_, Option<bool>>(1).unwrap_or(false),
        is_temporary: row.get::<_, Option<bool>>(7).unwrap_or(false),
        active_pid: row.get(2),
        restart_lsn: row.get::<_, Option<i64>>(3).map(Lsn::from_bits),
        confirmed_flush_lsn: Lsn::from_bits(row.get::<_, Option<i64>>(4).unwrap_or(0)),
        wal_status: row.get::<_, Option<String>>(5).unwrap_or_default(),
        invalidation_reason: row.get(6),
    }))
}

/// Why there may be no slot.
pub(crate) async fn without_slot(client: &Client) -> String {
    match migrations::find_pause(client).await {
        Ok(Some(_)) => "it isn't there yet: the database is being handed over to this server; `waltalkie cdc handover \
                        finish` makes it"
            .into(),
        _ => "it isn't there; `waltalkie migrate` makes it for a new database, `waltalkie cdc resnapshot` for one that has \
              rows, and completes the history. After a promotion: the standby didn't keep it, see docs/operators.md, \
              \"Failover\""
            .into(),
    }
}

/// Ids of the event tables.
pub(crate) async fn event_tables(client: &Client) -> Result<Vec<u32>, Error> {
    let rows = client
        .query(
            "SELECT oid FROM pg_class WHERE oid IN
                 (to_regclass('public.message'), to_regclass('public.chat_change'), to_regclass('public.user_change'))",
            &[],
        )
        .await
        .map_err(Error::query("looking for the event tables"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Whether anything was ever written to the event tables.
pub(crate) async fn has_rows(client: &Client) -> Result<bool, Error> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM message) OR EXISTS (SELECT FROM chat_change) OR EXISTS (SELECT FROM user_change)",
            &[],
        )
        .await
        .map_err(Error::query("looking into the event tables"))?;
    Ok(row.get(0))
}

/// Ends the connection that streams a slot, which may belong to a worker that was stopped and can't end it itself.
pub(crate) async fn end_holder(client: &Client, slot: &str) -> Result<(), Error> {
    client
        .execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
              WHERE slot_name = $1 AND active_pid IS NOT NULL",
            &[&slot],
        )
        .await
        .map(drop)
        .map_err(Error::query("ending the connection that streams the slot"))
}
