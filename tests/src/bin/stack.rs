//! The servers of a test run: starts them, runs a command that finds them by `WALTALKIE_TEST_…` variables, stops them.
//!
//! `stack [--data-dir DIR] -- COMMAND ARGUMENT…`. The data is thrown away at the start, so that each run begins with
//! nothing, and stays until the next one, for looking at logs. Ctrl-C reaches the command too; the servers stop when it
//! has ended.

use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use local_stack::{LocalStack, Options, Terminal};
use tokio::signal::unix::{SignalKind, signal};
use waltalkie_tests::harness::{self, Servers};

fn main() -> Result<ExitCode> {
    runtime::tls::install_provider();
    let mut arguments = std::env::args().skip(1).peekable();
    let mut data_dir = None;
    if arguments.next_if_eq("--data-dir").is_some() {
        data_dir = Some(PathBuf::from(arguments.next().context("--data-dir needs a folder")?));
    }
    ensure!(arguments.next().as_deref() == Some("--"), "usage: stack [--data-dir DIR] -- COMMAND ARGUMENT…");
    let program = arguments.next().context("which command?")?;
    let mut command = Command::new(program);
    command.args(arguments);
    let data_dir = data_dir.map_or_else(|| harness::data_dir("shared"), Ok)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let status = runtime.block_on(run(command, data_dir))?;
    runtime.shutdown_background();
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(status.code().unwrap_or(1) as u8) })
}

async fn run(command: Command, data_dir: PathBuf) -> Result<ExitStatus> {
    // Heard from here on, so that an early Ctrl-C can't leave servers behind.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    if data_dir.exists() {
        std::fs::remove_dir_all(&data_dir).with_context(|| format!("emptying {}", data_dir.display()))?;
    }
    let options = Options { usual_ports: false, ..Options::new(data_dir) };
    let mut stack = tokio::select! {
        started = LocalStack::start(options, Arc::new(Terminal::new())) => started?,
        _ = interrupted.recv() => anyhow::bail!("interrupted"),
        _ = terminated.recv() => anyhow::bail!("terminated"),
    };
    let outcome = attend(command, &mut stack, &mut terminated).await;
    stack.stop().await?;
    outcome
}

/// Runs the command to its end.
async fn attend(
    mut command: Command,
    stack: &mut LocalStack,
    terminated: &mut tokio::signal::unix::Signal,
) -> Result<ExitStatus> {
    command.envs(Servers::of(stack.endpoints())?.variables());
    let what = command.get_program().to_string_lossy().into_owned();
    let mut child = tokio::process::Command::from(command).spawn().with_context(|| format!("starting {what}"))?;
    tokio::select! {
        ended = child.wait() => Ok(ended?),
        _ = terminated.recv() => {
            if let Some(pid) = child.id() {
                harness::signal(pid, rustix::process::Signal::TERM)?;
            }
            Ok(child.wait().await?)
        }
    }
}
