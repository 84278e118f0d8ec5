//! The newest events of chats whose rows differ: which, when, by whom, and where they stand in Kafka. Never what was said.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::Result;
use projections::rebuild::Difference;
use runtime::kafka::partition::{self, PartitionReader, Span};
use runtime::{Config, kafka};
use schemas::partitioner::partition_of;
use schemas::topics::Topic;
use schemas::{ChatEvent, Decoder, timestamp};
use serde_json::{Value, json};

/// Chats that are shown; each costs a pass over its partition.
const CHATS: usize = 3;
/// Events of each.
const EVENTS: usize = 20;
/// Records that are read at a time.
const CHUNK: usize = 1_000;

/// Chats in the order of the differences, each with its newest events.
pub(super) async fn of_differences(config: &Config, differences: &[Difference]) -> Result<Vec<(String, Vec<Value>)>> {
    let mut chats: Vec<&str> = Vec::new();
    for chat_id in differences.iter().filter_map(|difference| difference.chat_id.as_deref()) {
        if !chats.contains(&chat_id) && chats.len() < CHATS {
            chats.push(chat_id);
        }
    }
    let mut found = Vec::new();
    if !chats.is_empty() {
        let registry = Arc::new(config.registry_client()?);
        let decoder = Decoder::new(Arc::clone(&registry), registry.id_of::<ChatEvent>().await?);
        for chat_id in chats {
            found.push((chat_id.to_owned(), of_chat(config, &decoder, chat_id).await?));
        }
    }
    Ok(found)
}

async fn of_chat(config: &Config, decoder: &Decoder<ChatEvent>, chat_id: &str) -> Result<Vec<Value>> {
    let names = config.names();
    let topic = names.topic(Topic::ChatEvents);
    let partitions = i32::try_from(partition::ends(&config.kafka, &topic).await?.len())?;
    let number = partition_of(chat_id.as_bytes(), partitions);
    let span = Span { topic, partition: number, from: 0, until: None, chunk_records: CHUNK };
    let mut reader = PartitionReader::start(kafka::client_config(&config.kafka), &names.group("verify"), span)?;
    let mut newest = VecDeque::new();
    while let Some(chunk) = reader.next().await? {
        for received in chunk.records {
            if received.key.as_deref() != Some(chat_id.as_bytes()) {
                continue;
            }
            // What can't be read has its place and no more.
            let mut line = json!({ "partition": received.partition, "offset": received.offset });
            if let Ok(event) = decoder.decode(received.value.as_deref().unwrap_or_default()).await {
                line["seq"] = event.seq.into();
                line["event_type"] = event.event_type.into();
                line["occurred_at"] = timestamp::rfc3339(event.occurred_at).into();
                line["actor_id"] = event.actor_id.into();
            }
            newest.push_back(line);
            if newest.len() > EVENTS {
                newest.pop_front();
            }
        }
    }
    Ok(newest.into())
}

/// The same for people.
pub(super) fn lines_of(chats: &[(String, Vec<Value>)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (chat_id, events) in chats {
        lines.push(format!(
            "  newest events of {chat_id}; all of them: waltalkie tail --chat {chat_id} --from beginning"
        ));
        for event in events {
            let text = |name: &str| event[name].as_str().unwrap_or("can't be read");
            let place = format!("partition {}, offset {}", event["partition"], event["offset"]);
            let seq = event["seq"].as_i64().unwrap_or_default();
            let (event_type, at, by) = (text("event_type"), text("occurred_at"), text("actor_id"));
            lines.push(format!("    {seq:>6}  {event_type:<17}  {at}  by {by}, {place}"));
        }
    }
    lines
}
