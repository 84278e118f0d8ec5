//! Why a message isn't stored: how far its command has come, and what became of it.

use anyhow::{Context, Result};
use runtime::Config;
use runtime::kafka::admin::Admin;
use schemas::topics::Topic;
use schemas::{ChatCommand, timestamp};
use tokio_postgres::Client;
use uuid::Uuid;

use super::log::{self, Accepted};
use crate::dlq;

const NEXT_OFFSET: &str = "
    SELECT next_offset FROM consumer_offset
     WHERE consumer = 'persister' AND topic = $1 AND partition = $2 AND log_id = $3";
const REFUSAL: &str = "SELECT answer -> 'rejection' ->> 'code' FROM command_result WHERE command_id = $1";

/// In one sentence.
pub(super) async fn why(config: &Config, truth: &Client, message_id: Uuid) -> Result<String> {
    let is_it = |command: &ChatCommand| log::is_send_of(command, message_id);
    let Some(accepted) = log::command(config, message_id).await? else {
        let letter = dlq::letter_of(config, is_it).await?;
        return Ok(letter.unwrap_or_else(|| {
            "no command and no message has this id: it was never accepted here, or was refused longer ago than \
             chat.commands is kept"
                .to_owned()
        }));
    };
    let topic = config.names().topic(Topic::ChatCommands);
    let Accepted { command, partition, offset } = accepted;
    let next = next_offset(config, truth, &topic, partition).await?;
    let outcome = if next <= offset {
        format!("the persister hasn't come to it, it is at offset {next} (runbook: \"The persister has stopped\")")
    } else if let Some(letter) = dlq::letter_of(config, is_it).await? {
        letter
    } else if let Some(code) = refusal(truth, &command.command_id).await? {
        format!("the persister refused it: {code}")
    } else {
        "the persister took it just now, or refused it longer ago than its answers are kept".to_owned()
    };
    let at = timestamp::rfc3339(command.issued_at);
    Ok(format!("accepted as {topic}/{partition} offset {offset} at {at}, and not persisted: {outcome}"))
}

/// Where the persister is in a partition; at its beginning, as long as it has committed nothing of it.
async fn next_offset(config: &Config, truth: &Client, topic: &str, partition: i32) -> Result<i64> {
    let log_id = Admin::new(&config.kafka)?.log_id(topic).await?;
    let row = truth.query_opt(NEXT_OFFSET, &[&topic, &partition, &log_id]).await.context("the persister's offsets")?;
    Ok(row.map_or(0, |row| row.get(0)))
}

/// The code of a refusal that is kept.
async fn refusal(truth: &Client, command_id: &str) -> Result<Option<String>> {
    let row =
        truth.query_opt(REFUSAL, &[&Uuid::try_parse(command_id).ok()]).await.context("the persister's answers")?;
    Ok(row.and_then(|row| row.get(0)))
}
