//! An executable with one projection of its own: `run`, `rebuild`, `verify`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use runtime::{Config, Shutdown, config, postgres, telemetry, tls};
use schemas::{ChatEvent, timestamp};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{self, Error};
use crate::projection::Input;
use crate::rebuild::{Progress, Rebuilder, Replay};
use crate::runner;
use crate::status::Board;
use crate::wiring::Wiring;

/// How often a rebuild says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

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
        Err(problem) => {
            let name = P::NAME;
            eprintln!(
                "error: {problem}\nusage: {name} run\n       {name} rebuild [--until 2026-01-31T12:00:00Z]\n       {name} verify"
            );
            return ExitCode::FAILURE;
        }
    };
    match carry_out(projection, tables, task).await {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn task(arguments: impl Iterator<Item = String>) -> Result<Task, String> {
    let arguments: Vec<String> = arguments.collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["run"] => Ok(Task::Run),
        ["rebuild"] => Ok(Task::Rebuild { until_ms: None }),
        ["rebuild", "--until", time] => match timestamp::parse(time) {
            Ok(until_ms) => Ok(Task::Rebuild { until_ms: Some(until_ms) }),
            Err(_) => Err(format!("--until {time} is no time")),
        },
        ["verify"] => Ok(Task::Verify),
        other => Err(format!("`{}` is nothing that it does", other.join(" "))),
    }
}

async fn carry_out<P: Replay + Input<ChatEvent>>(projection: P, tables: &str, task: Task) -> Result<ExitCode, String> {
    tls::install_provider();
    let config = configuration()?;
    telemetry::init_logs(config.log.format, &config.log.filter);
    let told = |error: Error| error::chain(&error);
    let wiring = Wiring::new(Arc::new(config)).map_err(told)?;
    make(&wiring.config, tables).await.map_err(told)?;
    let progress = Arc::new(Progress::default());
    let rebuilder = Rebuilder::new(wiring.clone(), Arc::clone(&progress));
    match task {
        Task::Run => run(&projection, &wiring).await?,
        Task::Rebuild { until_ms } => {
            let rebuilding = async {
                match until_ms {
                    None => Box::pin(rebuilder.rebuild(projection)).await,
                    Some(until_ms) => Box::pin(rebuilder.rebuild_as_of(projection, until_ms)).await,
                }
            };
            let rebuilt = tokio::select! {
                rebuilt = rebuilding => rebuilt.map_err(told)?,
                () = tell(&progress) => unreachable!("it tells until it is dropped"),
            };
            let place = rebuilt.schema.map_or_else(|| "swapped in".into(), |schema| format!("in schema {schema}"));
            println!("{}: {} records, {place}", P::NAME, rebuilt.records);
        }
        Task::Verify => {
            let verdict = Box::pin(rebuilder.verify(projection)).await.map_err(told)?;
            for (table, live, rebuilt) in &verdict.tables {
                let word = if live == rebuilt { "equal" } else { "DIFFERENT" };
                println!("{table}: {word}, live {} rows, rebuilt {} rows", live.rows, rebuilt.rows);
            }
            for difference in &verdict.differences {
                println!(
                    "  only in the {} rows: {}",
                    if difference.is_live { "live" } else { "rebuilt" },
                    difference.row
                );
            }
            return Ok(if verdict.is_equal() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn configuration() -> Result<Config, String> {
    let named = std::env::var_os("WALTALKIE_CONFIG").map(std::path::PathBuf::from);
    let usual = std::path::PathBuf::from("waltalkie.toml");
    let file = named.or_else(|| usual.exists().then_some(usual));
    config::load(file.as_deref(), std::env::vars()).map_err(|error| error::chain(&error))
}

async fn make(config: &Config, tables: &str) -> Result<(), Error> {
    let client = postgres::connect(&postgres::parse(&config.postgres.read_url, "postgres.read_url")?).await?;
    client.batch_execute(tables).await.map_err(Error::database("making the tables"))
}

/// Follows the history until a signal says to stop.
async fn run<P: Input<ChatEvent>>(projection: &P, wiring: &Wiring) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals can't be heard: {error}"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (shutdown, status) = (Shutdown::new(), Board::default().entry(P::LOOP));
    let running = Box::pin(runner::run(projection, wiring, &status, &shutdown));
    let stopping = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        shutdown.begin();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = running => ended.map_err(|error| error::chain(&error)),
        () = stopping => Ok(()),
    }
}

async fn tell(progress: &Progress) {
    let mut turn = tokio::time::interval(TELL_EVERY);
    turn.tick().await;
    loop {
        turn.tick().await;
        let (phase, read, expected) = progress.now();
        eprintln!("{phase}: {read} of {expected} records");
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
