//! `/v1/chats/{chat_id}/messages` and `/v1/chats/{chat_id}/read`.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use schemas::wire::client::{MAX_SEQ, send_message};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::caller::{Caller, JsonBody, Query, chat_id_of, message_id_of};
use super::history::{Place, written};
use super::idempotency::Operation;
use super::{Problem, Shared, shapes};
use crate::chat_service::Wish;
use crate::marks::Kind;

/// A page of messages as they are now; the newest without any of the three places.
#[utoipa::path(get, path = "/v1/chats/{chat_id}/messages", operation_id = "list_messages", tag = "messages",
    params(("chat_id" = String, Path),
        ("before_seq" = Option<i64>, Query, description = "The newest before this"),
        ("after_seq" = Option<i64>, Query, description = "The oldest after this"),
        ("around_seq" = Option<i64>, Query, description = "Half before, half from this on"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if absent")),
    responses((status = 200, description = "A page", body = shapes::MessagePage)))]
pub(crate) async fn list(
    State(gateway): Shared,
    caller: Caller,
    Path(chat_id): Path<String>,
    query: Query,
) -> Result<Json<Page>, Problem> {
    let chat_id = chat_id_of(chat_id)?;
    let limit = query.limit(50, 200)?;
    let seq = |name: &str| query.number(name, 0, MAX_SEQ);
    let (before, after, around) = (seq("before_seq")?, seq("after_seq")?, seq("around_seq")?);
    // Read before the messages: what is newer than this comes as events.
    let as_of_seq = gateway.head_for(&caller.user_id, &chat_id).await?;
    let page = |place, limit| gateway.page(&caller.user_id, &chat_id, place, limit);
    let (messages, has_more_before, has_more_after) = match (before, after, around) {
        (_, _, Some(seq)) => {
            let half = (limit / 2).max(1);
            let older = page(Place::Before(seq), half + 1).await?;
            let newer = page(Place::After(seq - 1), half + 1).await?;
            let (older, more_before) = trim_start(older, half);
            let (newer, more_after) = trim_end(newer, half);
            (older.into_iter().chain(newer).collect(), more_before, more_after)
        }
        (_, Some(seq), None) => {
            let (messages, more) = trim_end(page(Place::After(seq), limit + 1).await?, limit);
            (messages, seq > 0, more)
        }
        (Some(seq), None, None) => {
            let (messages, more) = trim_start(page(Place::Before(seq), limit + 1).await?, limit);
            (messages, more, true)
        }
        (None, None, None) => {
            let (messages, more) = trim_start(page(Place::Latest, limit + 1).await?, limit);
            (messages, more, false)
        }
    };
    Ok(Json(Page { messages, as_of_seq, has_more_before, has_more_after }))
}

/// `MessagePage` of the document, whose messages are written already.
#[derive(Serialize)]
pub(crate) struct Page {
    messages: Vec<Box<RawValue>>,
    as_of_seq: i64,
    has_more_before: bool,
    has_more_after: bool,
}

fn trim_start<T>(mut messages: Vec<T>, limit: i64) -> (Vec<T>, bool) {
    let surplus = messages.len().saturating_sub(limit as usize);
    messages.drain(..surplus);
    (messages, surplus > 0)
}

fn trim_end<T>(mut messages: Vec<T>, limit: i64) -> (Vec<T>, bool) {
    let has_more = messages.len() > limit as usize;
    messages.truncate(limit as usize);
    (messages, has_more)
}

/// Sends a message.
#[utoipa::path(post, path = "/v1/chats/{chat_id}/messages", operation_id = "send_message", tag = "messages",
    params(("chat_id" = String, Path),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: answer once accepted")),
    request_body = shapes::NewMessage,
    responses((status = 201, description = "The message, once persisted", body = shapes::Sent),
        (status = 202, description = "Once accepted, with Prefer: respond-async", body = shapes::Accepted)))]
pub(crate) async fn send(
    State(gateway): Shared,
    caller: Caller,
    Path(chat_id): Path<String>,
    operation: Option<Extension<Operation>>,
    headers: HeaderMap,
    JsonBody(mut body): JsonBody,
) -> Result<(StatusCode, Json<Box<RawValue>>), Problem> {
    let chat_id = chat_id_of(chat_id)?;
    if let Some(Extension(operation)) = operation
        && body.object.get("message_id").is_none_or(Value::is_null)
    {
        body.object.insert("message_id".into(), json!(operation.id));
    }
    let message = send_message(chat_id.clone(), &mut body, &gateway.frame_limits)?;
    let message_id = message.message_id;
    let submitted = gateway.chat.submit(&caller.asker(), Wish::Send(message), false).await?;
    submitted.accepted.await?;
    let prefers_async = headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|preference| preference.trim().eq_ignore_ascii_case("respond-async")));
    if prefers_async {
        let accepted = json!({ "state": "accepted", "chat_id": chat_id, "message_id": message_id });
        return Ok((StatusCode::ACCEPTED, Json(written(&accepted))));
    }
    let seq = submitted.decided.await?;
    // A repeated send is answered also to one who was removed since, and then with no more than its place.
    let shown = gateway.one_message(&caller.user_id, &chat_id, message_id).await;
    let place = || written(&json!({ "chat_id": chat_id, "message_id": message_id, "seq": seq }));
    Ok((StatusCode::CREATED, Json(shown.unwrap_or_else(|_| place()))))
}

/// One message.
#[utoipa::path(get, path = "/v1/chats/{chat_id}/messages/{message_id}", operation_id = "get_message", tag = "messages",
    params(("chat_id" = String, Path), ("message_id" = String, Path)),
    responses((status = 200, description = "The message", body = shapes::Message)))]
pub(crate) async fn show(
    State(gateway): Shared,
    caller: Caller,
    Path((chat_id, message_id)): Path<(String, String)>,
) -> Result<Json<Box<RawValue>>, Problem> {
    let chat_id = chat_id_of(chat_id)?;
    let message_id = message_id_of(&message_id)?;
    gateway.head_for(&caller.user_id, &chat_id).await?;
    Ok(Json(gateway.one_message(&caller.user_id, &chat_id, message_id).await?))
}

/// Edits one's own message.
#[utoipa::path(patch, path = "/v1/chats/{chat_id}/messages/{message_id}", operation_id = "edit_message", tag = "messages",
    params(("chat_id" = String, Path), ("message_id" = String, Path)),
    request_body = shapes::MessageChange,
    responses((status = 200, description = "The message", body = shapes::Message)))]
pub(crate) async fn edit(
    State(gateway): Shared,
    caller: Caller,
    Path((chat_id, message_id)): Path<(String, String)>,
    JsonBody(mut body): JsonBody,
) -> Result<Json<Box<RawValue>>, Problem> {
    let chat_id = chat_id_of(chat_id)?;
    let message_id = message_id_of(&message_id)?;
    let content = body.content(&gateway.frame_limits)?;
    let based_on_seq = Some(gateway.head_for(&caller.user_id, &chat_id).await?);
    gateway.decide(&caller, 0, Wish::Edit { chat_id: chat_id.clone(), message_id, content, based_on_seq }).await?;
    Ok(Json(gateway.one_message(&caller.user_id, &chat_id, message_id).await?))
}

/// Deletes a message.
#[utoipa::path(delete, path = "/v1/chats/{chat_id}/messages/{message_id}", operation_id = "delete_message", tag = "messages",
    params(("chat_id" = String, Path), ("message_id" = String, Path)),
    responses((status = 200, description = "The event", body = shapes::Deleted)))]
pub(crate) async fn delete(
    State(gateway): Shared,
    caller: Caller,
    Path((chat_id, message_id)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let chat_id = chat_id_of(chat_id)?;
    let message_id = message_id_of(&message_id)?;
    let seq = gateway.decide(&caller, 0, Wish::Delete { chat_id: chat_id.clone(), message_id }).await?;
    Ok(Json(json!({ "chat_id": chat_id, "message_id": message_id, "seq": seq })))
}

/// Marks messages read, up to a seq.
#[utoipa::path(post, path = "/v1/chats/{chat_id}/read", operation_id = "mark_read", tag = "messages",
    params(("chat_id" = String, Path)),
    request_body = shapes::ReadMark,
    responses((status = 202, description = "The mark is on its way", body = shapes::ReadAccepted)))]
pub(crate) async fn mark_read(
    State(gateway): Shared,
    caller: Caller,
    Path(chat_id): Path<String>,
    JsonBody(mut body): JsonBody,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let chat_id = chat_id_of(chat_id)?;
    let seq = body.seq("seq")?;
    let head_seq = gateway.head_for(&caller.user_id, &chat_id).await?;
    let seq = seq.min(head_seq);
    gateway.marks.take(&caller.user_id, Kind::Read, vec![(chat_id.clone(), seq)])?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "chat_id": chat_id, "read_seq": seq, "state": "accepted" }))))
}
