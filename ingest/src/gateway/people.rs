//! `/v1/users`.

use axum::Json;
use axum::extract::State;
use schemas::wire::{Code, Rejection};
use schemas::{ids, timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::caller::{Caller, Query};
use super::{Problem, Shared, shapes};
use crate::users::unavailable;

/// People that one shares a chat with, or people of a mail address.
#[utoipa::path(get, path = "/v1/users", operation_id = "find_users", tag = "people",
    params(("ids" = Option<String>, Query, description = "1 to 200 user ids with commas"),
        ("email" = Option<String>, Query, description = "A whole mail address, instead of ids")),
    responses((status = 200, description = "Those of them that one may see", body = shapes::UserList)))]
pub(crate) async fn list(State(gateway): Shared, caller: Caller, query: Query) -> Result<Json<Value>, Problem> {
    if let Some(email) = query.text("email") {
        return Ok(Json(json!({ "users": gateway.find_by_email(email).await? })));
    }
    let wrong = || Rejection::new(Code::BadField, "ids is 1 to 200 user ids with commas.").at("ids");
    let wanted: Vec<String> = query.text("ids").ok_or_else(wrong)?.split(',').map(str::to_owned).collect();
    if wanted.len() > 200 || !wanted.iter().all(|id| ids::is_valid(id)) {
        return Err(wrong().into());
    }
    Ok(Json(json!({ "users": gateway.users.seen_by(&caller.user_id, &wanted).await? })))
}

/// Oneself.
#[utoipa::path(get, path = "/v1/users/me", operation_id = "get_me", tag = "people",
    responses((status = 200, description = "Oneself", body = shapes::Me)))]
pub(crate) async fn me(State(gateway): Shared, caller: Caller) -> Result<Json<Value>, Problem> {
    let gone = || Rejection::new(Code::UserNotFound, "This person was removed.");
    let (user, email) = gateway.users.own(&caller.user_id).await?.ok_or_else(gone)?;
    Ok(Json(json!({ "user_id": user.user_id, "name": user.name, "avatar_url": user.avatar_url, "email": email })))
}

/// Messages that have reached no device of the caller, oldest first.
#[utoipa::path(get, path = "/v1/users/me/inbox", operation_id = "get_inbox", tag = "people",
    params(("limit" = Option<i64>, Query, description = "1 to 1,000, 100 if absent")),
    responses((status = 200, description = "The oldest of them", body = shapes::Inbox)))]
pub(crate) async fn inbox(State(gateway): Shared, caller: Caller, query: Query) -> Result<Json<Value>, Problem> {
    let limit = query.limit(100, 1_000)?;
    let client = gateway.read_pool.get().await.map_err(unavailable)?;
    let sql = "SELECT chat_id, message_id, sequence_number, created_at FROM inbox
                WHERE user_id = $1 AND NOT is_delivered AND NOT is_deleted ORDER BY created_at, chat_id, sequence_number LIMIT $2";
    let rows = client.query(sql, &[&caller.user_id, &limit]).await.map_err(unavailable)?;
    let messages: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "chat_id": row.get::<_, String>(0), "message_id": row.get::<_, Uuid>(1), "seq": row.get::<_, i64>(2),
                "created_at": timestamp::rfc3339(timestamp::from_offset(row.get(3))),
            })
        })
        .collect();
    Ok(Json(json!({ "messages": messages })))
}
