//! `PATCH /v1/users/me`: one's own name and picture.

use axum::Json;
use axum::extract::State;
use schemas::wire::{Code, Rejection};
use serde::Deserialize;
use utoipa::ToSchema;

use super::caller::{Caller, JsonBody};
use super::shapes::Me;
use super::{Problem, Shared};
use crate::profiles::{self, Profile};

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
    let mut text = |field: &str, most: usize| match body.optional_line(field)? {
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
    let profile = profiles::change(gateway.chat.pool(), &caller.user_id, name, avatar_url).await?;
    let Profile { name, email, avatar_url } = profile;
    Ok(Json(Me { user_id: caller.user_id, name, avatar_url, email }))
}
