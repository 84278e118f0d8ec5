//! The AsyncAPI 3.0 document: every frame of the WebSocket in both directions, every close code, every topic.
//!
//! Payloads of the server's frames are described by the types that are written to sockets; those of clients, which are
//! read field by field, by `asyncapi/requests.rs`. That an event, a close code or a topic isn't described doesn't
//! compile; that a description is wrong fails tests: every frame that they send and receive is held against the document.
//!
//! Schemas stay within what JSON Schema draft 7, which AsyncAPI is made on, and 2020-12 both understand. They are open:
//! fields and values may be added later, so lists of values are in `x-known-values` instead of `enum`.

mod frames;
mod requests;
mod topics;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::wire::{ClientEvent, CloseCode, ServerEvent};

/// The document as JSON.
pub fn asyncapi_json() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| serde_json::to_string_pretty(&document()).unwrap_or_default());
    &JSON
}

const ABOUT: &str = "The WebSocket of Waltalkie, a chat backend whose every message can be replayed, and the topics on \
                     which the history comes out. Seen from Waltalkie: it receives what clients send. HTTP is in \
                     /openapi.json. Clients skip events and fields that they don't know, and take values that aren't \
                     among the `x-known-values` as they come.";

fn document() -> Value {
    let mut parts = Parts::default();
    for event in ClientEvent::ALL {
        frames::add_client(&mut parts, event);
    }
    for event in ServerEvent::ALL {
        frames::add_server(&mut parts, event);
    }
    let socket_messages: Map<String, Value> = parts.messages.keys().map(|key| (key.clone(), message_of(key))).collect();
    parts.channels.insert("socket".into(), socket(&socket_messages));
    topics::add(&mut parts);
    for schema in parts.schemas.values_mut() {
        open(schema);
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Waltalkie",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": "{host}",
                "protocol": "ws",
                "description": "A gateway, or the proxy before it: `wss` where TLS is.",
                "variables": { "host": { "default": "127.0.0.1:8080", "description": "gateway.listen" } },
                "security": [{ "$ref": "#/components/securitySchemes/token" }],
            },
            "kafka": {
                "host": "{brokers}",
                "protocol": "kafka",
                "description": "Topics and subjects have `names.prefix` before their names, if there is one.",
                "variables": { "brokers": { "default": "127.0.0.1:9092", "description": "kafka.brokers" } },
            },
        },
        "channels": parts.channels,
        "operations": parts.operations,
        "components": {
            "messages": parts.messages,
            "schemas": parts.schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "In `Authorization`, or from browsers as a second subprotocol `bearer.<jwt>`; never \
                                    in the address.",
                },
            },
        },
    })
}

/// What the document is put together from.
#[derive(Default)]
struct Parts {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
    schemas: Map<String, Value>,
}

fn message_of(key: &str) -> Value {
    json!({ "$ref": format!("#/components/messages/{key}") })
}

fn socket(messages: &Map<String, Value>) -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let close_codes: Vec<Value> = CloseCode::ALL
        .into_iter()
        .map(|code| json!({ "code": code.number(), "when": code.when(), "then": code.then() }))
        .collect();
    json!({
        "address": "/v1/ws",
        "title": "One connection of a person",
        "description": "JSON in text frames. `hello` comes first, then `chats` until one is `complete`. A client moves \
                        its cursors by events and `skipped` only, in the order of `seq`, and resumes when `seq` jumps. \
                        Of close codes that a client doesn't know: 4000 to 4099 reconnect with backoff, 4102 to 4199 \
                        stay away, any other backoff.",
        "servers": [{ "$ref": "#/servers/gateway" }],
        "messages": messages,
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {
                        "Sec-WebSocket-Protocol": text("`waltalkie.v1`; in browsers `waltalkie.v1, bearer.<jwt>`."),
                        "Authorization": text("`Bearer <jwt>`, where the token isn't a subprotocol."),
                        "Origin": text("Absent, the page's own host, or one of `gateway.allowed_origins`."),
                    },
                },
                "bindingVersion": "0.1.0",
            },
        },
        "x-close-codes": close_codes,
    })
}

/// Lists of values become lists of those that are known so far.
fn open(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(values) = members.remove("enum") {
                members.insert("x-known-values".into(), values);
            }
            members.values_mut().for_each(open);
        }
        Value::Array(items) => items.iter_mut().for_each(open),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference in a part of the document.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn asyncapi_refers_only_to_what_is_there() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100, "{}", found.len());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a place in the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn asyncapi_has_each_event_close_code_and_topic() {
        let document = document();
        let messages = document["channels"]["socket"]["messages"].as_object().expect("messages");
        assert_eq!(messages.len(), ClientEvent::ALL.len() + ServerEvent::ALL.len());
        assert_eq!(
            document["channels"]["socket"]["x-close-codes"].as_array().map(Vec::len),
            Some(CloseCode::ALL.len())
        );
        let operations = document["operations"].as_object().expect("operations");
        assert_eq!(operations.len(), messages.len() + crate::topics::Topic::ALL.len());
        for (_, _, topic) in crate::record::all() {
            let channel = &document["channels"][topic.base_name()];
            assert!(channel["x-subject"].is_string(), "{}", topic.base_name());
        }
        assert!(!document["components"]["schemas"].to_string().contains("\"enum\""));
    }
}
