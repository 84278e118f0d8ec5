//! Workers as processes, and proxies before the servers.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cdc_worker::{audit, victim};
use faults::{Proxy, Victim};
use runtime::{Config, Secret};
use serde_json::Value;

use super::{PATIENCE, Stack, eventually};

/// The servers seen through proxies.
pub struct Proxied {
    pub postgres: Proxy,
    pub kafka: Proxy,
    pub registry: Proxy,
    pub config: Arc<Config>,
}

impl Proxied {
    pub async fn of(config: &Config) -> Result<Self> {
        let mut config = config.clone();
        let (postgres, url) = Proxy::before_url(config.postgres.truth_url.expose()).await?;
        config.postgres.truth_url = Secret::new(url);
        let kafka = Proxy::before_kafka(&config.kafka.brokers).await?;
        config.kafka.brokers = kafka.address().to_string();
        let (registry, url) = Proxy::before_url(config.registry.url.expose()).await?;
        config.registry.url = Secret::new(url);
        Ok(Self { postgres, kafka, registry, config: Arc::new(config) })
    }
}

/// A worker as a process under orders.
pub fn start(config: &Config, orders: &[&str]) -> Result<Victim> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cdc-victim"));
    command.args(orders).envs(victim::variables(config));
    let log = format!("victim-{:08x}.log", rand::random::<u32>());
    Victim::start(command, &Path::new(env!("CARGO_TARGET_TMPDIR")).join(log))
}

/// Waits until a victim has reached a point that it was ordered to act at; says when, in milliseconds since 1970.
pub async fn reached(victim: &Victim, point: &str) -> Result<i64> {
    let is_it = |report: &Value| report["report"] == "reached" && report["point"] == point;
    let report = victim.report(&format!("reaching of {point}"), PATIENCE, is_it).await?;
    report["at_ms"].as_i64().context("a time")
}

/// Waits until a victim's health is as asked, with a problem that says so; earlier reports count from `since` on.
pub async fn health(victim: &Victim, since: usize, is_ready: bool, problem: &str) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reports = victim.reports();
        let is_it = |report: &&Value| {
            report["report"] == "health"
                && report["is_ready"] == is_ready
                && (problem.is_empty() || report["problem"].as_str().is_some_and(|text| text.contains(problem)))
        };
        if let Some(found) = reports.iter().skip(since).find(is_it) {
            return Ok(found.clone());
        }
        ensure!(
            Instant::now() < deadline,
            "never ready: {is_ready} with {problem:?}: {reports:?}\n{}",
            victim.log_end()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How long a fault lasts: short, or a minute when random faults are asked for too.
pub fn lasting(usual_s: u64) -> Duration {
    let is_full = std::env::var_os("WALTALKIE_TEST_CHAOS_S").is_some();
    Duration::from_secs(if is_full { 60 } else { usual_s })
}

/// Gives an order to a victim that runs, and waits until it has heard.
pub async fn order(victim: &mut Victim, order: &str) -> Result<()> {
    victim.tell(&format!("at {order}"))?;
    let is_it = |report: &Value| report["report"] == "armed" && report["order"] == order;
    victim.report(&format!("hearing of {order}"), PATIENCE, is_it).await?;
    Ok(())
}

/// Ends a victim as a signal would, well.
pub async fn end(mut victim: Victim) -> Result<()> {
    victim.tell("end")?;
    let status = victim.ended().await?;
    ensure!(status.success(), "{status}: {:?}\n{}", victim.reports(), victim.log_end());
    Ok(())
}

impl Stack {
    /// Waits until there are as many committed events as there are rows; then they are the same, and were never out of
    /// order or repeated before.
    pub async fn equals(&self, rows: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let verdict = audit::audit(&self.config).await?;
            ensure!(verdict.repeated.count + verdict.out_of_order.count + verdict.unknown.count == 0, "{verdict}");
            if verdict.is_clean() && verdict.rows == rows {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{rows} rows expected: {verdict}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Records of transactions that were aborted.
    pub async fn aborted(&self) -> Result<usize> {
        let (committed, all) = audit::records_of_all(&self.config).await?;
        Ok(all - committed)
    }

    /// Process id of the walsender that streams the slot.
    pub async fn streams(&self) -> Result<Option<i32>> {
        let sql = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL";
        Ok(self.sql.query_opt(sql, &[&self.slot()]).await?.map(|row| row.get(0)))
    }

    pub async fn is_streamed(&self) -> Result<()> {
        eventually("the slot is streamed", async || Ok(self.streams().await?.is_some())).await
    }
}
