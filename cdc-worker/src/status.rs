//! How the slot and its publication stand, for operators.

use std::sync::Arc;
use std::time::Duration;

use runtime::Config;
use schemas::registry::Registry;
use schemas::{Position, Record};
use serde::Serialize;

use crate::error::Error;
use crate::position;
use crate::record::Topics;
use crate::replication::Connection;
use crate::{Lsn, checks};

/// A stored position older than this while the server moves on means that nobody publishes.
const STALE: Duration = Duration::from_secs(30);

/// What `waltalkie cdc status` shows. LSNs as Postgres writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Slot.
    pub slot: String,
    /// Whether the slot is there.
    pub exists: bool,
    /// Whether a worker streams it now.
    pub is_active: bool,
    /// What the server says of its WAL: `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// The server's WAL is on disk up to here.
    pub server_lsn: String,
    /// The slot is confirmed up to here.
    pub confirmed_flush_lsn: String,
    /// Bytes of WAL that the server keeps for the slot.
    pub wal_retained_bytes: u64,
    /// Bytes of WAL that aren't known to be published.
    pub lag_bytes: u64,
    /// Who holds the lease, and for how much longer; `None` if nobody does.
    pub lease_holder: Option<String>,
    /// The position in Kafka.
    pub position: Option<StoredPosition>,
    /// What is wrong, each with the way to mend it.
    pub problems: Vec<String>,
}

/// The position in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredPosition {
    /// Commit LSN of the last published row's transaction.
    pub commit_lsn: String,
    /// Its number within the transaction.
    pub ordinal: i64,
    /// Up to here everything is published.
    pub confirmable_lsn: String,
    /// Age of the record.
    pub age_ms: i64,
}

/// Asks Postgres and Kafka. Changes nothing and disturbs no worker.
pub async fn status(config: &Config) -> Result<Status, Error> {
    let names = config.names();
    let slot = names.slot();
    let client = checks::connect(config).await?;
    let mut problems = Vec::new();
    if let Err(error) = checks::server_is_fit(&client, config).await {
        problems.push(error.chain());
    }
    let facts = checks::slot_facts(&client, &slot).await?;
    let system = Connection::open(&checks::server(config)?).await?.identify().await?;
    let lease_holder = client
        .query_opt("SELECT holder FROM cdc_lease WHERE slot = $1 AND expires_at > clock_timestamp()", &[&slot])
        .await
        .map_err(Error::query("reading the lease"))?
        .map(|row| row.get(0));
    let stored = stored_position(config, &slot).await?;

    let server_lsn = system.flush_lsn;
    let confirmable = stored.as_ref().map(|stored| Lsn::from_bits(stored.confirmable_lsn));
    if stored.as_ref().is_some_and(|stored| stored.handed_over_at.is_some()) {
        problems.push(
            "the database is being handed over; go on with `waltalkie cdc handover finish` on the new server, or `cancel` on \
             the old one"
                .into(),
        );
    }
    if stored.as_ref().is_some_and(|stored| stored.resnapshot_until_lsn.is_some()) {
        problems.push(
            "the history is being completed from the tables; if nobody does, run `waltalkie cdc resnapshot`".into(),
        );
    }
    let position = stored.map(|stored| StoredPosition {
        commit_lsn: Lsn::from_bits(stored.commit_lsn).to_string(),
        ordinal: stored.ordinal,
        confirmable_lsn: Lsn::from_bits(stored.confirmable_lsn).to_string(),
        age_ms: runtime::clock::now_ms() - stored.written_at,
    });
    let exists = facts.is_some();
    if !exists {
        problems.push(format!(
            "slot {slot} isn't there; `waltalkie migrate` makes it for a new database, `waltalkie cdc resnapshot` for one that \
             has rows"
        ));
    }
    if lease_holder.is_none() {
        problems.push("no worker holds the lease; start one with `waltalkie run cdc`".into());
    }
    if position.as_ref().is_some_and(|position| position.age_ms > STALE.as_millis() as i64) {
        problems.push("the stored position hasn't moved for 30 s; see the worker's log".into());
    }
    let facts = facts.unwrap_or(checks::SlotFacts {
        plugin: String::new(),
        is_of_this_database: true,
        is_temporary: false,
        active_pid: None,
        restart_lsn: None,
        confirmed_flush_lsn: Lsn::ZERO,
        wal_status: String::new(),
        invalidation_reason: None,
    });
    if let Some(reason) = &facts.invalidation_reason {
        problems.push(format!(
            "the server has given slot {slot} up ({reason}); `waltalkie cdc resnapshot` makes it anew and completes the \
             history; see docs/operators.md, \"When the worker refuses\""
        ));
    }
    Ok(Status {
        slot,
        exists,
        is_active: facts.active_pid.is_some(),
        wal_status: facts.wal_status,
        server_lsn: server_lsn.to_string(),
        confirmed_flush_lsn: facts.confirmed_flush_lsn.to_string(),
        wal_retained_bytes: facts.restart_lsn.map_or(0, |restart| server_lsn.bytes_since(restart)),
        lag_bytes: server_lsn.bytes_since(confirmable.unwrap_or(facts.confirmed_flush_lsn)),
        lease_holder,
        position,
        problems,
    })
}

async fn stored_position(config: &Config, slot: &str) -> Result<Option<Position>, Error> {
    let names = config.names();
    let registry = Arc::new(Registry::new(config.registry.url.expose(), names.prefix())?);
    let own_id =
        registry.id_of::<Position>().await.map_err(|source| Error::Schema { record: Position::NAME, source })?;
    let (config, topics, slot) = (config.clone(), Topics::new(&names), slot.to_owned());
    let bytes = tokio::task::spawn_blocking(move || position::read_bytes(&position::looker(&config)?, &topics, &slot))
        .await
        .unwrap_or(Err(Error::PublisherGone))?;
    position::decode(registry, own_id, bytes).await
}
