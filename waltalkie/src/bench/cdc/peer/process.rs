//! A peer's process: how it is told what to do.

use anyhow::{Result, bail};
use runtime::postgres;
use tokio_postgres::config::Host;

use super::Task;
use crate::bench::peer::Peer;
use crate::bench::program::Program;

/// Starts it with its orders in the environment.
pub(super) fn start(peer: &Peer, task: &Task<'_>, events: u64) -> Result<Program> {
    let server = postgres::parse(&task.config.postgres.truth_url, "postgres.truth_url")?;
    let Some(Host::Tcp(host)) = server.get_hosts().first() else { bail!("a peer needs PostgreSQL by TCP") };
    let port = server.get_ports().first().copied().unwrap_or(5432);
    peer.start(|folder| {
        vec![
            ("PGHOST", host.clone()),
            ("PGPORT", port.to_string()),
            ("PGUSER", server.get_user().unwrap_or("postgres").to_owned()),
            ("PGPASSWORD", String::from_utf8_lossy(server.get_password().unwrap_or_default()).into_owned()),
            ("PGDATABASE", server.get_dbname().unwrap_or("postgres").to_owned()),
            ("BENCH_SLOT", task.slot.clone()),
            ("BENCH_PUBLICATION", task.publication.to_owned()),
            ("BENCH_BROKERS", task.config.kafka.brokers.clone()),
            ("BENCH_TOPIC_PREFIX", task.topic_prefix.clone()),
            ("BENCH_EVENTS", events.to_string()),
            ("BENCH_FOLDER", folder.to_owned()),
        ]
    })
}
