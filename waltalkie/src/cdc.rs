//! `waltalkie cdc`: the CDC worker, by hand.

mod resnapshot;
mod status;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cdc_worker::handover::{self, Finished};
use clap::Subcommand;
use runtime::{Config, Shutdown};

/// What can be asked of the worker.
#[derive(Debug, Subcommand)]
pub enum CdcCommand {
    /// Slot, position, lag, events a second, and what is wrong
    #[command(
        long_about = "Slot, position, lag, events a second, and what is wrong, each with the way to mend it.

Asks Postgres and Kafka twice, a second apart. Changes nothing and disturbs no worker. Exit code 0 if all is well, 1 if \
something is wrong or Postgres doesn't answer.",
        after_help = "Examples:
  waltalkie cdc status
  waltalkie cdc status --watch              again and again, until Ctrl-C
  waltalkie cdc status --json | jq .lag_bytes
  waltalkie cdc status >/dev/null || page-somebody"
    )]
    Status(status::StatusArgs),
    /// A planned move of the truth database to another server
    #[command(
        subcommand,
        after_help = "Example:
  waltalkie cdc handover begin        on the old server: pauses writes, waits until all is published
  (move the data, stop the roles, point postgres.truth_url at the new server)
  waltalkie cdc handover finish       on the new server: checks the data, streams from there, lets writers go on"
    )]
    Handover(HandoverCommand),
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

/// Steps of a planned move.
#[derive(Debug, Subcommand)]
pub enum HandoverCommand {
    /// Pauses writes, waits until everything is published and records it; a CDC worker must be running
    Begin {
        /// How long the worker may take to publish the rest
        #[arg(long, value_name = "SECONDS", default_value_t = 120)]
        wait_s: u64,
    },
    /// Checks that the new server has what was published, and goes on there
    Finish,
    /// Goes on on the old server
    Cancel,
}

pub(crate) async fn run(config: Config, command: CdcCommand) -> Result<ExitCode> {
    match command {
        CdcCommand::Status(args) => return status::run(&config, args).await,
        CdcCommand::Handover(HandoverCommand::Begin { wait_s }) => {
            let begun = handover::begin(&config, Duration::from_secs(wait_s)).await?;
            println!("Writing is paused. Everything up to {} is published, and nothing follows.", begun.published_to);
            println!(
                "Now move the data: all tables of the truth database. Stop the roles, point postgres.truth_url at"
            );
            println!("the new server, run `waltalkie cdc handover finish`, and start the roles again.");
            println!("To stay here instead: `waltalkie cdc handover cancel`.");
        }
        CdcCommand::Handover(HandoverCommand::Finish) => match handover::finish(&config).await? {
            Finished::Now { chats, people, from } => {
                println!("{chats} chats and {people} people stand in the tables as in the history.");
                println!("Publishing goes on from {from} of this server. Start the roles.");
            }
            Finished::Before => println!("The hand-over to this server was finished before. Start the roles."),
        },
        CdcCommand::Handover(HandoverCommand::Cancel) => {
            handover::cancel(&config).await?;
            println!("Everything goes on on this server. CDC workers that ended have to be started again.");
        }
        CdcCommand::Resnapshot(args) => return resnapshot::run(config, args).await,
        CdcCommand::Withhold { chat_id, seq, json } => {
            let shutdown = Shutdown::new();
            let withheld = cdc_worker::withhold::withhold(Arc::new(config), &chat_id, seq, &shutdown);
            let decided = Box::pin(withheld).await.map_err(|error| anyhow::Error::msg(error.chain()))?;
            if json {
                println!("{}", serde_json::to_string_pretty(&decided)?);
            } else {
                let already = if decided.was_decided { "already " } else { "" };
                println!("{chat_id}/{seq} is {already}withheld; start the worker again: `waltalkie run cdc`");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
