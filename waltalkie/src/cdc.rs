//! `waltalkie cdc`: the CDC worker, by hand.

mod resnapshot;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Subcommand;
use runtime::{Config, Shutdown};

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
    /// Gives up a message that stops the worker because it can't be published: `withheld` stands in its place, for good
    #[command(
        after_help = "Only for a message that the worker's error names, and that can't be mended. Changes of chats and \
members can't be given up. Reads the history once; start the worker again afterwards.

Examples:
  waltalkie cdc withhold 0197f9d2-8a5b-7c3e-9f10-2b6d4e8a1c55 41"
    )]
    Withhold {
        /// The message's chat
        chat_id: String,
        /// Its seq
        seq: i64,
        /// One JSON object for programs
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(config: Config, command: CdcCommand) -> Result<ExitCode> {
    match command {
        CdcCommand::Status => {
            let status = cdc_worker::status(&config).await?;
            println!("{}", serde_json::to_string_pretty(&status)?);
            Ok(ExitCode::SUCCESS)
        }
        CdcCommand::Resnapshot(args) => resnapshot::run(config, args).await,
        CdcCommand::Withhold { chat_id, seq, json } => {
            let decided =
                Box::pin(cdc_worker::withhold::withhold(Arc::new(config), &chat_id, seq, &Shutdown::new())).await;
            let decided = decided.map_err(|error| anyhow::Error::msg(error.chain()))?;
            if json {
                println!("{}", serde_json::to_string_pretty(&decided)?);
            } else {
                let already = if decided.was_decided { "already " } else { "" };
                println!("{chat_id}/{seq} is {already}withheld; start the worker again: `waltalkie run cdc`");
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
