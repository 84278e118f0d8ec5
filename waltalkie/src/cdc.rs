//! `waltalkie cdc`: the CDC worker, by hand.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use runtime::Config;

/// What can be asked of the worker.
#[derive(Debug, Subcommand)]
pub enum CdcCommand {
    /// Slot, positions and lag, as one JSON object
    Status,
}

pub(crate) async fn run(config: Config, command: CdcCommand) -> Result<ExitCode> {
    match command {
        CdcCommand::Status => {
            let status = cdc_worker::status(&config).await?;
            println!("{}", serde_json::to_string_pretty(&status)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}
