//! The worker under measurement: `waltalkie run cdc` as a process of its own, as in service.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};
use tokio_postgres::Client;

use super::site::Installation;

/// How long it may take to begin streaming, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether it streams.
const LOOK: Duration = Duration::from_millis(5);

/// The process. Dropped, it is killed.
pub(super) struct Worker {
    child: Child,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Worker {
    /// Starts it; returns when it streams.
    pub(super) async fn start(installation: &Installation, client: &Client) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("cdc.log");
        let config = &installation.config;
        let mut command = Command::new(std::env::current_exe().context("this program's own file")?);
        // Nothing of the surrounding configuration but what is said here.
        command.current_dir(folder.path()).args(["run", "cdc"]);
        for (name, value) in [
            ("DEVELOPMENT", "true"),
            ("NAMES__PREFIX", &config.names.prefix),
            ("POSTGRES__TRUTH_URL", config.postgres.truth_url.expose()),
            ("KAFKA__BROKERS", &config.kafka.brokers),
            ("KAFKA__PARTITIONS", &config.kafka.partitions.to_string()),
            ("REGISTRY__URL", config.registry.url.expose()),
            ("CDC__COMPRESSION", config.cdc.compression.name()),
            ("OPS__LISTEN", ""),
            ("LOG__FILTER", "warn"),
        ] {
            command.env(format!("WALTALKIE_{name}"), value);
        }
        let out = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).kill_on_drop(true);
        let mut worker = Self { child: command.spawn().context("starting the worker")?, log, _folder: folder };
        worker.until_it_streams(client, &installation.slot).await?;
        Ok(worker)
    }

    async fn until_it_streams(&mut self, client: &Client, slot: &str) -> Result<()> {
        let streams = async {
            loop {
                let active = "SELECT active FROM pg_replication_slots WHERE slot_name = $1";
                if client.query_one(active, &[&slot]).await?.get(0) {
                    return Ok(());
                }
                if let Some(status) = self.child.try_wait()? {
                    bail!("the worker ended ({status}): {}", self.said());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(PATIENCE, streams).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("the worker didn't begin to stream: {}", self.said()),
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The most memory that it has held.
    pub(super) fn peak_rss_bytes(&self) -> u64 {
        let status = self.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let line = status.as_deref().unwrap_or_default().lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or(0) * 1_024
    }

    /// Stops it in order; an error tells what it said.
    pub(super) async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.pid().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("the worker doesn't end")??;
        if !status.success() {
            bail!("the worker ended with {status}: {}", self.said());
        }
        Ok(())
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}
