//! Frames from server to client, each as the JSON text that is written to sockets.

use serde::Serialize;
use serde_json::Value;

use super::json::{self, MembershipJson, MessageJson, Way};
use super::payload::{Ack, ChatPayload, MembersPayload, Refusal, Resumed, Skipped};
use super::{Rejection, ServerEvent};
use crate::event::{ChatEvent, event_type};

#[derive(Serialize)]
struct Frame<'a, P> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    payload: P,
}

/// A frame of any event; `id` is the client's own, in answers.
pub fn frame<P: Serialize>(event: ServerEvent, id: Option<&Value>, payload: P) -> String {
    serde_json::to_string(&Frame { event: event.name(), id, payload }).unwrap_or_default()
}

/// The frame of an event for members who may see it; [`skipped`] for a type that has none.
pub fn event_frame(event: &ChatEvent, way: Option<Way>) -> String {
    let name = match event.event_type.as_str() {
        event_type::MESSAGE_PERSISTED => ServerEvent::Message,
        event_type::MESSAGE_EDITED => ServerEvent::MessageEdited,
        event_type::MESSAGE_DELETED => ServerEvent::MessageDeleted,
        event_type::CHAT_CREATED => ServerEvent::ChatCreated,
        event_type::CHAT_UPDATED => ServerEvent::ChatUpdated,
        event_type::MEMBER_JOINED => ServerEvent::MemberJoined,
        event_type::MEMBER_LEFT => ServerEvent::MemberLeft,
        event_type::MEMBER_UPDATED => ServerEvent::MemberUpdated,
        _ => return skipped(&event.chat_id, event.seq, event.seq),
    };
    let (chat_id, seq, actor_id, occurred_at) = (&*event.chat_id, event.seq, &*event.actor_id, event.occurred_at);
    let memberships = || event.memberships.iter().map(MembershipJson::from).collect();
    if let Some(message) = &event.message {
        let mut payload = MessageJson::new(chat_id, seq, Some(actor_id), message);
        payload.way = way;
        frame(name, None, payload)
    } else if let Some(chat) = &event.chat {
        let payload = ChatPayload {
            chat_id,
            seq,
            actor_id,
            occurred_at,
            name: chat.chat_name.as_deref(),
            is_group: chat.is_group,
            created_at: chat.created_at,
            history_for_new_members: chat.history_for_new_members,
            deleted_shown_as: &chat.deleted_shown_as,
            avatar_url: chat.avatar_url.as_deref(),
            app_data: json::raw(chat.app_data.as_ref()),
            memberships: memberships(),
        };
        frame(name, None, payload)
    } else {
        frame(name, None, MembersPayload { chat_id, seq, actor_id, occurred_at, memberships: memberships() })
    }
}

/// `skipped`: these seqs exist and are not shown to this member.
pub fn skipped(chat_id: &str, from_seq: i64, to_seq: i64) -> String {
    frame(ServerEvent::Skipped, None, Skipped { chat_id, from_seq, to_seq })
}

/// `resumed`: the answer to a chat's cursor in `resume`, after the missing events.
pub fn resumed(chat_id: &str, from_seq: i64, to_seq: i64, complete: bool) -> String {
    frame(ServerEvent::Resumed, None, Resumed { chat_id, from_seq, to_seq, complete })
}

/// `ack` of a command.
pub fn ack(
    id: Option<&Value>,
    chat_id: Option<&str>,
    message_id: Option<&str>,
    state: &str,
    seq: Option<i64>,
) -> String {
    frame(ServerEvent::Ack, id, Ack { chat_id, message_id, state, seq })
}

/// `error`: a refusal, with the place it is about.
pub fn error(id: Option<&Value>, rejection: &Rejection, chat_id: Option<&str>, message_id: Option<&str>) -> String {
    let refusal = Refusal {
        code: rejection.code,
        message: &rejection.message,
        field: rejection.field.as_deref(),
        retry_after_ms: rejection.retry_after_ms,
        temporary: rejection.code.is_temporary(),
        chat_id,
        message_id,
    };
    frame(ServerEvent::Error, id, refusal)
}
