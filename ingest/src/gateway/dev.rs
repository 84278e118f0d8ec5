//! `/v1/dev`: signing in as a demonstration person. Routed only with `development = true`.

use axum::Json;
use axum::extract::State;
use schemas::timestamp;
use schemas::wire::{Code, Rejection};
use serde_json::{Value, json};

use super::caller::JsonBody;
use super::{Problem, Shared, shapes};
use crate::auth;
use crate::users::unavailable;

/// How long a tab's token lasts, in seconds.
const TOKEN_TTL_S: i64 = 3_600;

/// People who can sign in.
#[utoipa::path(get, path = "/v1/dev/users", operation_id = "list_dev_users", tag = "development",
    responses((status = 200, description = "The first 50", body = shapes::DevUserList)))]
pub(crate) async fn users(State(gateway): Shared) -> Result<Json<Value>, Problem> {
    let client = gateway.chat.pool().get().await.map_err(unavailable)?;
    let sql = "SELECT id, name FROM \"user\" WHERE removed_at IS NULL ORDER BY created_at, id LIMIT 50";
    let rows = client.query(sql, &[]).await.map_err(unavailable)?;
    let users: Vec<Value> = rows
        .iter()
        .map(|row| json!({ "user_id": row.get::<_, String>(0), "name": row.get::<_, Option<String>>(1) }))
        .collect();
    Ok(Json(json!({ "users": users })))
}

/// A token for one of them.
#[utoipa::path(post, path = "/v1/dev/token", operation_id = "make_dev_token", tag = "development",
    request_body = shapes::DevTokenRequest,
    responses((status = 200, description = "The token", body = shapes::DevToken)))]
pub(crate) async fn token(State(gateway): Shared, JsonBody(mut body): JsonBody) -> Result<Json<Value>, Problem> {
    let user_id = body.user_or_chat_id("user_id")?;
    let (token, expires_at_ms) = auth::development_token(&gateway.config, &user_id, None, TOKEN_TTL_S)
        .map_err(|error| Rejection::new(Code::Forbidden, error.to_string()))?;
    Ok(Json(json!({ "token": token, "expires_at": timestamp::rfc3339(expires_at_ms) })))
}
