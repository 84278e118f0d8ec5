//! `waltalkie`: one executable, whose roles are subcommands.

use std::process::ExitCode;

use clap::Parser;
use waltalkie::cli::Cli;

fn main() -> ExitCode {
    runtime::tls::install_provider();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads could be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(waltalkie::cli::run(cli));
    // Threads that wait in a client library's call must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
