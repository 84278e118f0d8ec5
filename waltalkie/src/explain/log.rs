//! A message in the logs: its command, and its event.

use std::sync::Arc;

use anyhow::{Context, Result};
use runtime::kafka::Received;
use runtime::kafka::admin::Admin;
use runtime::kafka::partition::{self, PartitionReader, Span};
use runtime::{Config, kafka};
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::wire::json::lsn_text;
use schemas::{ChatCommand, ChatEvent, Decoder, Record, partitioner};
use uuid::Uuid;

use super::{Station, Stored};

/// A command is persisted within this time, or it waits behind a backlog that is longer; then it isn't found.
const BEFORE_MS: i64 = 3_600_000;
const GROUP: &str = "waltalkie-explain";

/// A command with its place in `chat.commands`.
pub(super) struct Accepted {
    pub(super) command: ChatCommand,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// The command that became a stored message, if it is kept still.
pub(super) async fn command_of(
    config: &Config,
    chat_id: &str,
    message_id: Uuid,
    created_at_ms: i64,
) -> Result<Option<Station>> {
    let topic = config.names().topic(Topic::ChatCommands);
    let partitions = Admin::new(&config.kafka)?.topic_facts(&topic).await?.partitions as i32;
    let partition = partitioner::partition_of(chat_id.as_bytes(), partitions);
    let is_it = |command: &ChatCommand| is_send_of(command, message_id);
    let from_ms = Some(created_at_ms - BEFORE_MS);
    let found = find::<ChatCommand>(config, Which::First, partition, from_ms, Some(chat_id), is_it).await?;
    Ok(found.map(|(command, received)| Station {
        name: "accepted",
        at_ms: Some(command.issued_at),
        place: format!("{topic}/{partition} offset {}, by gateway {}", received.offset, command.node_id),
    }))
}

/// The newest command of a message that isn't stored, wherever it is: one that was refused may have been sent again.
pub(super) async fn command(config: &Config, message_id: Uuid) -> Result<Option<Accepted>> {
    let topic = config.names().topic(Topic::ChatCommands);
    let partitions = Admin::new(&config.kafka)?.topic_facts(&topic).await?.partitions as i32;
    for partition in 0..partitions {
        let is_it = |command: &ChatCommand| is_send_of(command, message_id);
        let found = find::<ChatCommand>(config, Which::Last, partition, None, None, is_it).await?;
        if let Some((command, received)) = found {
            return Ok(Some(Accepted { command, partition, offset: received.offset }));
        }
    }
    Ok(None)
}

/// Whether a command sent a message.
pub(super) fn is_send_of(command: &ChatCommand, message_id: Uuid) -> bool {
    command.command_type == schemas::command_type::MESSAGE_SEND
        && command.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()) == Some(message_id)
}

/// The message's event with its partition and offset.
pub(super) async fn event_of(config: &Config, stored: &Stored) -> Result<Option<(Station, i32, i64)>> {
    let topic = config.names().topic(Topic::ChatEvents);
    let partitions = Admin::new(&config.kafka)?.topic_facts(&topic).await?.partitions as i32;
    let partition = partitioner::partition_of(stored.chat_id.as_bytes(), partitions);
    let is_it = |event: &ChatEvent| event.chat_id == stored.chat_id && event.seq == stored.seq;
    // One that was given up has the time of that; it is later.
    let (from_ms, key) = (Some(stored.created_at_ms), Some(stored.chat_id.as_str()));
    let found = find::<ChatEvent>(config, Which::First, partition, from_ms, key, is_it).await?;
    Ok(found.map(|(event, received)| {
        let place = format!(
            "{topic}/{partition} offset {}, {}, commit LSN {} row {}",
            received.offset,
            event.event_type,
            lsn_text(event.origin.commit_lsn),
            event.origin.ordinal
        );
        (Station { name: "history", at_ms: Some(event.occurred_at), place }, partition, received.offset)
    }))
}

/// Which record of several.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    First,
    Last,
}

/// The first or last record of a partition, from a time on, that is the one.
async fn find<R: Record>(
    config: &Config,
    which: Which,
    partition: i32,
    from_ms: Option<i64>,
    key: Option<&str>,
    is_it: impl Fn(&R) -> bool,
) -> Result<Option<(R, Received)>> {
    let topic = config.names().topic(R::TOPIC);
    let client = kafka::client_config(&config.kafka);
    let from = match from_ms {
        None => 0,
        Some(from_ms) => {
            let (client, topic) = (client.clone(), topic.clone());
            tokio::task::spawn_blocking(move || partition::offset_at(&client, &topic, partition, from_ms))
                .await?
                .with_context(|| format!("Kafka at {} doesn't answer", config.kafka.brokers))?
        }
    };
    let registry = Arc::new(Registry::new(config.registry.url.expose(), config.names().prefix())?);
    let own_id = registry.id_of::<R>().await.context("schemas; `waltalkie migrate` registers them")?;
    let decoder = Decoder::<R>::new(registry, own_id);
    let span = Span { topic, partition, from, until: None, chunk_records: 1_000 };
    let mut reader = PartitionReader::start(client, GROUP, span)?;
    let mut found = None;
    while let Some(chunk) = reader.next().await? {
        for received in chunk.records {
            if key.is_some_and(|key| received.key.as_deref() != Some(key.as_bytes())) {
                continue;
            }
            let Some(value) = &received.value else { continue };
            let record = match decoder.decode(value).await {
                Ok(record) => record,
                Err(error) if error.is_transient() => return Err(error).context("the registry"),
                // What can't be read isn't what is looked for.
                Err(_) => continue,
            };
            if is_it(&record) {
                found = Some((record, received));
                if which == Which::First {
                    return Ok(found);
                }
            }
        }
        if chunk.is_end {
            break;
        }
    }
    Ok(found)
}
