//! People as services see to them: `PUT` and `DELETE /v1/users/{user_id}`, `POST /v1/users/{user_id}/revoke`.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemas::ids;
use schemas::wire::client::Fields;
use schemas::wire::{Code, Rejection};
use serde_json::{Value, json};

use super::caller::{JsonBody, ServiceCaller};
use super::{Problem, Shared, shapes};
use crate::auth::Scope;
use crate::profiles::{self, Profile, Put};
use crate::removal;

/// How long a removal is waited for; what is left is done without anybody waiting.
const REMOVAL: Duration = Duration::from_secs(10);

/// Makes a person, or replaces their profile. For services with `users:write`.
#[utoipa::path(put, path = "/v1/users/{user_id}", operation_id = "put_user", tag = "services",
    params(("user_id" = String, Path)),
    request_body = shapes::Profile, responses((status = 201, description = "A new person", body = shapes::Me),
        (status = 200, description = "One who was there", body = shapes::Me)))]
pub(crate) async fn put(
    State(gateway): Shared,
    service: ServiceCaller,
    Path(user_id): Path<String>,
    JsonBody(mut body): JsonBody,
) -> Result<(StatusCode, Json<Value>), Problem> {
    service.need(Scope::UsersWrite)?;
    let user_id = user_id_of(user_id)?;
    let profile = profile_of(&mut body)?;
    let status = match profiles::put(gateway.chat.pool(), &user_id, &profile).await? {
        Put::Made => StatusCode::CREATED,
        Put::Replaced => StatusCode::OK,
    };
    let Profile { name, email, avatar_url } = profile;
    Ok((status, Json(json!({ "user_id": user_id, "name": name, "avatar_url": avatar_url, "email": email }))))
}

/// Removes a person: profile, sessions and memberships. For services with `users:remove`.
#[utoipa::path(delete, path = "/v1/users/{user_id}", operation_id = "remove_user", tag = "services",
    params(("user_id" = String, Path)),
    responses((status = 200, description = "All is done", body = shapes::UserState),
        (status = 202, description = "Memberships are still being ended", body = shapes::UserState)))]
pub(crate) async fn remove(
    State(gateway): Shared,
    service: ServiceCaller,
    Path(user_id): Path<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    service.need(Scope::UsersRemove)?;
    let user_id = user_id_of(user_id)?;
    removal::begin(gateway.chat.pool(), &user_id).await?;
    gateway.herald.tell(gateway.users.standings()).await;
    let ending = tokio::time::timeout(REMOVAL, removal::end_memberships(&gateway.chat, &user_id)).await;
    let (status, state) = match ending {
        Ok(Ok(_)) => (StatusCode::OK, "removed"),
        Ok(Err(rejection)) => {
            tracing::warn!(reason = %rejection, "some memberships of a removed person are ended later");
            (StatusCode::ACCEPTED, "removing")
        }
        Err(_) => (StatusCode::ACCEPTED, "removing"),
    };
    Ok((status, Json(json!({ "user_id": user_id, "state": state }))))
}

/// Refuses a person's tokens so far and closes their connections. For services with `users:revoke`.
#[utoipa::path(post, path = "/v1/users/{user_id}/revoke", operation_id = "revoke_user", tag = "services",
    params(("user_id" = String, Path)),
    responses((status = 200, description = "They are refused", body = shapes::UserState)))]
pub(crate) async fn revoke(
    State(gateway): Shared,
    service: ServiceCaller,
    Path(user_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    service.need(Scope::UsersRevoke)?;
    let user_id = user_id_of(user_id)?;
    removal::revoke(gateway.chat.pool(), &user_id).await?;
    gateway.herald.tell(gateway.users.standings()).await;
    Ok(Json(json!({ "user_id": user_id, "state": "revoked" })))
}

fn user_id_of(text: String) -> Result<String, Rejection> {
    if ids::is_valid(&text) && !ids::is_reserved(&text) {
        return Ok(text);
    }
    let rule = "user_id is 1 to 64 of A-Z a-z 0-9 . _ : - and doesn't begin with waltalkie:";
    Err(Rejection::new(Code::BadField, rule).at("user_id"))
}

/// The whole profile: what is absent or null is empty afterwards.
fn profile_of(body: &mut Fields) -> Result<Profile, Rejection> {
    let mut text = |field: &str, most: usize| match body.optional_line(field)? {
        Some(text) if text.trim().is_empty() || text.chars().count() > most => {
            Err(Rejection::new(Code::BadField, format!("{field} is a text of 1 to {most} characters.")).at(field))
        }
        text => Ok(text),
    };
    let profile =
        Profile { name: text("name", 200)?, email: text("email", 254)?, avatar_url: text("avatar_url", 2_000)? };
    if profile.avatar_url.as_deref().is_some_and(|url| !url.starts_with("https://")) {
        return Err(Rejection::new(Code::BadField, "avatar_url begins with https://").at("avatar_url"));
    }
    if profile.email.as_deref().is_some_and(|email| !email.contains('@')) {
        return Err(Rejection::new(Code::BadField, "email is a mail address.").at("email"));
    }
    Ok(profile)
}
