//! `waltalkie dlq`: the commands that nobody could decide, the notifications that nobody could send, what is no event in the
//! history, and what an operator does about them.
//!
//! ```text
//!   chat.commands.dlq ──▶ list, show ──▶ retry: the original bytes and key again to chat.commands
//!                                   └──▶ drop:  settled without
//! ```
//!
//! With `--topic notifications` the same for `chat.notifications.dlq`. With `--topic events` for `chat.events.dlq`, but nothing
//! of that is tried again: the history is written by the worker alone, from the tables.
//!
//! The topic keeps every record for its time; what was done about one is a row of `dead_letter_settled`. The row is written in
//! a transaction that is committed after Kafka has the bytes: a crash between the two leaves it open, and a second retry is as
//! harmless as a producer's.

mod letters;
mod settled;

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use runtime::Config;
use schemas::topics::Topic;
use schemas::{ChatCommand, timestamp};
use serde_json::{Value, json};

use letters::{Letter, Letters};
use settled::{Outcome, Settled};

/// Which dead letters, and what to do with them.
#[derive(Debug, Args)]
pub struct DlqArgs {
    /// Whose dead letters
    #[arg(long, global = true, value_enum, default_value_t = DlqTopic::Commands)]
    topic: DlqTopic,
    #[command(subcommand)]
    command: DlqCommand,
}

/// A topic with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DlqTopic {
    /// chat.commands
    Commands,
    /// chat.notifications
    Notifications,
    /// chat.events: what projections and stream operators found there and is no event
    Events,
}

impl DlqTopic {
    const fn source(self) -> Topic {
        match self {
            Self::Commands => Topic::ChatCommands,
            Self::Notifications => Topic::ChatNotifications,
            Self::Events => Topic::ChatEvents,
        }
    }

    const fn dead(self) -> Topic {
        match self {
            Self::Commands => Topic::ChatCommandsDlq,
            Self::Notifications => Topic::ChatNotificationsDlq,
            Self::Events => Topic::ChatEventsDlq,
        }
    }

    /// What the key is, under which letters are listed.
    const fn key_name(self) -> &'static str {
        match self {
            Self::Commands => "chat_id",
            Self::Notifications | Self::Events => "key",
        }
    }
}

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// Shows those that are open
    #[command(after_help = "Examples:
  waltalkie dlq list
  waltalkie dlq list --all --json | jq .reason
  waltalkie dlq list --topic notifications
  waltalkie dlq list --topic events")]
    List {
        /// Also those that were retried or dropped
        #[arg(long)]
        all: bool,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Shows one with its bytes, or what they decode to
    Show {
        /// Offset in the dead-letter topic, as `list` has it
        offset: i64,
        /// Show the message's text too
        #[arg(long)]
        body: bool,
    },
    /// Puts the original bytes into the topic again; not into chat.events
    #[command(after_help = "Examples:
  waltalkie dlq retry 17
  waltalkie dlq retry --open          all that are open, in their order")]
    Retry(Which),
    /// Settles without trying again
    Drop(Which),
}

/// Which of them.
#[derive(Debug, Args)]
pub struct Which {
    /// Offsets in the dead-letter topic, as `list` has them
    #[arg(required_unless_present = "open", conflicts_with = "open")]
    offsets: Vec<i64>,
    /// All that are open
    #[arg(long)]
    open: bool,
}

pub(crate) async fn run(config: &Config, args: DlqArgs) -> Result<ExitCode> {
    let letters = Letters::read(config, args.topic).await?;
    let settled = Settled::open(config, args.topic.dead()).await?;
    match args.command {
        DlqCommand::List { all, json } => list(&letters, &settled, all, json).await?,
        DlqCommand::Show { offset, body } => {
            let letter = letters.at(offset)?;
            let shown = letters.show(letter, settled.all().await?.get(&offset).copied(), body).await;
            println!("{}", serde_json::to_string_pretty(&shown)?);
        }
        DlqCommand::Retry(_) if args.topic == DlqTopic::Events => bail!(
            "what is in chat.events is written by the CDC worker alone, from the tables, and nothing is put there by hand. If a \
             later version reads the record, make the operators' rows anew (docs/operators.md, \"Rows of stream operators, made \
             anew\"); otherwise find out who wrote it, and `waltalkie dlq drop --topic events`"
        ),
        DlqCommand::Retry(which) => settle(&letters, settled, &which, Outcome::Retried).await?,
        DlqCommand::Drop(which) => settle(&letters, settled, &which, Outcome::Dropped).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a command is among the dead letters, who put it there, why, and what was done about it; the newest letter if there
/// are several.
pub(crate) async fn letter_of(config: &Config, is_it: impl Fn(&ChatCommand) -> bool) -> Result<Option<String>> {
    let letters = Letters::read(config, DlqTopic::Commands).await?;
    let Some(letter) = letters.newest_command(is_it).await? else { return Ok(None) };
    let Letter { offset, source_topic, source_partition, source_offset, reason, .. } = letter;
    let dead = DlqTopic::Commands.dead();
    let outcomes = Settled::open(config, dead).await?.all().await?;
    let done = match outcomes.get(offset) {
        None => format!("it is open, and `waltalkie dlq show {offset}` shows it"),
        Some(Outcome::Retried) => "it was tried again since, and is waiting or refused".to_owned(),
        Some(Outcome::Dropped) => "somebody has dropped it".to_owned(),
    };
    let (topic, at) = (config.names().topic(dead), timestamp::rfc3339(letter.buried_at_ms));
    let by = letter.consumer.as_deref().unwrap_or("somebody");
    Ok(Some(format!(
        "dead letter {offset} of {topic}, put aside by {by} at {at}, from {source_topic}/{source_partition} offset \
         {source_offset}: {reason}; {done}"
    )))
}

async fn list(letters: &Letters, settled: &Settled, all: bool, json: bool) -> Result<()> {
    let outcomes = settled.all().await?;
    let wanted = || letters.all().iter().filter(|letter| all || !outcomes.contains_key(&letter.offset));
    if json {
        for letter in wanted() {
            println!("{}", line_of(letter, outcomes.get(&letter.offset).copied()));
        }
        return Ok(());
    }
    if wanted().next().is_none() {
        println!("no open dead letters");
        return Ok(());
    }
    println!("{:>8}  {:<24}  {:<9}  {:<13}  {:<24}  REASON", "OFFSET", "BURIED AT", "STATE", "BY", "KEY");
    for letter in wanted() {
        let state = outcomes.get(&letter.offset).map_or("open", |outcome| outcome.name());
        let buried_at = timestamp::rfc3339(letter.buried_at_ms);
        let (by, key) = (letter.consumer.as_deref().unwrap_or_default(), letter.key_text());
        println!("{:>8}  {buried_at:<24}  {state:<9}  {by:<13}  {key:<24}  {}", letter.offset, letter.reason);
    }
    println!("\n`waltalkie dlq show <offset>` shows one, `dlq retry` and `dlq drop` settle it");
    Ok(())
}

fn line_of(letter: &Letter, outcome: Option<Outcome>) -> Value {
    json!({
        "offset": letter.offset,
        "buried_at": timestamp::rfc3339(letter.buried_at_ms),
        "state": outcome.map_or("open", Outcome::name),
        (letter.key_name): letter.key_text(),
        "reason": letter.reason,
        "consumer": letter.consumer,
        "source": { "topic": letter.source_topic, "partition": letter.source_partition, "offset": letter.source_offset },
        "bytes": letter.value.as_ref().map_or(0, Vec::len),
    })
}

async fn settle(letters: &Letters, mut settled: Settled, which: &Which, outcome: Outcome) -> Result<()> {
    let outcomes = settled.all().await?;
    let chosen: Vec<&Letter> = if which.open {
        letters.all().iter().filter(|letter| !outcomes.contains_key(&letter.offset)).collect()
    } else {
        which.offsets.iter().map(|offset| letters.at(*offset)).collect::<Result<_>>()?
    };
    if let Some(letter) = chosen.iter().find(|letter| outcomes.contains_key(&letter.offset)) {
        bail!("{} is settled already: {}", letter.offset, outcomes[&letter.offset].name());
    }
    for letter in chosen {
        let claim = settled.claim(letter.offset, outcome).await?;
        ensure!(claim.is_new(), "{} was settled by somebody else just now", letter.offset);
        if outcome == Outcome::Retried {
            letters.send_again(letter).await.with_context(|| format!("dead letter {}", letter.offset))?;
        }
        claim.keep().await?;
        println!("{} {}", letter.offset, outcome.name());
    }
    Ok(())
}
