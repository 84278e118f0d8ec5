//! `waltalkie`: one executable, whose roles are subcommands.

use std::panic;
use std::process::ExitCode;

use clap::Parser;
use waltalkie::cli::Cli;

/// In `waltalkie … | head` the reader has enough before all is said: that is no failure.
fn end_quietly_when_nobody_reads() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to stdout: Broken pipe") {
            std::process::exit(0);
        }
        usual(panic);
    }));
}

fn main() -> ExitCode {
    // This very executable is started anew to look into files, and is then nothing else.
    if let Some(code) = previews::child_main() {
        return code;
    }
    end_quietly_when_nobody_reads();
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
