//! A peer's process: how it is told what to do.

use anyhow::{Result, bail};
use runtime::postgres;
use tokio::process::Command;
use tokio_postgres::config::Host;

use super::{Peer, Task};
use crate::bench::program::Program;

/// Starts it with its orders in the environment.
pub(super) fn start(peer: &Peer, task: &Task<'_>, events: u64) -> Result<Program> {
    let server = postgres::parse(&task.config.postgres.truth_url, "postgres.truth_url")?;
    let Some(Host::Tcp(host)) = server.get_hosts().first() else { bail!("a peer needs PostgreSQL by TCP") };
    let port = server.get_ports().first().copied().unwrap_or(5432);
    Program::start(|folder| {
        let mut command = Command::new("sh");
        // exec, so that it is this child that is measured and ended.
        command.arg("-c").arg(format!("exec {}", peer.command));
        for (name, value) in [
            ("PGHOST", host.as_str()),
            ("PGPORT", &port.to_string()),
            ("PGUSER", server.get_user().unwrap_or("postgres")),
            ("PGPASSWORD", &String::from_utf8_lossy(server.get_password().unwrap_or_default())),
            ("PGDATABASE", server.get_dbname().unwrap_or("postgres")),
            ("BENCH_SLOT", &task.slot),
            ("BENCH_PUBLICATION", task.publication),
            ("BENCH_BROKERS", &task.config.kafka.brokers),
            ("BENCH_TOPIC_PREFIX", &task.topic_prefix),
            ("BENCH_EVENTS", &events.to_string()),
            ("BENCH_FOLDER", &folder.to_string_lossy()),
        ] {
            command.env(name, value);
        }
        command
    })
}
