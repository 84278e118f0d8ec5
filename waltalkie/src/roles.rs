//! Roles: which there are, how each is started, and how a process that runs some of them ends.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use runtime::{Config, Health, Shutdown};
use tokio::task::JoinSet;

use crate::stop_signal::StopSignal;
use crate::{durability, gateway, ops};

/// A role, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// HTTP, WebSocket and the web client
    Gateway,
    /// Commands into Postgres
    Persister,
    /// Postgres' log into the history
    Cdc,
    /// The history into read models
    Projector,
    /// The history to the gateways, over Redis
    Publisher,
    /// The history into numbers about it: chat.activity, chat.abuse
    Operators,
    /// Push and mail to people who aren't looking
    Notifier,
    /// Cleaning up
    Janitor,
    /// All of them
    All,
}

const EACH: [RoleName; 8] = [
    RoleName::Gateway,
    RoleName::Persister,
    RoleName::Cdc,
    RoleName::Projector,
    RoleName::Publisher,
    RoleName::Operators,
    RoleName::Notifier,
    RoleName::Janitor,
];

/// How long roles may take to drain.
const DRAIN: Duration = Duration::from_secs(20);
/// How long a process is still asked after its last role has failed: pipeline pages look every two seconds.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A process' running roles.
pub(crate) struct Running {
    pub(crate) health: Health,
    /// Address of the web page, where the gateway runs.
    pub(crate) gateway_url: Option<String>,
    pub(crate) ops_url: Option<String>,
    roles: JoinSet<(&'static str, Result<()>)>,
    shutdown: Shutdown,
    has_failed: bool,
}

/// Runs roles until a signal says to stop, or until none is left.
pub(crate) async fn run_until_told(config: Arc<Config>, names: &[RoleName]) -> Result<ExitCode> {
    let mut stop = StopSignal::listen()?;
    let begun = async {
        durability::insist(&config).await?;
        start(Arc::clone(&config), names).await
    };
    let mut running = tokio::select! {
        biased;
        () = stop.told() => return Ok(ExitCode::SUCCESS),
        begun = begun => begun?,
    };
    for (what, url) in [("gateway", &running.gateway_url), ("ops", &running.ops_url)] {
        if let Some(url) = url {
            println!("{what} listening on {url}");
        }
    }
    let has_ended = tokio::select! {
        biased;
        () = stop.told() => false,
        () = running.all_ended() => true,
    };
    // Else nobody would hear why, but from the log.
    if has_ended && running.has_failed && running.ops_url.is_some() {
        tokio::select! {
            biased;
            () = stop.told() => {}
            () = tokio::time::sleep(LAST_WORDS) => {}
        }
    }
    running.stop().await
}

/// Starts roles; listeners are bound before this returns.
pub(crate) async fn start(config: Arc<Config>, names: &[RoleName]) -> Result<Running> {
    runtime::telemetry::metrics();
    let wanted: Vec<RoleName> = EACH.into_iter().filter(|role| is_wanted(*role, names, &config)).collect();
    let shutdown = Shutdown::new();
    let health = Health::default();
    let mut roles = JoinSet::new();
    let mut gateway_url = None;
    let ops = ops::bind(&config).await?;
    let ops_url =
        ops.as_ref().and_then(|listener| listener.local_addr().ok()).map(|address| format!("http://{address}"));
    for role in wanted {
        let (config, shutdown) = (Arc::clone(&config), shutdown.clone());
        match role {
            RoleName::Gateway => {
                let listener = gateway::bind(&config).await?;
                gateway_url = Some(format!("http://{}", listener.local_addr()?));
                let (health, role) = (health.clone(), health.role("gateway"));
                roles.spawn(async move { ("gateway", gateway::run(config, listener, health, role, shutdown).await) });
            }
            RoleName::Persister => {
                let role = health.role("persister");
                roles.spawn(async move {
                    ("persister", ingest::persister::run(config, role, shutdown).await.map_err(Into::into))
                });
            }
            RoleName::Cdc => {
                let role = health.role("cdc");
                roles.spawn(async move { ("cdc", cdc_worker::run(config, role, shutdown).await.map_err(Into::into)) });
            }
            RoleName::Projector => {
                let role = health.role("projector");
                roles.spawn(async move {
                    ("projector", projections::run(config, role, shutdown).await.map_err(Into::into))
                });
            }
            RoleName::Publisher => {
                let role = health.role("publisher");
                roles.spawn(async move {
                    ("publisher", fanout::publisher::run(config, role, shutdown).await.map_err(Into::into))
                });
            }
            RoleName::Operators => {
                let role = health.role("operators");
                roles.spawn(
                    async move { ("operators", operators::run(config, role, shutdown).await.map_err(Into::into)) },
                );
            }
            RoleName::Notifier => {
                let role = health.role("notifier");
                roles.spawn(async move {
                    ("notifier", notify::service::run(config, role, shutdown).await.map_err(Into::into))
                });
            }
            RoleName::Janitor => {
                let role = health.role("janitor");
                roles.spawn(async move {
                    ("janitor", projections::janitor::run(config, role, shutdown).await.map_err(Into::into))
                });
            }
            RoleName::All => {}
        }
    }
    if let Some(listener) = ops {
        let (health, shutdown) = (health.clone(), shutdown.clone());
        let serving = shutdown.clone();
        shutdown.spawn(async move {
            if let Err(error) = ops::serve(listener, &config, health, serving).await {
                tracing::error!(error = %error, "operators can't be served");
            }
        });
    }
    Ok(Running { health, gateway_url, ops_url, roles, shutdown, has_failed: false })
}

/// Named, or one of all; stream operators can be left out of those.
fn is_wanted(role: RoleName, names: &[RoleName], config: &Config) -> bool {
    let is_among_all = role != RoleName::Operators || config.operators.enabled;
    names.contains(&role) || names.contains(&RoleName::All) && is_among_all
}

impl Running {
    /// Waits until no role is left. One that fails leaves the others alive; health tells of it.
    pub(crate) async fn all_ended(&mut self) {
        while let Some(ended) = self.roles.join_next().await {
            self.has_failed |= !self.report(ended);
        }
    }

    /// Waits until all roles do their work; says which don't after `deadline`.
    pub(crate) async fn ready(&mut self, deadline: Duration) -> Result<()> {
        let ready = async {
            let mut look = tokio::time::interval(Duration::from_millis(20));
            while !self.health.is_ready() {
                look.tick().await;
            }
        };
        if tokio::time::timeout(deadline, ready).await.is_ok() {
            return Ok(());
        }
        let late: Vec<String> = self
            .health
            .statuses()
            .into_iter()
            .filter(|status| !status.is_ready)
            .map(|status| format!("{}: {}", status.role, status.problem.unwrap_or_else(|| "still starting".into())))
            .collect();
        bail!("not everything is ready after {} s: {}", deadline.as_secs(), late.join("; "))
    }

    /// Stops intake, drains, commits; fails if some role had failed.
    pub(crate) async fn stop(mut self) -> Result<ExitCode> {
        self.shutdown.begin();
        let mut is_clean = !self.has_failed;
        let drained = tokio::time::timeout(DRAIN, async {
            while let Some(ended) = self.roles.join_next().await {
                is_clean &= self.report(ended);
            }
        });
        if drained.await.is_err() {
            tracing::warn!("some roles did not drain in {} s and are left", DRAIN.as_secs());
            is_clean = false;
        }
        is_clean &= self.shutdown.finish(Duration::from_secs(5)).await;
        Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn report(&self, ended: Result<(&'static str, Result<()>), tokio::task::JoinError>) -> bool {
        match ended {
            Ok((_, Ok(()))) => true,
            Ok((role, Err(error))) => {
                let reason = format!("{error:#}");
                tracing::error!(role, error = reason, "a role has ended and needs somebody");
                self.health.ended(role, reason);
                false
            }
            Err(error) => {
                tracing::error!(error = %error, "a role has crashed");
                false
            }
        }
    }
}
