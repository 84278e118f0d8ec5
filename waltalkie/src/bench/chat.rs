//! `bench chat`: conversations in open loop, from each message's due time to the other members' screens.
//!
//! # Limits
//!
//! One machine plays all clients, so an installation's limits may be in the way. On the gateway,
//! `limits.requests_per_s` and `limits.requests_burst` bound handshakes and requests of one address (`--ramp-per-s` stays
//! below their defaults), and `limits.commands_per_s` bounds what one person sends: keep `--rate` divided by
//! `--connections` well below it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use runtime::Config;

use super::crowd::{Crowd, TokensOf};
use super::figures::Figures;
use super::floor::Floor;
use super::ledger::Ledger;
use super::machine::{Disk, Machine, versions};
use super::pacer;
use super::plan::{Plan, Sizes};
use super::processes::Watch;
use super::report::{Conditions, Report};
use crate::bench::telling::Outcome;
use waltalkie_client::{Receipts, TokenSource};

/// How long tokens live: longer than any bench.
const TOKEN_TTL_S: i64 = 7 * 86_400;
/// Messages without all of their deliveries that are named at the end.
const NAMED: usize = 10;

/// Arguments of `bench chat`.
#[derive(Debug, Clone, clap::Args)]
pub struct ChatArgs {
    /// Connections, each a person of its own
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub connections: usize,
    /// Chats
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub chats: usize,
    /// People in each chat
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub members: usize,
    /// Messages a second over all chats, whatever becomes of earlier ones
    #[arg(long, value_name = "PER_S", default_value_t = 500.0)]
    pub rate: f64,
    /// Seconds of load before anything is measured
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub warmup_s: f64,
    /// Seconds that are measured
    #[arg(long, value_name = "S", default_value_t = 30.0)]
    pub seconds: f64,
    /// Runs, one after another over the same connections; figures are medians
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub runs: usize,
    /// Size of each message's text
    #[arg(long, value_name = "BYTES", default_value_t = 192)]
    pub content_bytes: usize,
    /// Marks that clients send by themselves
    #[arg(long, value_enum, default_value_t = Receipts::Delivered)]
    pub receipts: Receipts,
    /// Handshakes a second while people come in
    #[arg(long, value_name = "PER_S", default_value_t = 90.0)]
    pub ramp_per_s: f64,
    /// Seconds to wait for the last deliveries before they count as lost
    #[arg(long, value_name = "S", default_value_t = 30.0)]
    pub drain_s: f64,
    /// Also measures an echo from memory with the same clients, to compare with
    #[arg(long)]
    pub floor: bool,
    /// Gateway [default: gateway.listen]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// A process whose CPU time and memory to tell; may be given several times
    #[arg(long = "pid", value_name = "ROLE=PID", value_parser = role_and_pid)]
    pub pids: Vec<(String, u32)>,
    /// Folder on the data disk, to measure its fdatasync [default: beside Postgres' data, if its process is known]
    #[arg(long, value_name = "DIR")]
    pub disk: Option<PathBuf>,
    /// Threads that play the clients [default: one a core, at most 4]
    #[arg(long, value_name = "N")]
    pub client_threads: Option<usize>,
    /// Decides who sends when; the same seed gives the same load
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

fn role_and_pid(text: &str) -> Result<(String, u32), String> {
    let (role, pid) = text.split_once('=').ok_or("write it as role=pid, such as postgres=4711")?;
    Ok((role.to_owned(), pid.parse().map_err(|_| format!("{pid} is no process id"))?))
}

/// Where a bench runs.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Gateway, as `http://host:port`.
    pub gateway_url: String,
    /// Processes by role; this process may be one of them.
    pub roles: Vec<(String, u32)>,
    /// What the roles' `/metrics` shows, where they run in this process.
    pub metrics: Option<fn() -> String>,
}

/// Runs the bench; fails if anything was lost, repeated, out of order, altered or left without an answer.
pub async fn run(args: &ChatArgs, config: &Config, target: Option<Target>) -> Result<ExitCode> {
    ensure!(args.members >= 2 && args.members <= args.connections, "--members must be from 2 to --connections");
    ensure!(args.chats >= 1 && args.runs >= 1, "--chats and --runs must be at least 1");
    ensure!(
        args.rate > 0.0 && args.seconds > 0.0 && args.ramp_per_s > 0.0,
        "--rate, --seconds and --ramp-per-s must be over 0"
    );
    ensure!(args.warmup_s >= 0.0 && args.drain_s >= 0.0, "--warmup-s and --drain-s can't be negative");
    ensure!(args.content_bytes >= 16, "--content-bytes must be at least 16");
    let mut target = target.unwrap_or_default();
    if let Some(url) = &args.url {
        target.gateway_url.clone_from(url);
    } else if target.gateway_url.is_empty() {
        target.gateway_url = format!("http://{}", config.gateway.listen);
    }
    target.roles.extend(args.pids.iter().cloned());
    let threads =
        args.client_threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(4));
    // Clients have threads of their own, so that their CPU time can be told from that of roles in this process.
    let clients = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("load-client")
        .enable_all()
        .build()
        .context("the clients' threads can't be started")?;
    let bench = Bench { args: args.clone(), config: config.clone(), target, threads: threads.max(1) };
    let outcome = clients.spawn(bench.run()).await;
    clients.shutdown_background();
    outcome.context("the bench crashed")?
}

struct Bench {
    args: ChatArgs,
    config: Config,
    target: Target,
    threads: usize,
}

/// What was measured against one server.
struct Measured {
    runs: Vec<Figures>,
    is_clean: bool,
    refused_handshakes: u64,
}

impl Bench {
    async fn run(self) -> Result<ExitCode> {
        self.warn_of_limits();
        let machine = Machine::here();
        let versions = versions(&self.config).await;
        let (folder, roles) = (self.args.disk.clone(), self.target.roles.clone());
        let disk = tokio::task::spawn_blocking(move || Disk::measure(folder.as_deref(), &roles)).await?;
        let floor = if self.args.floor { Some(self.measure_floor().await?) } else { None };
        let measured = self.measure_target().await?;
        let figures = Figures::medians(&measured.runs);
        let floor = floor.map(|floor| Figures::medians(&floor.runs));
        let ratio = floor.as_ref().map(|floor| figures.screen.p95_ms / floor.screen.p95_ms.max(0.001));
        let span_s = (figures.seconds + figures.drain_s) * machine.cores.max(1) as f64;
        let percent = |cpu_s: f64| (1_000.0 * cpu_s / span_s.max(0.001)).round() / 10.0;
        let watched_s: f64 = figures.cpu_s.values().sum();
        let others_s = (!self.target.roles.is_empty()).then(|| (figures.busy_cpu_s - watched_s).max(0.0));
        let report = Report {
            scenario: "chat",
            conditions: Conditions {
                stolen_cpu_percent: percent(figures.stolen_cpu_s),
                other_cpu_percent: others_s.map(percent),
                machine,
                versions,
                disk,
                connections: self.args.connections,
                chats: self.args.chats,
                members_per_chat: self.args.members,
                content_bytes: self.args.content_bytes,
                rate_per_s: self.args.rate,
                warmup_s: self.args.warmup_s,
                seconds: self.args.seconds,
                receipts: format!("{:?}", self.args.receipts).to_lowercase(),
                client_threads: self.threads,
                refused_handshakes: measured.refused_handshakes,
            },
            figures,
            runs: if measured.runs.len() > 1 { measured.runs } else { Vec::new() },
            floor,
            is_right: measured.is_clean,
            p95_over_floor: ratio.map(|ratio| (ratio * 100.0).round() / 100.0),
        };
        report.tell(self.args.json)
    }

    fn warn_of_limits(&self) {
        let each_per_s = self.args.rate / self.args.connections as f64;
        if each_per_s > f64::from(self.config.limits.commands_per_s) / 2.0 {
            eprintln!(
                "each person sends {each_per_s:.1} messages/s; if the gateway refuses them (rate_limited), raise its \
                 limits.commands_per_s (WALTALKIE_LIMITS__COMMANDS_PER_S), or --connections"
            );
        }
    }

    fn plan(&self, runs: usize) -> Arc<Plan> {
        let per_run = (self.args.rate * (self.args.warmup_s + self.args.seconds)).ceil().max(1.0) as usize;
        let sizes = Sizes {
            people: self.args.connections,
            chats: self.args.chats,
            members: self.args.members,
            content_bytes: self.args.content_bytes,
            messages_per_run: per_run,
            runs,
        };
        Arc::new(Plan::new(sizes, rand::random(), self.args.seed))
    }

    async fn measure_floor(&self) -> Result<Measured> {
        let plan = self.plan(1);
        let floor = Floor::start(&plan, self.threads)?;
        let tokens = |user_id: &str| -> TokenSource {
            let token = user_id.to_owned();
            Arc::new(move || token.clone())
        };
        self.measure("floor", &floor.url, plan, &tokens, false, 1_000.0).await
    }

    async fn measure_target(&self) -> Result<Measured> {
        let config = Arc::new(self.config.clone());
        ingest::auth::development_token(&config, "bench", None, TOKEN_TTL_S)
            .context("the bench signs tokens for its own people")?;
        let tokens = |user_id: &str| -> TokenSource {
            let (config, user_id) = (Arc::clone(&config), user_id.to_owned());
            Arc::new(move || {
                let token = ingest::auth::development_token(&config, &user_id, Some(&user_id), TOKEN_TTL_S);
                token.map(|(token, _)| token).unwrap_or_default()
            })
        };
        let url = self.target.gateway_url.clone();
        self.measure("chat", &url, self.plan(self.args.runs), &tokens, true, self.args.ramp_per_s).await
    }

    async fn measure(
        &self,
        name: &'static str,
        url: &str,
        plan: Arc<Plan>,
        tokens: TokensOf<'_>,
        makes_chats: bool,
        ramp_per_s: f64,
    ) -> Result<Measured> {
        let args = &self.args;
        let runs = plan.sizes.runs;
        let warmup = (args.rate * args.warmup_s) as usize;
        let ledger = Arc::new(Ledger::new(plan, args.rate, warmup));
        let progress = progress();
        progress.set_prefix(format!("{name}: connecting"));
        let crowd = Crowd::connect(url, &ledger, tokens, args.receipts, ramp_per_s, &progress)
            .await
            .with_context(|| format!("people can't come in at {url}"))?;
        progress.set_prefix(format!("{name}: chats"));
        if makes_chats {
            crowd.make_chats(url, &ledger, tokens, &progress).await?;
        } else {
            crowd.wait_for_chats(&ledger, &progress).await?;
        }
        let mut watch = Watch::new(self.target.roles.clone(), self.target.metrics);
        let mut measured =
            Measured { runs: Vec::new(), is_clean: true, refused_handshakes: crowd.refused_handshakes() };
        for run in 0..runs {
            progress.set_prefix(if runs > 1 {
                format!("{name}: run {} of {runs}", run + 1)
            } else {
                format!("{name}: load")
            });
            let patience = Duration::from_secs_f64(args.drain_s);
            let ran = pacer::run(&ledger, &crowd, run, warmup, patience, &mut watch, &progress).await;
            let (figures, faults) = Figures::of(&ledger, run, args.rate, ran);
            measured.runs.push(figures);
            measured.is_clean &= faults.is_none();
            if !faults.is_none() {
                progress.suspend(|| tell_faults(&ledger, run));
            }
        }
        progress.finish_and_clear();
        crowd.leave().await;
        if measured.runs.iter().all(|run| run.persisted_messages == 0) {
            bail!("not one message was persisted");
        }
        Ok(measured)
    }
}

fn tell_faults(ledger: &Ledger, run: usize) {
    eprintln!("run {}: {:?}", run + 1, ledger.faults(run));
    let missing: Vec<(usize, u16)> = ledger.missing(run).collect();
    for (number, shown) in missing.iter().take(NAMED) {
        let (chat, person) = ledger.plan.sends[*number];
        eprintln!(
            "  message {number} of {} in {}: {shown} of {} members have it",
            ledger.plan.people[person as usize], ledger.plan.chat_ids[chat as usize], ledger.plan.sizes.members
        );
    }
    if missing.len() > NAMED {
        eprintln!("  and {} more", missing.len() - NAMED);
    }
}

fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:22} {bar:30} {pos}/{len} {msg}");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
