//! `waltalkie up`: the local stack, everything that must be in it, all roles, and what to do next.
//!
//! Starts in dependency order and as parallel as possible; what the configuration names is external and never started.
//! Stops in reverse order what it started. What other commands need to find the servers is left in the data directory.

mod card;
mod environment;
mod local_config;
pub(crate) mod own_stack;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use local_stack::{LocalStack, Options, Terminal, Wanted, prerequisites};
use runtime::{Config, Secret, Shutdown};

use crate::roles::{self, RoleName, Running};
use crate::stop_signal::StopSignal;
use crate::{demonstration, durability, migrate, object_store};

pub(crate) use environment::or_local;

/// Arguments of `up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Where servers keep their data [default: waltalkie in the user's data folder]
    #[arg(long, value_name = "DIR", env = "WALTALKIE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Print the variables with which other programs find the servers of a running `up`, and end
    #[arg(long)]
    print_env: bool,
    /// Show what servers and roles log
    #[arg(long)]
    verbose: bool,
}

impl UpArgs {
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }
}

/// How long roles may take to be ready.
const READY: Duration = Duration::from_secs(120);

pub(crate) async fn run(config: Config, args: UpArgs) -> Result<ExitCode> {
    let data_dir = args.data_dir.clone().unwrap_or_else(local_stack::default_data_dir);
    if args.print_env {
        print!("{}", environment::export_lines(&data_dir)?);
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    let options = stack_options(&config, data_dir);
    let missing = prerequisites::missing(&options);
    if !missing.is_empty() {
        bail!("{}", card::missing(&missing));
    }
    let mut stop = StopSignal::listen()?;
    let mut stack = tokio::select! {
        biased;
        () = stop.told() => bail!("stopped before everything was started"),
        started = LocalStack::start(options, Arc::new(Terminal::default())) => started?,
    };
    let outcome = with_stack(config, &mut stack, &mut stop, began).await;
    let stopped = stack.stop().await;
    let code = outcome?;
    stopped?;
    eprintln!("stopped; the data stays in {}", stack.data_dir().display());
    Ok(code)
}

/// Everything between the servers' start and their stop.
async fn with_stack(config: Config, stack: &mut LocalStack, stop: &mut StopSignal, began: Instant) -> Result<ExitCode> {
    let servers = Shutdown::new();
    let mut roles = None;
    let prepared = tokio::select! {
        biased;
        () = stop.told() => Err(anyhow!("stopped before everything was ready")),
        prepared = prepare(config, stack, &servers, &mut roles, began) => prepared,
    };
    let outcome = match (prepared, &mut roles) {
        (Ok(()), Some(running)) => watch(stack, running, stop).await,
        (prepared, _) => prepared.map(|()| ExitCode::SUCCESS),
    };
    eprintln!("\nstopping …");
    let code = match roles {
        Some(running) => running.stop().await,
        None => Ok(ExitCode::SUCCESS),
    };
    servers.finish(Duration::from_secs(5)).await;
    outcome?;
    code
}

/// Brings everything into the servers, starts the roles, makes the demonstration, and says what to do next.
async fn prepare(
    config: Config,
    stack: &LocalStack,
    servers: &Shutdown,
    roles: &mut Option<Running>,
    began: Instant,
) -> Result<()> {
    let mut config = local_config::complete(config, stack).await?;
    let s3_url = start_object_store(&mut config, stack, servers).await?;
    let step = Instant::now();
    if stack.endpoints().postgres_url_base.is_some() {
        migrate::create_databases(&config).await?;
    }
    migrate::all(&config).await?;
    durability::insist(&config).await?;
    card::line("schemas, topics, tables, slot", step.elapsed());
    let step = Instant::now();
    let config = Arc::new(config);
    let running = roles.insert(roles::start(Arc::clone(&config), &[RoleName::All]).await?);
    running.ready(READY).await?;
    card::line("all roles", step.elapsed());
    let gateway_url = running.gateway_url.clone().context("the gateway has no address")?;
    let is_first = demonstration::ensure_made(&config, &gateway_url).await?;
    environment::save(stack.data_dir(), &config, &gateway_url)?;
    let places = card::Places {
        gateway_url: &gateway_url,
        ops_url: running.ops_url.as_deref(),
        s3_url: &s3_url,
        endpoints: stack.endpoints(),
        data_dir: stack.data_dir(),
        is_first,
        took: began.elapsed(),
    };
    print!("{}", card::end_card(&config, &places));
    Ok(())
}

/// Waits for Ctrl-C, or for a server or all roles to end unasked.
async fn watch(stack: &mut LocalStack, running: &mut Running, stop: &mut StopSignal) -> Result<ExitCode> {
    let mut look = tokio::time::interval(Duration::from_secs(1));
    let ended = async {
        running.all_ended().await;
        bail!("all roles have ended; see the messages above, or start with --verbose")
    };
    tokio::pin!(ended);
    loop {
        tokio::select! {
            biased;
            () = stop.told() => return Ok(ExitCode::SUCCESS),
            nothing_left = &mut ended => return nothing_left,
            _ = look.tick() => stack.check()?,
        }
    }
}

/// Starts the store of files, and configures it unless another one is.
async fn start_object_store(config: &mut Config, stack: &LocalStack, servers: &Shutdown) -> Result<String> {
    if config.media.is_on() {
        return Ok(config.media.store_url());
    }
    let secret = local_config::kept_secret(stack.data_dir(), "s3-secret")?;
    let url = object_store::start(&stack.data_dir().join("s3"), config.stack.s3_port, &secret, servers).await?;
    let media = &mut config.media;
    object_store::BUCKET.clone_into(&mut media.bucket);
    media.endpoint.clone_from(&url);
    object_store::ACCESS_KEY.clone_into(&mut media.access_key_id);
    (media.secret_access_key, media.path_style) = (Secret::new(secret), true);
    Ok(url)
}

fn stack_options(config: &Config, data_dir: PathBuf) -> Options {
    let wanted = |is_named: bool, port: u16| match (is_named, port) {
        (true, _) => Wanted::External,
        (false, 0) => Wanted::Anywhere,
        (false, port) => Wanted::Port(port),
    };
    let mut options = Options::new(data_dir);
    options.postgres = wanted(!config.postgres.truth_url.is_empty(), config.stack.postgres_port);
    options.kafka = wanted(!config.kafka.brokers.is_empty(), config.stack.kafka_port);
    options.registry = wanted(!config.registry.url.is_empty(), config.stack.registry_port);
    options.redis = wanted(!config.redis.url.is_empty(), config.stack.redis_port);
    options
}
