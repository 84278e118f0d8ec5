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
//! hit proves nothing, so each goes on until one has. The seed decides the faults and what is written, not when threads run.

mod cast;
mod fault;
mod report;
mod stage;
mod writers;

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
    let stage = Stage::build(config).await.context("making an installation for the workers")?;
    let outcome = on_stage(args, seed, &stage).await;
    let cleared = stage.clear().await;
    let report = outcome?;
    if let Err(error) = cleared {
        eprintln!("leaving {} behind: {error:#}", stage.config.names().slot());
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn on_stage(args: &CdcChaosArgs, seed: u64, stage: &Stage) -> Result<Report> {
    let mut report = Report::new(args, seed, Machine::here(), versions(&stage.config).await);
    let logs =
        tempfile::Builder::new().prefix("waltalkie-chaos-").tempdir().context("a folder for the workers' logs")?;
    let mut cast = Cast::start(&stage.config, logs.path()).await?;
    let mut writers = Writers::new(&stage.config, args.writers, args.chats).await?;
    let mut aborted = (0, 0);
    for number in 1..=args.runs {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(u64::from(number)));
        let run = one_run(args, stage, &mut cast, &mut writers, &mut random, &mut aborted).await;
        let run = run.with_context(|| format!("run {number} of seed {seed}; logs in {}", logs.path().display()))?;
        eprintln!("{number:>4}/{}: {run}", args.runs);
        report.add(&run);
    }
    cast.end().await?;
    if !report.is_clean() {
        eprintln!("the workers' logs are in {}", logs.keep().display());
    }
    Ok(report)
}

/// Faults while it is written, then quiet, then the comparison.
async fn one_run(
    args: &CdcChaosArgs,
    stage: &Stage,
    cast: &mut Cast,
    writers: &mut Writers,
    random: &mut StdRng,
    aborted: &mut (usize, usize),
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
    let verdict = loop {
        let verdict = audit::audit(&stage.config).await?;
        if verdict.is_clean() || healed.elapsed() > Duration::from_secs(args.drain_s) {
            break verdict;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let (committed, all) = audit::records_of_all(&stage.config).await?;
    let transactions = audit::aborted_transactions(&stage.config).await?;
    run.aborted_records = (all - committed).saturating_sub(aborted.0);
    run.aborted_transactions = transactions.saturating_sub(aborted.1);
    *aborted = (all - committed, transactions);
    run.verdict = verdict;
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
