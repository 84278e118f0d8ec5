//! An executable with one projection of its own: `run`, `rebuild`, `verify`. It is that executable's whole `main`, so that it
//! alone in this crate writes to standard output and standard error.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use runtime::config::ConfigError;
use runtime::{Config, Shutdown, config, postgres, telemetry, tls};
use schemas::{ChatEvent, timestamp};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{self, Error};
use crate::projection::{Input, Projection};
use crate::rebuild::{Progress, Rebuilder, Replay};
use crate::runner;
use crate::status::Board;
use crate::wiring::Wiring;

/// How often a rebuild says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Which version of the projection made the rows that are there.
const VERSION: &str = "SELECT version FROM projection_version WHERE projection = $1";

/// What such a program ends with when it fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    CommandLine(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("signals can't be heard")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Projection(#[from] Error),
}

/// What the command line asks for.
enum Task {
    Run,
    Rebuild { until_ms: Option<i64> },
    Verify,
}

/// The whole program: reads the command line and the configuration (variables over the file that `WALTALKIE_CONFIG` names, or
/// over `waltalkie.toml` here), makes the tables and does what was asked. `tables` is SQL that does nothing where they are there.
///
/// Errors are told on standard error; the exit code says whether there was one, or whether `verify` found a difference.
pub async fn main<P: Replay + Input<ChatEvent>>(projection: P, tables: &str) -> ExitCode {
    let task = match task(std::env::args().skip(1)) {
        Ok(task) => task,
        Err(failure) => {
            let name = P::NAME;
            eprintln!(
                "error: {failure}\nusage: {name} run\n       {name} rebuild [--until 2026-01-31T12:00:00Z]\n       {name} verify"
            );
            return ExitCode::FAILURE;
        }
    };
    match carry_out(projection, tables, task).await {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {}", error::chain(&failure));
            ExitCode::FAILURE
        }
    }
}

fn task(arguments: impl Iterator<Item = String>) -> Result<Task, Failure> {
    let arguments: Vec<String> = arguments.collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["run"] => Ok(Task::Run),
        ["rebuild"] => Ok(Task::Rebuild { until_ms: None }),
        ["rebuild", "--until", time] => match timestamp::parse(time) {
            Ok(until_ms) => Ok(Task::Rebuild { until_ms: Some(until_ms) }),
            Err(_) => Err(Failure::CommandLine(format!("--until {time} is no time"))),
        },
        ["verify"] => Ok(Task::Verify),
        other => Err(Failure::CommandLine(format!("`{}` is nothing that it does", other.join(" ")))),
    }
}

async fn carry_out<P: Replay + Input<ChatEvent>>(projection: P, tables: &str, task: Task) -> Result<ExitCode, Failure> {
    tls::install_provider();
    let config = configuration()?;
    telemetry::init_logs(config.log.format, &config.log.filter);
    let wiring = Wiring::new(Arc::new(config))?;
    make::<P>(&wiring.config, tables).await?;
    let (stop, progress) = (Shutdown::new(), Arc::new(Progress::default()));
    let rebuilder =
        Rebuilder::new(wiring.clone(), Arc::clone(&progress)).making_tables(tables).stopped_by(stop.clone());
    let working = async {
        match task {
            Task::Run => run(&projection, &wiring, &stop).await,
            Task::Rebuild { until_ms } => rebuild(projection, &rebuilder, until_ms).await,
            Task::Verify => verify(projection, &rebuilder).await,
        }
    };
    let stopping = stopped(&stop)?;
    tokio::select! {
        biased;
        outcome = Box::pin(working) => Ok(outcome?),
        () = stopping => Err(Error::Stopped.into()),
        () = tell(&progress) => unreachable!("it tells until it is dropped"),
    }
}

async fn rebuild<P: Replay>(projection: P, rebuilder: &Rebuilder, until_ms: Option<i64>) -> Result<ExitCode, Error> {
    let rebuilt = match until_ms {
        None => rebuilder.rebuild(projection).await?,
        Some(until_ms) => rebuilder.rebuild_as_of(projection, until_ms).await?,
    };
    let place = rebuilt.schema.map_or_else(|| "swapped in".into(), |schema| format!("in schema {schema}"));
    println!("{}: {} records, {place}", P::NAME, rebuilt.records);
    Ok(ExitCode::SUCCESS)
}

async fn verify<P: Replay>(projection: P, rebuilder: &Rebuilder) -> Result<ExitCode, Error> {
    let verdict = rebuilder.verify(projection).await?;
    for (table, live, rebuilt) in &verdict.tables {
        let word = if live == rebuilt { "equal" } else { "DIFFERENT" };
        println!("{table}: {word}, live {} rows, rebuilt {} rows", live.rows, rebuilt.rows);
    }
    for difference in &verdict.differences {
        println!("  only in the {} rows: {}", if difference.is_live { "live" } else { "rebuilt" }, difference.row);
    }
    Ok(if verdict.is_equal() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn configuration() -> Result<Config, ConfigError> {
    let named = std::env::var_os("WALTALKIE_CONFIG").map(std::path::PathBuf::from);
    let usual = std::path::PathBuf::from("waltalkie.toml");
    let file = named.or_else(|| usual.exists().then_some(usual));
    config::load(file.as_deref(), std::env::vars())
}

/// Makes the tables. Those of another version are left alone: a rebuild makes their successors.
async fn make<P: Projection>(config: &Config, tables: &str) -> Result<(), Error> {
    let failed = || Error::database("making the tables");
    let client = postgres::connect(&postgres::parse(&config.postgres.read_url, "postgres.read_url")?).await?;
    let row = client.query_opt(VERSION, &[&P::NAME]).await.map_err(failed())?;
    if row.is_some_and(|row| row.get::<_, i32>(0) != P::VERSION as i32) {
        return Ok(());
    }
    client.batch_execute(tables).await.map_err(failed())
}

/// Follows the history until it is time to stop.
async fn run<P: Input<ChatEvent>>(projection: &P, wiring: &Wiring, stop: &Shutdown) -> Result<ExitCode, Error> {
    let status = Board::default().entry(P::LOOP);
    runner::run(projection, wiring, &status, stop).await.map(|()| ExitCode::SUCCESS)
}

/// Begins to stop when a signal says so; ends with a second one, that doesn't wait for the work to end in good order.
fn stopped(stop: &Shutdown) -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| signal(kind).map_err(Failure::Signals);
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            stop.begin();
        }
    })
}

async fn tell(progress: &Progress) {
    let mut turn = tokio::time::interval(TELL_EVERY);
    turn.tick().await;
    loop {
        turn.tick().await;
        let (phase, read, expected) = progress.now();
        if !phase.is_empty() {
            eprintln!("{phase}: {read} of {expected} records");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_one_of_four() {
        let ask = |text: &str| task(text.split(' ').map(str::to_owned));
        assert!(matches!(ask("run"), Ok(Task::Run)));
        assert!(matches!(ask("rebuild"), Ok(Task::Rebuild { until_ms: None })));
        assert!(matches!(ask("rebuild --until 1970-01-01T00:00:01Z"), Ok(Task::Rebuild { until_ms: Some(1_000) })));
        assert!(matches!(ask("verify"), Ok(Task::Verify)));
        for bad in ["", "walk", "rebuild --until noon", "verify twice"] {
            assert!(ask(bad).is_err(), "{bad}");
        }
    }
}
