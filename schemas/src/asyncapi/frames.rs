//! What each event says, with what payload, and how it is answered.

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::Parts;
use super::requests::{
    Authenticate, EditMessage, MessagePlace, OwnMarks, OwnTyping, Resume, SendMessage, ways_to_send,
};
use crate::wire::json::MessageJson;
use crate::wire::payload::{
    Ack, ChatPayload, Chats, Heads, Hello, MembersPayload, Presence, Receipt, Reconnect, Refusal, Resumed, Skipped,
    TokenExpiring, Typing,
};
use crate::wire::{ClientEvent, ServerEvent};

/// Takes up the schemas of a payload's type, and refers to it.
type Payload = fn(&mut Parts) -> Value;

/// Of a frame of clients, who may send null instead of leaving a field out.
fn asked<T: ToSchema>(parts: &mut Parts) -> Value {
    take_up::<T>(parts, |_| {})
}

/// A message: fields, and which of them make one.
fn sent(parts: &mut Parts) -> Value {
    let reference = asked::<SendMessage>(parts);
    if let Some(schema) = parts.schemas.get_mut(SendMessage::name().as_ref()) {
        schema["oneOf"] = ways_to_send();
    }
    reference
}

/// Of a frame of the server, which leaves out what isn't always there.
fn said<T: ToSchema>(parts: &mut Parts) -> Value {
    take_up::<T>(parts, absent_instead_of_null)
}

fn take_up<T: ToSchema>(parts: &mut Parts, adapt: fn(&mut Value)) -> Value {
    let mut found: Vec<(String, RefOr<Schema>)> = vec![(T::name().into_owned(), <T as PartialSchema>::schema())];
    T::schemas(&mut found);
    for (name, schema) in found {
        let mut schema = serde_json::to_value(schema).unwrap_or_default();
        adapt(&mut schema);
        parts.schemas.insert(name, schema);
    }
    json!({ "$ref": format!("#/components/schemas/{}", T::name()) })
}

fn absent_instead_of_null(schema: &mut Value) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (field, facts) in fields {
        if required.iter().any(|required| required == field) {
            continue;
        }
        if let Some(types) = facts.get_mut("type").and_then(Value::as_array_mut) {
            types.retain(|kind| kind != "null");
            if let [kind] = types.as_slice() {
                facts["type"] = kind.clone();
            }
        }
        if let Some(choices) = facts.get_mut("oneOf").and_then(Value::as_array_mut) {
            choices.retain(|choice| choice["type"] != "null");
        }
    }
}

/// All of it may be left out.
fn heartbeat(_: &mut Parts) -> Value {
    json!({
        "type": ["object", "null"],
        "properties": { "active": {
            "type": ["boolean", "null"],
            "default": true,
            "description": "Whether somebody is at the device. Who is at none of theirs is pushed to.",
        } },
    })
}

/// What a client asks.
pub(super) fn add_client(parts: &mut Parts, event: ClientEvent) {
    use ServerEvent::{Ack, Error, Heads, Resumed};
    let command = [Ack, Error];
    let (summary, payload, answers): (&str, Payload, &[ServerEvent]) = match event {
        ClientEvent::SendMessage => (
            "Sends a message. Answered with `ack` `accepted`, then `ack` `persisted` with `seq`; or `error`. A repeat \
             with the same `message_id` and body gets the first one's `seq`.",
            sent,
            &command,
        ),
        ClientEvent::EditMessage => {
            ("Gives a message of one's own another text. Answered as a send is.", asked::<EditMessage>, &command)
        }
        ClientEvent::DeleteMessage => (
            "Deletes a message. Answered as a send is; without `seq` if it was deleted already.",
            asked::<MessagePlace>,
            &command,
        ),
        ClientEvent::DiscardMessage => {
            ("Gives a refused send up, so that later ones of its chat pass again.", asked::<MessagePlace>, &command)
        }
        ClientEvent::MarkDelivered => {
            ("Says what has reached the person's screen. At most once a second.", asked::<OwnMarks>, &command)
        }
        ClientEvent::MarkRead => (
            "Says what the person has read; it is delivered, then. At most once a second.",
            asked::<OwnMarks>,
            &command,
        ),
        ClientEvent::Typing => (
            "Says that the person types; every three seconds while they do. Answered only if it has an `id`.",
            asked::<OwnTyping>,
            &command,
        ),
        ClientEvent::Resume => (
            "Asks for what was missed: events and `skipped` from each cursor on, then `resumed` for each chat.",
            asked::<Resume>,
            &[Resumed, Error],
        ),
        ClientEvent::Authenticate => {
            ("Goes on with a fresh token of the same person.", asked::<Authenticate>, &command)
        }
        ClientEvent::Heartbeat => ("Says that the client is there; every `heartbeat_ms`.", heartbeat, &[Heads, Error]),
    };
    let key = format!("client_{}", event.name());
    let has_payload = event != ClientEvent::Heartbeat;
    let id = json!({
        "type": ["string", "number", "null"],
        "maxLength": 126,
        "description": "The client's own, at most 128 bytes of JSON; `ack` and `error` have it again.",
    });
    let payload = payload(parts);
    let frame = frame(event.name(), Some(&id), &payload, has_payload);
    let replies: Vec<Value> = answers.iter().map(|answer| in_socket(&server_key(*answer))).collect();
    parts.messages.insert(key.clone(), json!({ "name": event.name(), "summary": summary, "payload": frame }));
    parts.operations.insert(
        format!("receive_{}", event.name()),
        json!({
            "action": "receive",
            "channel": { "$ref": "#/channels/socket" },
            "summary": summary,
            "messages": [in_socket(&key)],
            "reply": { "channel": { "$ref": "#/channels/socket" }, "messages": replies },
        }),
    );
}

/// What the server says.
pub(super) fn add_server(parts: &mut Parts, event: ServerEvent) {
    let (summary, payload): (&str, Payload) = match event {
        ServerEvent::Hello => ("Greets; the first frame.", said::<Hello<'static>>),
        ServerEvent::Chats => (
            "Where the person's chats stand; after `hello`, and when the person is added to one.",
            said::<Chats<'static>>,
        ),
        ServerEvent::Ack => {
            ("A request was taken. Never moves a cursor: it may overtake events.", said::<Ack<'static>>)
        }
        ServerEvent::Error => ("A request was refused.", said::<Refusal<'static>>),
        ServerEvent::Message => ("A message was sent.", said::<MessageJson<'static>>),
        ServerEvent::MessageEdited => ("A message has another text.", said::<MessageJson<'static>>),
        ServerEvent::MessageDeleted => {
            ("A message was deleted: a tombstone without a body.", said::<MessageJson<'static>>)
        }
        ServerEvent::ChatCreated => ("A chat was made, with its first members.", said::<ChatPayload<'static>>),
        ServerEvent::ChatUpdated => ("A chat has other settings.", said::<ChatPayload<'static>>),
        ServerEvent::MemberJoined => ("People were added.", said::<MembersPayload<'static>>),
        ServerEvent::MemberLeft => ("People left or were removed.", said::<MembersPayload<'static>>),
        ServerEvent::MemberUpdated => ("Roles were changed.", said::<MembersPayload<'static>>),
        ServerEvent::Skipped => {
            ("These events exist and aren't shown to the person. Moves the cursor.", said::<Skipped<'static>>)
        }
        ServerEvent::Resumed => ("A chat's cursor in a `resume` is answered.", said::<Resumed<'static>>),
        ServerEvent::Heads => ("Chats that moved, as the answer to a `heartbeat`.", said::<Heads<'static>>),
        ServerEvent::Receipt => ("How far others have received and read.", said::<Receipt<'static>>),
        ServerEvent::Typing => {
            ("Somebody types: show it for six seconds, or until their message comes.", said::<Typing<'static>>)
        }
        ServerEvent::Presence => ("Who of a chat is here, and who went.", said::<Presence<'static>>),
        ServerEvent::TokenExpiring => {
            ("The token ends in a minute, or in half of what was left of a short one.", said::<TokenExpiring>)
        }
        ServerEvent::Reconnect => ("The node stops, and closes with 1001.", said::<Reconnect>),
    };
    // Only answers have the id of what they answer.
    let id = matches!(event, ServerEvent::Ack | ServerEvent::Error).then(|| {
        json!({ "type": ["string", "number"], "description": "Of the request; absent if it had none or none was read." })
    });
    let key = server_key(event);
    let payload = payload(parts);
    let frame = frame(event.name(), id.as_ref(), &payload, true);
    parts.messages.insert(key.clone(), json!({ "name": event.name(), "summary": summary, "payload": frame }));
    parts.operations.insert(
        format!("send_{}", event.name()),
        json!({
            "action": "send",
            "channel": { "$ref": "#/channels/socket" },
            "summary": summary,
            "messages": [in_socket(&key)],
        }),
    );
}

fn server_key(event: ServerEvent) -> String {
    format!("server_{}", event.name())
}

fn in_socket(key: &str) -> Value {
    json!({ "$ref": format!("#/channels/socket/messages/{key}") })
}

fn frame(event: &str, id: Option<&Value>, payload: &Value, has_payload: bool) -> Value {
    let mut properties = json!({ "event": { "const": event }, "payload": payload });
    if let Some(id) = id {
        properties["id"] = id.clone();
    }
    let required: &[&str] = if has_payload { &["event", "payload"] } else { &["event"] };
    json!({ "type": "object", "required": required, "properties": properties })
}
