//! A gateway node under measurement: `waltalkie run gateway` as a process of its own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use runtime::Config;

use super::program::Program;
use super::stages::Stages;

/// Role of nodes in accounts.
pub(crate) const ROLE: &str = "gateway";
/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// The node. Dropped, it is killed.
pub(crate) struct Node {
    program: Program,
    /// `http://host:port` for clients.
    pub(crate) url: String,
    ops_url: String,
}

impl Node {
    /// Starts it; returns when it is ready. One machine plays all clients, so that limits an address would measure only
    /// themselves: there are none here.
    pub(crate) async fn start(config: &Config) -> Result<Self> {
        let settings = [
            ("GATEWAY__LISTEN", "127.0.0.1:0"),
            ("OPS__LISTEN", "127.0.0.1:0"),
            ("POSTGRES__READ_URL", config.postgres.read_url.expose()),
            ("REDIS__URL", config.redis.url.expose()),
            ("AUTH__HS256_SECRET", config.auth.hs256_secret.expose()),
            ("GATEWAY__HEARTBEAT_MS", &config.gateway.heartbeat_ms.to_string()),
            ("GATEWAY__OUTGOING_BYTES", &config.gateway.outgoing_bytes.to_string()),
            ("GATEWAY__PRESENCE_PEOPLE", &config.gateway.presence_people.to_string()),
            ("LIMITS__REQUESTS_PER_S", "1000000"),
            ("LIMITS__REQUESTS_BURST", "1000000"),
        ];
        let program = Program::roles(&["gateway"], config, &settings)?;
        let mut node = Self { program, url: String::new(), ops_url: String::new() };
        let began = Instant::now();
        while !node.is_ready().await {
            node.program.must_run().context("the gateway")?;
            ensure!(began.elapsed() < PATIENCE, "the gateway isn't ready: {}", node.program.said());
            tokio::time::sleep(LOOK).await;
        }
        Ok(node)
    }

    async fn is_ready(&mut self) -> bool {
        let listening = |what: &str| self.program.line_after(&format!("{what} listening on "));
        let Some((url, ops_url)) = listening("gateway").zip(listening("ops")) else { return false };
        (self.url, self.ops_url) = (url, ops_url);
        let asked = reqwest::get(format!("{}/readyz", self.ops_url)).await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.program.pid().context("the gateway has ended")
    }

    /// Resident memory just now.
    pub(crate) fn rss_bytes(&self) -> u64 {
        self.program.rss_bytes()
    }

    /// What it had to read again, and how long its stages took, up to now.
    pub(crate) async fn stages(&self) -> Result<Stages> {
        Ok(Stages::of(&reqwest::get(format!("{}/metrics", self.ops_url)).await?.text().await?))
    }

    /// Fails with what it said if it has ended.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        self.program.must_run().context("the gateway")
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) async fn kill(self) -> Result<()> {
        self.program.kill().await
    }

    /// Ends it without ado: everything it had is measured.
    pub(crate) async fn end(mut self) -> Result<()> {
        if let Err(error) = self.must_run() {
            bail!("while it was measured: {error:#}");
        }
        self.kill().await
    }
}
