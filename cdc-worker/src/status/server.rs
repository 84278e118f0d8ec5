//! What Postgres says.

use std::time::Duration;

use runtime::Config;
use tokio_postgres::Client;

use super::Streamer;
use crate::checks::{self, SlotFacts};
use crate::error::Error;
use crate::lsn::Lsn;
use crate::replication::{Connection, System};

/// The server that holds the slot.
pub(super) struct Server {
    pub(super) slot: String,
    pub(super) client: Client,
    pub(super) replication: Connection,
}

/// One look.
pub(super) struct Look {
    /// By the server's clock.
    pub(super) now_ms: i64,
    pub(super) system: System,
    pub(super) slot: Option<SlotFacts>,
    /// Known from PostgreSQL 17 on.
    pub(super) is_failover: Option<bool>,
    pub(super) safe_wal_bytes: Option<i64>,
    pub(super) lease: Option<LeaseFacts>,
    connection: Option<ConnectionFacts>,
}

/// Who holds the lease.
pub(super) struct LeaseFacts {
    pub(super) holder: String,
    pub(super) left_ms: i64,
}

/// The connection that streams the slot.
struct ConnectionFacts {
    pid: i32,
    client: Option<String>,
    connected_ms: Option<i64>,
    sent: Option<Lsn>,
    received: Option<Lsn>,
}

impl Server {
    pub(super) async fn connect(config: &Config) -> Result<Self, Error> {
        let client = checks::connect(config).await?;
        let replication = Connection::open(&checks::slot_server(config)?).await?;
        Ok(Self { slot: config.names().slot(), client, replication })
    }

    pub(super) async fn look(&mut self) -> Result<Look, Error> {
        let slot = checks::slot_facts(&self.client, &self.slot).await?;
        let row = self
            .client
            .query_one(
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
                        (to_jsonb(s) ->> 'failover')::boolean, s.safe_wal_size,
                        lease.holder, (extract(epoch FROM lease.expires_at - clock_timestamp()) * 1000)::bigint,
                        s.active_pid, host(r.client_addr) || ':' || r.client_port,
                        (extract(epoch FROM clock_timestamp() - r.backend_start) * 1000)::bigint,
                        (r.sent_lsn - '0/0')::bigint, (r.write_lsn - '0/0')::bigint
                   FROM (VALUES ($1)) AS asked (name)
                   LEFT JOIN pg_replication_slots s ON s.slot_name = asked.name
                   LEFT JOIN cdc_lease lease ON lease.slot = asked.name AND lease.expires_at > clock_timestamp()
                   LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid",
                &[&self.slot],
            )
            .await
            .map_err(Error::query("reading slot, lease and connection"))?;
        // The end of the WAL comes last: whatever the slot says lies before it.
        let system = self.replication.identify().await?;
        let lsn = |index: usize| row.get::<_, Option<i64>>(index).map(Lsn::from_bits);
        Ok(Look {
            now_ms: row.get(0),
            system,
            slot,
            is_failover: row.get(1),
            safe_wal_bytes: row.get(2),
            lease: row
                .get::<_, Option<String>>(3)
                .map(|holder| LeaseFacts { holder, left_ms: row.get::<_, Option<i64>>(4).unwrap_or(0) }),
            connection: row.get::<_, Option<i32>>(5).map(|pid| ConnectionFacts {
                pid,
                client: row.get(6),
                connected_ms: row.get(7),
                sent: lsn(8),
                received: lsn(9),
            }),
        })
    }

    /// Settings and publication, as far as they are wrong, also where that does no harm.
    pub(super) async fn unfit(&self, config: &Config) -> Vec<String> {
        let looked = checks::server_is_fit(&self.client, config).await;
        looked.unwrap_or_else(|error| Some(error.chain())).into_iter().collect()
    }

    /// Whether writing is paused; a login that may not read that says nothing.
    pub(super) async fn pause(&self) -> Option<String> {
        let pause = migrations::find_pause(&self.client).await.ok()??;
        let minutes = Duration::from_millis(runtime::clock::now_ms().abs_diff(pause.began_at)).as_secs() / 60;
        Some(format!(
            "writing has been paused for {minutes} min by a hand-over; go on with `waltalkie cdc handover finish` on the new \
             server, or `waltalkie cdc handover cancel` on the old one"
        ))
    }

    /// Why there may be no slot.
    pub(super) async fn without_slot(&self) -> String {
        checks::without_slot(&self.client).await
    }
}

impl Look {
    /// The process that streams the slot.
    pub(super) fn pid(&self) -> Option<i32> {
        self.slot.as_ref().and_then(|slot| slot.active_pid)
    }

    /// The server has read and sent its WAL up to here.
    pub(super) fn sent(&self) -> Option<Lsn> {
        self.connection.as_ref().and_then(|connection| connection.sent)
    }

    /// The connection that streams, for people and programs.
    pub(super) fn streamer(&self) -> Option<Streamer> {
        self.connection.as_ref().map(|connection| Streamer {
            pid: connection.pid,
            client: connection.client.clone(),
            connected_ms: connection.connected_ms,
            sent_lsn: connection.sent.map(|lsn| lsn.to_string()),
            received_lsn: connection.received.map(|lsn| lsn.to_string()),
        })
    }
}
