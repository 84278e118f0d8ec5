//! `bench cdc-chaos`: two CDC workers as processes, killed, stopped and cut off at random while transactions are written; after
//! each run the committed history must be the tables.
//!
//! ```text
//!   writers ──▶ Postgres ──proxy──▶ worker, worker ──proxy──▶ Kafka
//!                  │             kill · stop · cut · silence      │
//!                  └───────────── audit: row by row ◀─────────────┘
//! ```
//!
//! The installation is one of its own, under a random prefix, on whatever servers are configured. A run in which no fault
//! hit proves nothing, so each goes on until one has. The seed decides what is drawn, not which worker streams just then nor
//! when threads run.

mod cast;
mod fault;
mod report;
mod stage;
mod writers;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cdc_worker::audit;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runtime::Config;

use super::machine::{Machine, versions};
use cast::Cast;
use fault::Plan;
use report::{Report, Run};
use stage::Stage;
use writers::Writers;

/// How often history and tables are compared until they are the same.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Arguments of `bench cdc-chaos`.
#[derive(Debug, Clone, clap::Args)]
pub struct CdcChaosArgs {
    /// Runs, each with faults of its own and a comparison at its end
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub runs: u32,
    /// Most faults in a run
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub faults: u32,
    /// Chats that are written to
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..))]
    pub chats: u16,
    /// Connections that write
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub writers: u16,
    /// Seconds to wait for the history after a run's faults before what is missing counts as lost
    #[arg(long, value_name = "S", default_value_t = 120)]
    pub drain_s: u64,
    /// Decides faults and transactions [default: a random one, printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Prints one JSON object at the end; progress goes to standard error
    #[arg(long)]
    pub json: bool,
}

/// Runs it; the exit code says whether every run was clean.
pub(crate) async fn run(args: &CdcChaosArgs, config: &Config) -> Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(rand::random);
    eprintln!("seed {seed}");
    let logs =
        tempfile::Builder::new().prefix("waltalkie-chaos-").tempdir().context("a folder for the workers' logs")?;
    let mut report = Report::new(args, seed, Machine::here(), versions(config).await);
    let outcome = all_runs(args, config, seed, logs.path(), &mut report).await;
    if outcome.is_err() || !report.is_clean() {
        eprintln!("the workers' logs are in {}", logs.keep().display());
    }
    outcome?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs on one installation after another: what is wrong in a history stays wrong, so a new one follows.
async fn all_runs(args: &CdcChaosArgs, config: &Config, seed: u64, logs: &Path, report: &mut Report) -> Result<()> {
    let mut done = 0;
    while done < args.runs {
        let stage = Stage::build(config).await.context("making an installation for the workers")?;
        let outcome = runs_on(args, &stage, seed, logs, done, report).await;
        if let Err(error) = stage.clear().await {
            eprintln!("leaving {} behind: {error:#}", stage.config.names().slot());
        }
        done = outcome?;
    }
    Ok(())
}

/// Runs until all are done or one isn't clean; says how many are done then.
async fn runs_on(
    args: &CdcChaosArgs,
    stage: &Stage,
    seed: u64,
    logs: &Path,
    mut done: u32,
    report: &mut Report,
) -> Result<u32> {
    let mut cast = Cast::start(&stage.config, &logs.join(stage.config.names().slot())).await?;
    let mut writers = Writers::new(&stage.config, args.writers, args.chats).await?;
    let mut before = Before::default();
    while done < args.runs {
        done += 1;
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(u64::from(done)));
        let run = one_run(args, stage, &mut cast, &mut writers, &mut random, &mut before).await;
        let run = run.with_context(|| format!("run {done} of seed {seed}"))?;
        eprintln!("{done:>4}/{}: {run}", args.runs);
        report.add(&run);
        if !run.is_clean() {
            return Ok(done);
        }
    }
    cast.end().await?;
    Ok(done)
}

/// What an installation's log held before a run.
#[derive(Default)]
struct Before {
    events: usize,
    aborted_records: usize,
    aborted_transactions: usize,
}

/// Faults while it is written, then quiet, then the comparison.
async fn one_run(
    args: &CdcChaosArgs,
    stage: &Stage,
    cast: &mut Cast,
    writers: &mut Writers,
    random: &mut StdRng,
    before: &mut Before,
) -> Result<Run> {
    let began = Instant::now();
    let mut run = Run::default();
    let writing = writers.begin(random);
    let faults = random.random_range(1..=args.faults);
    while (run.hits.len() as u32) < faults {
        let plan = Plan::draw(random);
        match cast.suffer(plan, random).await? {
            Some(hit) => run.hits.push(hit),
            None => run.missed += 1,
        }
    }
    run.transactions = writing.end().await?;
    run.ended = cast.heal().await?;

    let healed = Instant::now();
    let deadline = healed + Duration::from_secs(args.drain_s);
    run.verdict = audit::audit(&stage.config).await?;
    while run.verdict.is_late() && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
        run.verdict = audit::audit(&stage.config).await?;
    }
    let (committed, all) = audit::records_of_all(&stage.config).await?;
    let transactions = audit::aborted_transactions(&stage.config).await?;
    let now =
        Before { events: run.verdict.events, aborted_records: all - committed, aborted_transactions: transactions };
    run.events = now.events.saturating_sub(before.events);
    run.aborted_records = now.aborted_records.saturating_sub(before.aborted_records);
    run.aborted_transactions = now.aborted_transactions.saturating_sub(before.aborted_transactions);
    *before = now;
    run.drain_s = healed.elapsed().as_secs_f64();
    run.seconds = began.elapsed().as_secs_f64();
    Ok(run)
}

/// Runs a worker under orders; the bench starts this program again with this.
pub(crate) async fn victim(config: Config, orders: &[String]) -> ExitCode {
    cdc_worker::victim::run(config, orders).await
}

/// The configuration as the bench and its workers share it.
type Shared = Arc<Config>;
