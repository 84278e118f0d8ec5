//! `PATCH /v1/users/me`: one's own name and picture. Each change is a row of `user_change`, and so a record on
//! `chat.users`.

use axum::Json;
use axum::extract::State;
use schemas::wire::{Code, Rejection};
use serde::Deserialize;
use utoipa::ToSchema;

use super::caller::{Caller, JsonBody};
use super::shapes::Me;
use super::{Problem, Shared};
use crate::users::unavailable;

/// What to change of oneself; what is absent or null stays as it is.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "read by the document's generator")]
pub(crate) struct ProfileChanges {
    /// An empty text takes it away.
    #[schema(max_length = 200)]
    name: Option<String>,
    /// Begins with `https://`; an empty text takes it away.
    #[schema(max_length = 2000)]
    avatar_url: Option<String>,
}

/// Changes one's name or picture.
#[utoipa::path(patch, path = "/v1/users/me", operation_id = "update_me", tag = "people",
    request_body = ProfileChanges,
    responses((status = 200, description = "Oneself", body = Me)))]
pub(crate) async fn update(
    State(gateway): Shared,
    caller: Caller,
    JsonBody(mut body): JsonBody,
) -> Result<Json<Me>, Problem> {
    let mut text = |field: &str, most: usize| match body.optional_text(field)? {
        Some(text) if text.chars().count() > most || (!text.is_empty() && text.trim().is_empty()) => {
            let rule = format!("{field} is a text of at most {most} characters; an empty one takes it away.");
            Err(Rejection::new(Code::BadField, rule).at(field))
        }
        text => Ok(text),
    };
    let (name, avatar_url) = (text("name", 200)?, text("avatar_url", 2_000)?);
    if avatar_url.as_deref().is_some_and(|url| !url.is_empty() && !url.starts_with("https://")) {
        return Err(Rejection::new(Code::BadField, "avatar_url begins with https://").at("avatar_url").into());
    }
    let mut client = gateway.chat.pool().get().await.map_err(unavailable)?;
    let transaction = client.transaction().await.map_err(unavailable)?;
    let sql = "SELECT name, avatar_url, email FROM \"user\" WHERE id = $1 AND removed_at IS NULL FOR UPDATE";
    let gone = || Rejection::new(Code::UserNotFound, "This person was removed.");
    let row = transaction.query_opt(sql, &[&caller.user_id]).await.map_err(unavailable)?.ok_or_else(gone)?;
    let changed = |wanted: Option<String>, old: Option<String>| match wanted {
        None => old,
        Some(text) => Some(text).filter(|text| !text.is_empty()),
    };
    let old: (Option<String>, Option<String>) = (row.get(0), row.get(1));
    let new = (changed(name, old.0.clone()), changed(avatar_url, old.1.clone()));
    if new != old {
        let sql = "WITH changed AS (
                       UPDATE \"user\" SET name = $2, avatar_url = $3, updated_at = clock_timestamp() WHERE id = $1
                       RETURNING id, name, email, avatar_url, updated_at)
                   INSERT INTO user_change (user_id, version, name, email, avatar_url, is_removed, changed_at)
                   SELECT id, (SELECT coalesce(max(c.version), 0) + 1 FROM user_change c WHERE c.user_id = $1),
                          name, email, avatar_url, false, updated_at FROM changed";
        transaction.execute(sql, &[&caller.user_id, &new.0, &new.1]).await.map_err(unavailable)?;
        transaction.commit().await.map_err(unavailable)?;
    }
    Ok(Json(Me { user_id: caller.user_id, name: new.0, avatar_url: new.1, email: row.get(2) }))
}
