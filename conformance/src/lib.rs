//! Holds what goes over a WebSocket against the AsyncAPI document, so that neither changes without the other; for tests.
//!
//! The document is open, since clients must take what is added later. Here it is closed: fields that it doesn't have, and
//! values beside its `x-known-values`, are faults.

#[cfg(test)]
mod requests_tests;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::LazyLock;

use jsonschema::{Draft, Validator};
use schemas::asyncapi::asyncapi_json;
use schemas::wire::CloseCode;
use serde_json::{Value, json};
use uuid::Uuid;

/// What a frame is held against.
struct Frames {
    /// By key: `client_` or `server_`, and the event.
    validators: HashMap<String, Validator>,
}

static CLOSED: LazyLock<Frames> = LazyLock::new(|| Frames::new(true));

/// Checks a frame of the server; what is wrong with it, if something is.
pub fn check_server_frame(frame: &Value) -> Result<(), String> {
    CLOSED.check("server", frame)
}

/// Checks a frame of a client, likewise. One that isn't described may be sent, but has to be refused.
pub fn check_client_frame(frame: &Value) -> Result<(), String> {
    CLOSED.check("client", frame)
}

/// Checks that a close code of the server is described.
pub fn check_close_code(code: u16) -> Result<(), String> {
    let is_known = CloseCode::ALL.into_iter().any(|known| known.number() == code);
    if is_known { Ok(()) } else { Err(format!("close code {code} isn't described in /asyncapi.json")) }
}

/// Checks the document itself against a JSON Schema of AsyncAPI.
pub fn check_document(meta_schema: &Value) -> Result<(), String> {
    let validator = jsonschema::options().offline().build(meta_schema).map_err(|error| error.to_string())?;
    faults(&validator, &document())
}

fn document() -> Value {
    serde_json::from_str(asyncapi_json()).expect("the document is JSON")
}

impl Frames {
    fn new(is_closed: bool) -> Self {
        let document = document();
        let mut schemas = document["components"]["schemas"].clone();
        if is_closed {
            close(&mut schemas);
        }
        let messages = document["components"]["messages"].as_object().expect("messages");
        let validator_of = |(key, message): (&String, &Value)| {
            let mut schema = message["payload"].clone();
            if is_closed {
                close(&mut schema);
            }
            // Where its references lead.
            schema["components"] = json!({ "schemas": schemas });
            let validator = jsonschema::options()
                .with_draft(Draft::Draft7)
                .should_validate_formats(true)
                .with_format("uuid", is_uuid)
                .offline()
                .build(&schema);
            (key.clone(), validator.unwrap_or_else(|error| panic!("{key} is no schema: {error}")))
        };
        let of_socket = messages.iter().filter(|(key, _)| key.starts_with("client_") || key.starts_with("server_"));
        Self { validators: of_socket.map(validator_of).collect() }
    }

    fn check(&self, side: &str, frame: &Value) -> Result<(), String> {
        let event = frame["event"].as_str().ok_or_else(|| format!("a frame without event: {frame}"))?;
        let validator = self
            .validators
            .get(&format!("{side}_{event}"))
            .ok_or_else(|| format!("{event} of the {side} isn't described in /asyncapi.json: {frame}"))?;
        faults(validator, frame).map_err(|faults| format!("{event} isn't as /asyncapi.json says: {faults}\n{frame}"))
    }
}

fn faults(validator: &Validator, value: &Value) -> Result<(), String> {
    let mut text = String::new();
    for fault in validator.iter_errors(value) {
        let _ = write!(text, "\n  {}: {fault}", fault.instance_path());
    }
    if text.is_empty() { Ok(()) } else { Err(text) }
}

/// As the contract writes them; the nil one means nothing.
fn is_uuid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok_and(|uuid| !uuid.is_nil())
}

/// No fields and no values beside those that are written down.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(values) = members.remove("x-known-values") {
                members.insert("enum".into(), values);
            }
            if members.get("properties").is_some_and(Value::is_object) {
                members.entry("additionalProperties").or_insert(Value::Bool(false));
                // Choices of an object say which of its fields go together; they have no fields of their own.
                members.iter_mut().filter(|(name, _)| *name != "oneOf").for_each(|(_, value)| close(value));
                return;
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Value {
        json!({ "event": "message", "payload": {
            "chat_id": "launch", "seq": 9, "message_id": "0197f9d2-8a5b-7c3e-9f10-2b6d4e8a1c55", "message_seq": 7,
            "sender_id": "alice", "actor_id": "alice", "content": "hello!", "attachments": [], "file": null,
            "parent_message_id": null, "parent_seq": null, "app_data": { "anything": [1] },
            "created_at": "2026-01-01T12:00:00.000Z", "edited_at": null, "deleted_at": null
        } })
    }

    #[test]
    fn asyncapi_tells_frames_that_are_not_as_described() {
        check_server_frame(&message()).expect("as described");
        let with = |pointer: &str, value: Value| {
            let (place, field) = pointer.rsplit_once('/').expect("a place and a field");
            let mut frame = message();
            frame.pointer_mut(place).expect("a place")[field] = value;
            check_server_frame(&frame)
        };
        for (pointer, value) in [
            ("/event", json!("massage")),
            ("/id", json!(1)),
            ("/payload/new_field", json!(1)),
            ("/payload/seq", json!("9")),
            ("/payload/content", json!(null)),
            ("/payload/message_id", json!("m")),
            ("/payload/created_at", json!("yesterday")),
            ("/payload/created_at", json!(null)),
            ("/payload/way", json!({ "offset": 1 })),
        ] {
            let is_taken = with(pointer, value).is_ok();
            assert_eq!(is_taken, pointer == "/payload/content", "{pointer}");
        }
        let mut without = message();
        without["payload"].as_object_mut().expect("payload").remove("edited_at");
        check_server_frame(&without).expect_err("a field is missing");
        // A new field or value is for clients to skip, and the published document says so.
        let open = Frames::new(false);
        let mut more = message();
        more["payload"]["new_field"] = json!(1);
        open.check("server", &more).expect("open");
        let error = json!({ "event": "error", "payload": { "code": "new_code", "message": "m", "temporary": true } });
        open.check("server", &error).expect("open");
        check_server_frame(&error).expect_err("no such code");
        check_close_code(4008).expect("described");
        check_close_code(4002).expect_err("not described");
    }
}
