//! The topics: a channel each, with its key and its value's Avro schema.

use serde_json::{Map, Value, json};

use super::{Parts, message_of};
use crate::record;
use crate::topics::Topic;

pub(super) fn add(parts: &mut Parts) {
    for topic in Topic::ALL {
        let record = record::all().into_iter().find(|(_, _, its_topic)| *its_topic == topic);
        let (key, message) = if let Some((name, schema, _)) = record {
            (name, avro(name, schema, topic))
        } else {
            let (name, summary) = match topic {
                Topic::ChatNotificationsDlq => ("Unsent", UNSENT),
                Topic::ChatEventsDlq => ("Unreadable", UNREADABLE),
                _ => ("Undecided", UNDECIDED),
            };
            (name, aside(name, summary, topic))
        };
        parts.messages.insert(key.into(), message);
        parts.channels.insert(topic.base_name().into(), channel(topic, key, record.is_some()));
        let name = topic.base_name();
        parts.operations.insert(
            format!("send_{}", name.replace('.', "_")),
            json!({
                "action": "send",
                "channel": { "$ref": format!("#/channels/{name}") },
                "messages": [{ "$ref": format!("#/channels/{name}/messages/{key}") }],
            }),
        );
    }
}

fn channel(topic: Topic, key: &str, has_subject: bool) -> Value {
    let name = topic.base_name();
    let mut settings = Map::new();
    for (setting, value) in topic.config() {
        let value = match *setting {
            "cleanup.policy" => json!([value]),
            "retention.ms" | "retention.bytes" => json!(value.parse::<i64>().unwrap_or_default()),
            _ => continue,
        };
        settings.insert((*setting).into(), value);
    }
    let mut channel = json!({
        "address": name,
        "servers": [{ "$ref": "#/servers/kafka" }],
        "messages": { key: message_of(key) },
        "bindings": { "kafka": { "topic": name, "topicConfiguration": settings, "bindingVersion": "0.5.0" } },
    });
    if has_subject {
        channel["x-subject"] = json!(format!("{name}-value"));
    }
    if topic.is_internal() {
        channel["tags"] = json!([{ "name": "internal", "description": "May change without notice." }]);
    }
    channel
}

fn avro(name: &str, schema: &str, topic: Topic) -> Value {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    json!({
        "name": name,
        "summary": schema["doc"],
        "contentType": "application/avro",
        "payload": { "schemaFormat": "application/vnd.apache.avro+json;version=1.9.0", "schema": schema },
        "bindings": {
            "kafka": {
                "key": { "type": "string", "description": topic.key() },
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "schemaLookupStrategy": "TopicNameStrategy",
                "bindingVersion": "0.5.0",
            },
        },
    })
}

const UNDECIDED: &str = "A record of `chat.commands` that nobody can decide: its key and bytes as they came.";
const UNSENT: &str =
    "A record of `chat.notifications` that nobody can read, as it came, or one for a device that no try reached.";
const UNREADABLE: &str =
    "A record of `chat.events` that the stream operators can't read: its key and bytes as they came.";

/// What is in a dead-letter topic.
fn aside(name: &str, summary: &str, topic: Topic) -> Value {
    json!({
        "name": name,
        "summary": summary,
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "required": ["reason", "source_topic", "source_partition", "source_offset"],
            "properties": {
                "reason": { "type": "string" },
                "source_topic": { "type": "string" },
                "source_partition": { "type": "string" },
                "source_offset": { "type": "string" },
            },
        },
        "bindings": {
            "kafka": { "key": { "type": "string", "description": topic.key() }, "bindingVersion": "0.5.0" },
        },
    })
}
