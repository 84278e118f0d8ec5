//! `waltalkie rebuild` and `waltalkie verify`: read models made again from the history, and compared with it.

mod bar;
mod chat_events;
mod verify;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, builder::PossibleValuesParser};
use projections::rebuild::{Progress, Rebuilder, Rebuilt, Verdict};
use projections::{Error, Shipped, Wiring};
use runtime::{Config, Shutdown};
use schemas::timestamp;
use serde_json::{Value, json};

use crate::stop_signal::StopSignal;
use bar::Bar;
pub(crate) use verify::{VerifyArgs, run as verify};

/// Arguments of `rebuild`.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// Projections
    #[arg(required = true, value_parser = PossibleValuesParser::new(Shipped::ALL.map(Shipped::name)))]
    projections: Vec<String>,
    /// Builds the state as of this time in a schema of its own, with what was deleted since, and leaves the live tables alone
    /// (RFC 3339, or a day)
    #[arg(long, value_name = "TIME", conflicts_with = "dry_run")]
    until: Option<String>,
    /// Compares with the live tables instead of taking their place, like `verify`
    #[arg(long)]
    dry_run: bool,
    /// Swaps the tables in also if cursors are lost that are in no topic any more (`cursor`, `inbox`)
    #[arg(long, conflicts_with_all = ["until", "dry_run"])]
    lose_rows: bool,
    /// One JSON object a projection
    #[arg(long)]
    json: bool,
    /// Writes rows and offsets this often, for tests that kill it in between
    #[arg(long, hide = true, value_name = "MS")]
    write_every_ms: Option<u64>,
}

/// One projection's rebuild or comparison.
struct Job {
    projection: Shipped,
    rebuilder: Rebuilder,
    progress: Arc<Progress>,
    stop: Shutdown,
}

impl Job {
    fn new(config: &Config, name: &str, loses_rows: bool) -> Result<Self> {
        let (progress, stop) = (Arc::new(Progress::default()), Shutdown::new());
        let rebuilder = Rebuilder::new(Wiring::new(Arc::new(config.clone()))?, Arc::clone(&progress))
            .stopped_by(stop.clone())
            .losing_rows(loses_rows);
        Ok(Self { projection: Shipped::named(name)?, rebuilder, progress, stop })
    }

    async fn rebuild(&self, until_ms: Option<i64>) -> Result<Rebuilt, Error> {
        match until_ms {
            None => self.projection.rebuild(&self.rebuilder).await,
            Some(until_ms) => self.projection.rebuild_as_of(&self.rebuilder, until_ms).await,
        }
    }

    async fn verify(&self) -> Result<Verdict, Error> {
        self.projection.verify(&self.rebuilder).await
    }

    /// Waits for some work while showing how far it is. A signal ends it in between: it tidies up, unless another one comes.
    async fn watched<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T> {
        let mut stop = StopSignal::listen()?;
        let name = self.projection.name();
        let bar = Bar::new(name, &self.progress, std::io::stderr().is_terminal());
        let stopping = async {
            stop.told().await;
            self.stop.begin();
            stop.told().await;
        };
        let outcome = tokio::select! {
            biased;
            () = stopping => Err(Error::Stopped),
            outcome = work => outcome,
            () = bar.show() => unreachable!("it shows until it is dropped"),
        };
        // What was asked for, not a failure of the projection.
        if matches!(outcome, Err(Error::Stopped)) {
            bail!("{}", Error::Stopped);
        }
        outcome.with_context(|| format!("projection {name}"))
    }
}

pub(crate) async fn run(config: Config, args: RebuildArgs) -> Result<ExitCode> {
    if args.dry_run {
        return verify::projections(&config, &args.projections, args.json).await;
    }
    let until_ms = args.until.as_deref().map(moment).transpose()?;
    for name in &args.projections {
        let began = Instant::now();
        let mut job = Job::new(&config, name, args.lose_rows)?;
        if let Some(write_every_ms) = args.write_every_ms {
            job.rebuilder = job.rebuilder.writing_every(Duration::from_millis(write_every_ms));
        }
        let rebuilt = job.watched(job.rebuild(until_ms)).await?;
        let seconds = began.elapsed().as_secs_f64();
        if args.json {
            println!("{}", line_of(name, &rebuilt, seconds));
        } else {
            println!("{}", text_of(name, &rebuilt, seconds));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line_of(name: &str, rebuilt: &Rebuilt, seconds: f64) -> Value {
    json!({
        "projection": name,
        "records": rebuilt.records,
        "seconds": seconds,
        "records_per_s": rebuilt.records as f64 / seconds.max(0.001),
        "schema": rebuilt.schema,
    })
}

fn text_of(name: &str, rebuilt: &Rebuilt, seconds: f64) -> String {
    let rate = rebuilt.records as f64 / seconds.max(0.001);
    let done = format!("{} records in {seconds:.1} s, {rate:.0} a second", rebuilt.records);
    match &rebuilt.schema {
        None => format!("{name}: rebuilt and swapped in; {done}"),
        Some(schema) => format!(
            "{name}: {done}. It is in schema {schema} of the read database, and stays there until \
             `DROP SCHEMA {schema} CASCADE`"
        ),
    }
}

/// Milliseconds of a time as people write it; of a day, its first moment (UTC).
fn moment(text: &str) -> Result<i64> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    timestamp::parse(&whole).with_context(|| {
        format!("--until {text}: write it like 2026-01-31T12:00:00Z, or 2026-01-31 for its first moment")
    })
}
