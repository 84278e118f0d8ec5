//! `/v1/chats/{chat_id}/members`.

use std::collections::HashMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use schemas::ids;
use schemas::wire::{Code, Rejection};
use serde_json::{Value, json};

use super::caller::{Caller, JsonBody, ListBody, Query, chat_id_of, wrong_cursor};
use super::chats::members_of;
use super::idempotency::Operation;
use super::{Gateway, Problem, Shared, shapes};
use crate::chat_service::Wish;
use crate::persister::MAX_MEMBERS;
use crate::persister::roles::Role;
use crate::users::unavailable;

/// Members, by id.
#[utoipa::path(get, path = "/v1/chats/{chat_id}/members", operation_id = "list_members", tag = "members",
    params(("chat_id" = String, Path),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<i64>, Query, description = "1 to 1,000, 100 if absent")),
    responses((status = 200, description = "A page", body = shapes::MemberPage)))]
pub(crate) async fn list(
    State(gateway): Shared,
    caller: Caller,
    Path(chat_id): Path<String>,
    query: Query,
) -> Result<Json<Value>, Problem> {
    let chat_id = chat_id_of(chat_id)?;
    let limit = query.limit(100, 1_000)?;
    let after = query.text("cursor").unwrap_or_default();
    if !after.is_empty() && !ids::is_valid(after) {
        return Err(wrong_cursor().into());
    }
    gateway.head_for(&caller.user_id, &chat_id).await?;
    let client = gateway.chat.pool().get().await.map_err(unavailable)?;
    let sql = "SELECT m.user_id, m.role, m.joined_seq, m.visible_from_seq, u.name, u.avatar_url
                 FROM chat_member m LEFT JOIN \"user\" u ON u.id = m.user_id
                WHERE m.chat_id = $1 AND m.left_seq IS NULL AND m.user_id > $2 ORDER BY m.user_id LIMIT $3";
    let rows = client.query(sql, &[&chat_id, &after, &limit]).await.map_err(unavailable)?;
    drop(client);
    let ids: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    let reader = gateway.read_pool.get().await.map_err(unavailable)?;
    let sql = "SELECT user_id, delivered_seq, read_seq FROM chat_cursor WHERE chat_id = $1 AND user_id = ANY($2)";
    let cursors = reader.query(sql, &[&chat_id, &ids]).await.map_err(unavailable)?;
    let cursors: HashMap<String, (i64, i64)> =
        cursors.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    let members: Vec<Value> = rows
        .iter()
        .map(|row| {
            let (delivered_seq, read_seq) = cursors.get(row.get::<_, &str>(0)).copied().unwrap_or_default();
            json!({
                "user_id": row.get::<_, String>(0), "role": row.get::<_, String>(1),
                "delivered_seq": delivered_seq, "read_seq": read_seq,
                "joined_seq": row.get::<_, i64>(2), "left_seq": null, "visible_from_seq": row.get::<_, i64>(3),
                "name": row.get::<_, Option<String>>(4), "avatar_url": row.get::<_, Option<String>>(5),
            })
        })
        .collect();
    let next_cursor = members.last().filter(|_| members.len() as i64 == limit).map(|last| last["user_id"].clone());
    Ok(Json(json!({ "members": members, "next_cursor": next_cursor })))
}

/// Adds people.
#[utoipa::path(post, path = "/v1/chats/{chat_id}/members", operation_id = "add_members", tag = "members",
    params(("chat_id" = String, Path)),
    request_body = shapes::NewMembers,
    responses((status = 201, description = "Their events", body = shapes::MembersAdded)))]
pub(crate) async fn add(
    State(gateway): Shared,
    caller: Caller,
    Path(chat_id): Path<String>,
    operation: Option<Extension<Operation>>,
    ListBody(mut body): ListBody,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let chat_id = chat_id_of(chat_id)?;
    let mut people = body.ids("user_ids", 10_000)?;
    people.sort_unstable();
    people.dedup();
    if people.is_empty() {
        return Err(Rejection::new(Code::MissingField, "user_ids names at least one person.").at("user_ids").into());
    }
    let role = role_of(body.optional_text("role")?)?;
    let head = gateway.head_for(&caller.user_id, &chat_id).await?;
    // What comes again is based on what it was at first: whoever was removed meanwhile stays out.
    let based_on_seq = operation.and_then(|Extension(operation)| operation.based_on_seq).or(Some(head));
    gateway.check_company(&caller, &people, "user_ids").await?;
    if people.len() > MAX_MEMBERS {
        // Of several commands one that names somebody who was changed since would stop those after it.
        people = gateway.unchanged_since(&chat_id, &people, based_on_seq.unwrap_or(head)).await?;
    }
    let mut seqs = Vec::new();
    for (number, some) in people.chunks(MAX_MEMBERS).enumerate() {
        let members = members_of(some, role.map(Role::name));
        let wish = Wish::AddMembers { chat_id: chat_id.clone(), members, based_on_seq };
        seqs.extend(gateway.decide(&caller, number as i64, wish).await?);
    }
    Ok((StatusCode::CREATED, Json(json!({ "chat_id": chat_id, "seqs": seqs }))))
}

/// Gives a member another role.
#[utoipa::path(patch, path = "/v1/chats/{chat_id}/members/{user_id}", operation_id = "update_member", tag = "members",
    params(("chat_id" = String, Path), ("user_id" = String, Path)),
    request_body = shapes::RoleChange,
    responses((status = 200, description = "The event", body = shapes::Changed)))]
pub(crate) async fn update(
    State(gateway): Shared,
    caller: Caller,
    Path((chat_id, user_id)): Path<(String, String)>,
    JsonBody(mut body): JsonBody,
) -> Result<Json<Value>, Problem> {
    let chat_id = chat_id_of(chat_id)?;
    let role = role_of(Some(body.text("role")?))?;
    let based_on_seq = Some(gateway.head_for(&caller.user_id, &chat_id).await?);
    let members = members_of(&[user_id_of(user_id)?], role.map(Role::name));
    let seq =
        gateway.decide(&caller, 0, Wish::UpdateMembers { chat_id: chat_id.clone(), members, based_on_seq }).await?;
    Ok(Json(json!({ "chat_id": chat_id, "seq": seq })))
}

/// Removes a member; `me` leaves.
#[utoipa::path(delete, path = "/v1/chats/{chat_id}/members/{user_id}", operation_id = "remove_member", tag = "members",
    params(("chat_id" = String, Path), ("user_id" = String, Path)),
    responses((status = 200, description = "The event", body = shapes::Changed)))]
pub(crate) async fn remove(
    State(gateway): Shared,
    caller: Caller,
    Path((chat_id, user_id)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let chat_id = chat_id_of(chat_id)?;
    let user_id = if user_id == "me" { caller.user_id.clone() } else { user_id };
    let based_on_seq = Some(gateway.head_for(&caller.user_id, &chat_id).await?);
    let members = members_of(&[user_id_of(user_id)?], None);
    let seq =
        gateway.decide(&caller, 0, Wish::RemoveMembers { chat_id: chat_id.clone(), members, based_on_seq }).await?;
    Ok(Json(json!({ "chat_id": chat_id, "seq": seq })))
}

/// A member's id in a path. One that can't be an id is nobody's.
fn user_id_of(text: String) -> Result<String, Rejection> {
    if ids::is_valid(&text) {
        return Ok(text);
    }
    Err(Rejection::new(Code::UserNotFound, "There is no such member.").at("user_id"))
}

fn role_of(name: Option<String>) -> Result<Option<Role>, Rejection> {
    let Some(name) = name else { return Ok(None) };
    let wrong = || Rejection::new(Code::BadField, "role is owner, admin or member.").at("role");
    Role::parse(&name).map(Some).ok_or_else(wrong)
}

impl Gateway {
    /// The chat's head, for a member; the same refusal whether it isn't there or isn't theirs.
    pub(crate) async fn head_for(&self, user_id: &str, chat_id: &str) -> Result<i64, Rejection> {
        let client = self.chat.pool().get().await.map_err(unavailable)?;
        let sql = "SELECT n.last_seq FROM chat_counter n
                    WHERE n.chat_id = $1 AND (n.last_seq > 0 AND $2 = 'waltalkie:system' OR EXISTS (
                          SELECT 1 FROM chat_member m
                           WHERE m.chat_id = n.chat_id AND m.user_id = $2 AND m.left_seq IS NULL))";
        let statement = client.prepare_cached(sql).await.map_err(unavailable)?;
        let row = client.query_opt(&statement, &[&chat_id, &user_id]).await.map_err(unavailable)?;
        row.map(|row| row.get(0)).ok_or_else(Rejection::chat_not_found)
    }
}
