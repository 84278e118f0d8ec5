//! The worker under measurement: `waltalkie run cdc` as a process of its own, as in service.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio_postgres::Client;

use super::site::Installation;
use crate::bench::program::Program;

/// How long it may take to begin streaming, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether it streams.
const LOOK: Duration = Duration::from_millis(5);

/// The process. Dropped, it is killed.
pub(super) struct Worker(Program);

impl Worker {
    /// Starts it; returns when it streams.
    pub(super) async fn start(installation: &Installation, client: &Client) -> Result<Self> {
        let config = &installation.config;
        let settings = [("CDC__COMPRESSION", config.cdc.compression.name())];
        let mut worker = Self(Program::roles(&["cdc"], config, &settings)?);
        worker.until_it_streams(client, &installation.slot).await.context("the worker")?;
        Ok(worker)
    }

    async fn until_it_streams(&mut self, client: &Client, slot: &str) -> Result<()> {
        let streams = async {
            loop {
                let active = "SELECT active FROM pg_replication_slots WHERE slot_name = $1";
                if client.query_one(active, &[&slot]).await?.get(0) {
                    return Ok(());
                }
                self.0.must_run()?;
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(PATIENCE, streams).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("it didn't begin to stream: {}", self.0.said()),
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.0.pid()
    }

    pub(super) fn peak_rss_bytes(&self) -> u64 {
        self.0.peak_rss_bytes()
    }

    /// Stops it in order; an error tells what it said.
    pub(super) async fn stop(self) -> Result<()> {
        let (status, said) = self.0.stop(PATIENCE).await.context("the worker")?;
        ensure!(status.success(), "the worker ended with {status}: {said}");
        Ok(())
    }
}
