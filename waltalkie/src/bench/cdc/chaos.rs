//! `bench cdc --chaos`: two CDC workers as processes, killed, stopped and cut off at random while transactions are written; after
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

use super::CdcArgs;
use super::site::Site;
use crate::bench::machine::{Machine, versions};
use crate::bench::telling::Outcome;
use cast::Cast;
pub(super) use cast::start_worker;
use fault::Plan;
use report::{Report, Run};
use writers::Writers;

/// How often history and tables are compared until they are the same.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs, unless `--runs` says how many.
const USUAL_RUNS: u32 = 100;

/// Runs on one installation: each comparison reads its whole history, so a long one would make the later runs slow.
const RUNS_OF_AN_INSTALLATION: u32 = 20;

/// Chats that each connection writes to.
const CHATS_A_WRITER: u16 = 4;

const HEADING: &str = "With --chaos";

/// Arguments of `bench cdc` that need `--chaos`.
#[derive(Debug, Clone, clap::Args)]
pub struct ChaosArgs {
    /// Most faults in a run
    #[arg(long, value_name = "N", help_heading = HEADING, requires = "chaos", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub faults: u32,
    /// Connections that write, to four chats each
    #[arg(long, value_name = "N", help_heading = HEADING, requires = "chaos", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub writers: u16,
    /// Seconds to wait for the history after a run's faults before what is missing counts as lost
    #[arg(long, value_name = "S", help_heading = HEADING, requires = "chaos", default_value_t = 120)]
    pub drain_s: u64,
    /// Begins no run after so many seconds, however many are asked for
    #[arg(long, value_name = "S", help_heading = HEADING, requires = "chaos")]
    pub within_s: Option<u64>,
    /// Decides faults and transactions [default: a random one, printed]
    #[arg(long, help_heading = HEADING, requires = "chaos")]
    pub seed: Option<u64>,
}

/// What is asked for, with the defaults filled in.
#[derive(Clone, Copy)]
struct Extent {
    runs: u32,
    faults: u32,
    writers: u16,
    chats: u16,
    drain: Duration,
    /// When no further run begins.
    end: Option<Instant>,
    seed: u64,
}

impl Extent {
    fn is_done(&self, runs: u32) -> bool {
        runs >= self.runs || runs > 0 && self.end.is_some_and(|end| Instant::now() > end)
    }
}

/// Runs it; the exit code says whether every run was clean.
pub(super) async fn run(args: &CdcArgs, config: &Config) -> Result<ExitCode> {
    let chaos = &args.chaos_args;
    let seed = chaos.seed.unwrap_or_else(rand::random);
    let extent = Extent {
        runs: args.runs.unwrap_or(USUAL_RUNS),
        faults: chaos.faults,
        writers: chaos.writers,
        chats: chaos.writers * CHATS_A_WRITER,
        drain: Duration::from_secs(chaos.drain_s),
        end: chaos.within_s.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
        seed,
    };
    eprintln!("seed {seed}");
    let logs =
        tempfile::Builder::new().prefix("waltalkie-chaos-").tempdir().context("a folder for the workers' logs")?;
    let mut report = Report::new(extent, Machine::here(), versions(config).await);
    let outcome = all_runs(extent, config, logs.path(), &mut report).await;
    if outcome.is_err() || !report.is_right() {
        eprintln!("the workers' logs are in {}", logs.keep().display());
    }
    // What the runs before a failure showed counts too.
    let told = report.tell(args.json);
    outcome?;
    told
}

/// Runs on one installation after another.
async fn all_runs(extent: Extent, config: &Config, logs: &Path, report: &mut Report) -> Result<()> {
    let mut done = 0;
    while !extent.is_done(done) {
        let site = Site::make(config.clone(), &[]).await.context("making a database for the workers")?;
        let outcome = on_site(extent, &site, logs, done, report).await;
        if let Err(error) = site.unmake().await {
            eprintln!("leaving a database behind: {error:#}");
        }
        done = outcome?;
    }
    Ok(())
}

/// Runs on an installation of their own.
async fn on_site(extent: Extent, site: &Site, logs: &Path, done: u32, report: &mut Report) -> Result<u32> {
    let installation = site.install(0).await.context("making an installation for the workers")?;
    let outcome = runs_on(extent, &Arc::new(installation.config.clone()), logs, done, report).await;
    if let Err(error) = site.remove(&installation).await {
        eprintln!("leaving slot {} behind: {error:#}", installation.slot);
    }
    outcome
}

/// Runs until all are done, enough on this installation, or one isn't clean, since what is wrong in a history stays wrong; says
/// how many are done then.
async fn runs_on(extent: Extent, config: &Shared, logs: &Path, mut done: u32, report: &mut Report) -> Result<u32> {
    let mut cast = Cast::start(config, &logs.join(config.names().slot())).await?;
    let mut writers = Writers::new(config, extent.writers, extent.chats).await?;
    let (seed, mut before) = (extent.seed, Before::default());
    let enough = done + RUNS_OF_AN_INSTALLATION;
    while !extent.is_done(done) && done < enough {
        done += 1;
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(u64::from(done)));
        let run = one_run(extent, config, &mut cast, &mut writers, &mut random, &mut before).await;
        let run = run.with_context(|| format!("run {done} of seed {seed}"))?;
        eprintln!("{done:>4}/{}: {run}", extent.runs);
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
    extent: Extent,
    config: &Shared,
    cast: &mut Cast,
    writers: &mut Writers,
    random: &mut StdRng,
    before: &mut Before,
) -> Result<Run> {
    let began = Instant::now();
    let mut run = Run::default();
    let writing = writers.begin(random);
    let faults = random.random_range(1..=extent.faults);
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
    let deadline = healed + extent.drain;
    run.verdict = audit::audit(config).await?;
    while run.verdict.is_late() && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
        run.verdict = audit::audit(config).await?;
    }
    let (committed, all) = audit::records_of_all(config).await?;
    let transactions = audit::aborted_transactions(config).await?;
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
