//! Frames from server to client, each as the JSON text that is written to sockets.

use serde::Serialize;
use serde_json::{Value, json};

use super::Rejection;
use super::json::{ChatJson, MembershipJson, MessageJson, Way};
use crate::event::{ChatEvent, event_type};
use crate::timestamp;

#[derive(Serialize)]
struct Frame<'a, P> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    payload: P,
}

/// A frame of any event; `id` is the client's own, in answers.
pub fn frame<P: Serialize>(event: &str, id: Option<&Value>, payload: P) -> String {
    serde_json::to_string(&Frame { event, id, payload }).unwrap_or_default()
}

#[derive(Serialize)]
struct MembersPayload<'a> {
    chat_id: &'a str,
    seq: i64,
    actor_id: &'a str,
    #[serde(serialize_with = "timestamp::serialize")]
    occurred_at: i64,
    memberships: Vec<MembershipJson<'a>>,
}

#[derive(Serialize)]
struct ChatPayload<'a> {
    chat_id: &'a str,
    seq: i64,
    actor_id: &'a str,
    #[serde(serialize_with = "timestamp::serialize")]
    occurred_at: i64,
    #[serde(flatten)]
    chat: ChatJson<'a>,
    memberships: Vec<MembershipJson<'a>>,
}

/// The frame of an event for members who may see it; [`skipped`] for a type that has none.
pub fn event_frame(event: &ChatEvent, way: Option<Way>) -> String {
    let name = match event.event_type.as_str() {
        event_type::MESSAGE_PERSISTED => "message",
        event_type::MESSAGE_EDITED => "message_edited",
        event_type::MESSAGE_DELETED => "message_deleted",
        event_type::CHAT_CREATED => "chat_created",
        event_type::CHAT_UPDATED => "chat_updated",
        event_type::MEMBER_JOINED => "member_joined",
        event_type::MEMBER_LEFT => "member_left",
        event_type::MEMBER_UPDATED => "member_updated",
        _ => return skipped(&event.chat_id, event.seq, event.seq),
    };
    let memberships = || event.memberships.iter().map(MembershipJson::from).collect();
    if let Some(message) = &event.message {
        let mut payload = MessageJson::new(&event.chat_id, event.seq, Some(&event.actor_id), message);
        payload.way = way;
        frame(name, None, payload)
    } else if let Some(chat) = &event.chat {
        frame(
            name,
            None,
            ChatPayload {
                chat_id: &event.chat_id,
                seq: event.seq,
                actor_id: &event.actor_id,
                occurred_at: event.occurred_at,
                chat: chat.into(),
                memberships: memberships(),
            },
        )
    } else {
        frame(
            name,
            None,
            MembersPayload {
                chat_id: &event.chat_id,
                seq: event.seq,
                actor_id: &event.actor_id,
                occurred_at: event.occurred_at,
                memberships: memberships(),
            },
        )
    }
}

/// `skipped`: these seqs exist and are not shown to this member.
pub fn skipped(chat_id: &str, from_seq: i64, to_seq: i64) -> String {
    frame("skipped", None, json!({ "chat_id": chat_id, "from_seq": from_seq, "to_seq": to_seq }))
}

/// `resumed`: the answer to a chat's cursor in `resume`, after the missing events.
pub fn resumed(chat_id: &str, from_seq: i64, to_seq: i64, complete: bool) -> String {
    frame("resumed", None, json!({ "chat_id": chat_id, "from_seq": from_seq, "to_seq": to_seq, "complete": complete }))
}

/// `ack` of a command.
pub fn ack(
    id: Option<&Value>,
    chat_id: Option<&str>,
    message_id: Option<&str>,
    state: &str,
    seq: Option<i64>,
) -> String {
    #[derive(Serialize)]
    struct Ack<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        chat_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<&'a str>,
        state: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<i64>,
    }
    frame("ack", id, Ack { chat_id, message_id, state, seq })
}

/// `error`: a refusal, with the place it is about.
pub fn error(id: Option<&Value>, rejection: &Rejection, chat_id: Option<&str>, message_id: Option<&str>) -> String {
    #[derive(Serialize)]
    struct Refusal<'a> {
        #[serde(flatten)]
        rejection: &'a Rejection,
        temporary: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        chat_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<&'a str>,
    }
    frame("error", id, Refusal { rejection, temporary: rejection.code.is_temporary(), chat_id, message_id })
}
