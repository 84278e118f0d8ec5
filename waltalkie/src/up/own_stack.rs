//! A stack for one bench alone: servers and roles with data in a folder of their own, ended afterwards.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use local_stack::{LocalStack, Options, Service, Terminal};
use runtime::Config;

use super::{READY, local_config};
use crate::bench::cdc::{self, CdcArgs};
use crate::bench::chat::{self, ChatArgs, Target};
use crate::bench::fanout::{self, FanoutArgs};
use crate::bench::idle::{self, IdleArgs};
use crate::bench::notify::{self, NotifyArgs};
use crate::bench::persist::{self, PersistArgs};
use crate::bench::rebuild::{self, RebuildBenchArgs};
use crate::bench::storm::{self, StormArgs};
use crate::migrate;
use crate::roles::{self, RoleName};
use crate::stop_signal::StopSignal;

/// Runs `bench chat` against a stack of its own.
pub(crate) async fn chat(config: Config, args: ChatArgs, folder: Option<PathBuf>) -> Result<ExitCode> {
    Box::pin(on_stack(folder, async |stack| with_roles(config, &args, stack).await)).await
}

/// Runs `bench cdc` against a stack of its own.
pub(crate) async fn cdc(config: Config, args: CdcArgs, folder: Option<PathBuf>) -> Result<ExitCode> {
    on_servers(config, folder, async |config, servers| Box::pin(cdc::run(&args, config, servers)).await).await
}

/// Runs `bench persist` against a stack of its own.
pub(crate) async fn persist(config: Config, args: PersistArgs, folder: Option<PathBuf>) -> Result<ExitCode> {
    on_servers(config, folder, async |config, servers| Box::pin(persist::run(&args, config, servers)).await).await
}

/// Runs `bench rebuild` against a stack of its own.
pub(crate) async fn rebuild(config: Config, args: RebuildBenchArgs, folder: Option<PathBuf>) -> Result<ExitCode> {
    on_servers(config, folder, async |config, servers| Box::pin(rebuild::run(&args, config, servers)).await).await
}

/// Runs `bench fanout` against a stack of its own.
pub(crate) async fn fanout(config: Config, args: FanoutArgs, folder: Option<PathBuf>) -> Result<ExitCode> {
    on_servers(config, folder, async |config, servers| Box::pin(fanout::run(&args, config, servers)).await).await
}

/// Runs `bench idle` against a stack of its own, whose Redis it may restart.
pub(crate) async fn idle(config: Config, args: IdleArgs, folder: Option<PathBuf>) -> Result<ExitCode> {
    on_stack(folder, async |stack| {
        let config = local_config::complete(config, stack).await?;
        let servers = servers(stack);
        Box::pin(idle::run(&args, &config, servers, Some(stack))).await
    })
    .await
}

/// Runs `bench storm` against a stack of its own.
pub(crate) async fn storm(config: Config, args: StormArgs, folder: Option<PathBuf>) -> Result<ExitCode> {
    on_servers(config, folder, async |config, servers| Box::pin(storm::run(&args, config, servers)).await).await
}

/// Runs `bench notify` against a stack of its own.
pub(crate) async fn notify(config: Config, args: NotifyArgs, folder: Option<PathBuf>) -> Result<ExitCode> {
    on_servers(config, folder, async |config, servers| Box::pin(notify::run(&args, config, servers)).await).await
}

/// Runs a bench that needs the servers' addresses and processes, and nothing else of the stack.
async fn on_servers(
    config: Config,
    folder: Option<PathBuf>,
    bench: impl AsyncFnOnce(&Config, Vec<(String, u32)>) -> Result<ExitCode>,
) -> Result<ExitCode> {
    on_stack(folder, async |stack| {
        let config = local_config::complete(config, stack).await?;
        let servers = servers(stack);
        Box::pin(bench(&config, servers)).await
    })
    .await
}

/// Starts servers, by default with data in a fresh folder that is removed afterwards, and stops them in the end.
async fn on_stack(
    folder: Option<PathBuf>,
    bench: impl AsyncFnOnce(&mut LocalStack) -> Result<ExitCode>,
) -> Result<ExitCode> {
    let (data_dir, _fresh) = if let Some(folder) = folder {
        (folder, None)
    } else {
        let fresh = tempfile::Builder::new().prefix("waltalkie-bench-").tempdir_in("/var/tmp");
        let fresh = fresh.context("no folder under /var/tmp could be made; name one after --own-stack")?;
        (fresh.path().to_owned(), Some(fresh))
    };
    let mut options = Options::new(data_dir);
    options.usual_ports = false;
    let mut stop = StopSignal::listen()?;
    let mut stack = tokio::select! {
        biased;
        () = stop.told() => bail!("stopped before everything was started"),
        started = LocalStack::start(options, Arc::new(Terminal::default())) => started?,
    };
    let outcome = tokio::select! {
        biased;
        () = stop.told() => Err(anyhow!("stopped before it was done")),
        outcome = bench(&mut stack) => outcome,
    };
    let stopped = stack.stop().await;
    let code = outcome?;
    stopped?;
    Ok(code)
}

/// The servers' processes by role.
fn servers(stack: &mut LocalStack) -> Vec<(String, u32)> {
    Service::ALL.into_iter().filter_map(|service| Some((service.key().to_owned(), stack.pid(service)?))).collect()
}

async fn with_roles(config: Config, args: &ChatArgs, stack: &mut LocalStack) -> Result<ExitCode> {
    let mut config = local_config::complete(config, stack).await?;
    // One machine plays all clients: limits a person or an address would measure only themselves.
    config.limits.requests_per_s = 1_000_000;
    config.limits.requests_burst = 1_000_000;
    config.limits.commands_per_s = 100_000;
    config.limits.commands_burst = 100_000;
    config.limits.node_commands_per_s = 1_000_000;
    config.limits.node_commands_burst = 1_000_000;
    migrate::create_databases(&config).await?;
    migrate::all(&config).await?;
    let config = Arc::new(config);
    let mut running = roles::start(Arc::clone(&config), &[RoleName::All]).await?;
    let outcome = async {
        running.ready(READY).await?;
        let gateway_url = running.gateway_url.clone().context("the gateway has no address")?;
        let mut processes = vec![("waltalkie, all roles".to_owned(), std::process::id())];
        processes.extend(servers(stack));
        chat::run(
            args,
            &config,
            Some(Target { gateway_url, roles: processes, metrics: Some(|| runtime::telemetry::metrics().render()) }),
        )
        .await
    };
    let outcome = outcome.await;
    running.stop().await?;
    outcome
}
