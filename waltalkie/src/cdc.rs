//! `waltalkie cdc`: the CDC worker, by hand.

mod resnapshot;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use runtime::Config;

/// What can be asked of the worker.
#[derive(Debug, Subcommand)]
pub enum CdcCommand {
    /// Slot, positions and lag, as one JSON object
    Status,
    /// Completes chat.events and chat.users from the tables: after a lost slot, or for a database that has rows already
    #[command(
        long_about = "Completes chat.events and chat.users from the tables.

For a slot that is lost or was made anew, for a database that has rows and no history, and for whatever else makes the \
worker refuse while the tables are whole. Makes the slot anew, publishes every event that is missing, in order and none \
twice, then follows the slot to where a worker goes on. Chats may be written to meanwhile. Stopped or killed, it goes on \
when it is run again; workers stand by until it is done. Where chat.events isn't the beginning of what the tables hold, \
it changes nothing and says which chat.",
        after_help = "Examples:
  waltalkie cdc resnapshot --dry-run        what is missing; changes nothing
  waltalkie cdc resnapshot
  waltalkie cdc resnapshot --json           the outcome as one JSON object"
    )]
    Resnapshot(resnapshot::ResnapshotArgs),
}

pub(crate) async fn run(config: Config, command: CdcCommand) -> Result<ExitCode> {
    match command {
        CdcCommand::Status => {
            let status = cdc_worker::status(&config).await?;
            println!("{}", serde_json::to_string_pretty(&status)?);
            Ok(ExitCode::SUCCESS)
        }
        CdcCommand::Resnapshot(args) => resnapshot::run(config, args).await,
    }
}
