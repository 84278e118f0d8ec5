//! `/v1/chats` and `/v1/chats/{chat_id}`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use schemas::wire::client::Fields;
use schemas::wire::{Code, Rejection};
use schemas::{ChatSettings, CommandMember, ids};
use serde::Serialize;
use serde_json::value::RawValue;

use super::caller::{Caller, JsonBody, ListBody, Query, chat_id_of, wrong_cursor};
use super::chat_list::{After, ChatSummary};
use super::history::written;
use super::idempotency::Operation;
use super::{Gateway, Problem, Shared, shapes};
use crate::chat_service::Wish;
use crate::persister::MAX_MEMBERS;
use crate::users::unavailable;

/// Most people in one request; it becomes commands of at most 500.
const MOST_PEOPLE: usize = 10_000;

/// One's chats, by latest activity.
#[utoipa::path(get, path = "/v1/chats", operation_id = "list_chats", tag = "chats",
    params(("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if absent")),
    responses((status = 200, description = "A page", body = shapes::ChatPage)))]
pub(crate) async fn list(State(gateway): Shared, caller: Caller, query: Query) -> Result<Json<Page>, Problem> {
    let limit = query.limit(50, 200)?;
    let after = query.text("cursor").map(read_cursor).transpose()?;
    let chats = gateway.chats_of(&caller.user_id, None, after, limit).await?;
    let next_cursor = chats
        .last()
        .filter(|_| chats.len() as i64 == limit)
        .map(|last| format!("{}_{}", last.last_activity_at * 1_000, last.chat_id));
    Ok(Json(Page { chats, next_cursor }))
}

/// `ChatPage` of the document.
#[derive(Serialize)]
pub(crate) struct Page {
    chats: Vec<ChatSummary>,
    next_cursor: Option<String>,
}

fn read_cursor(text: &str) -> Result<(i64, String), Rejection> {
    let parsed: After = text.split_once('_').and_then(|(at_us, id)| Some((at_us.parse().ok()?, id.to_owned())));
    parsed.filter(|(at_us, id)| *at_us >= 0 && ids::is_valid(id)).ok_or_else(wrong_cursor)
}

/// One chat.
#[utoipa::path(get, path = "/v1/chats/{chat_id}", operation_id = "get_chat", tag = "chats",
    params(("chat_id" = String, Path)),
    responses((status = 200, description = "The chat", body = shapes::ShownChat)))]
pub(crate) async fn show(
    State(gateway): Shared,
    caller: Caller,
    Path(chat_id): Path<String>,
) -> Result<Json<Box<RawValue>>, Problem> {
    Ok(Json(gateway.one_chat(&caller.user_id, &chat_id_of(chat_id)?).await?))
}

/// Makes a chat.
#[utoipa::path(post, path = "/v1/chats", operation_id = "create_chat", tag = "chats",
    request_body = shapes::NewChat,
    responses((status = 201, description = "The chat", body = ChatSummary),
        (status = 200, description = "The 1:1 chat that was there", body = ChatSummary)))]
pub(crate) async fn create(
    State(gateway): Shared,
    caller: Caller,
    operation: Option<Extension<Operation>>,
    ListBody(mut body): ListBody,
) -> Result<(StatusCode, Json<Box<RawValue>>), Problem> {
    let is_group = body.optional_bool("is_group")?.unwrap_or(true);
    let mut people = body.ids("member_ids", MOST_PEOPLE)?;
    people.retain(|user_id| *user_id != caller.user_id);
    people.sort_unstable();
    people.dedup();
    let wanted_id = match body.optional_text("chat_id")? {
        None => None,
        Some(id) if ids::is_valid(&id) => Some(id),
        Some(_) => {
            return Err(Rejection::new(Code::BadField, "chat_id is 1 to 64 of A-Z a-z 0-9 . _ : -")
                .at("chat_id")
                .into());
        }
    };
    let mut settings = settings_of(&mut body, &gateway)?;
    settings.is_group = Some(is_group);
    let operation = operation.map(|Extension(operation)| operation.id.to_string());
    let chat_id = if is_group {
        // Whoever made a group under the id of two people's 1:1 chat would keep them from ever having one.
        if caller.service.is_none() && wanted_id.as_deref().is_some_and(ids::is_one_to_one) {
            let rule = "A UUID of version 5 is the id of a 1:1 chat: take another one, or leave it out.";
            return Err(Rejection::new(Code::BadField, rule).at("chat_id").into());
        }
        wanted_id.or_else(|| operation.clone()).unwrap_or_else(ids::new_id)
    } else {
        let [other] = people.as_slice() else {
            let rule = "A 1:1 chat has exactly one other member; set is_group for more.";
            return Err(Rejection::new(Code::BadField, rule).at("member_ids").into());
        };
        let derived = ids::one_to_one_chat(&caller.user_id, other);
        if wanted_id.is_some_and(|id| id != derived) {
            let rule = "The id of a 1:1 chat follows from its two people: leave it out.";
            return Err(Rejection::new(Code::BadField, rule).at("chat_id").into());
        }
        derived
    };
    let already = if is_group { None } else { gateway.one_chat(&caller.user_id, &chat_id).await.ok() };
    // Before anybody is looked up: who may start no chats isn't told by it who is there.
    if already.is_none() {
        gateway.check_may_start(&caller)?;
    }
    gateway.check_company(&caller, &people, "member_ids").await?;
    if let Some(chat) = already {
        return Ok((StatusCode::OK, Json(chat)));
    }
    // The creator is one of the first command's people.
    let (first, rest) = people.split_at(people.len().min(MAX_MEMBERS - 1));
    let mut rest = rest.to_vec();
    let wish = Wish::CreateChat { chat_id: chat_id.clone(), settings, members: members_of(first, None) };
    if let Err(refused) = gateway.decide(&caller, 0, wish).await {
        let is_there = refused.code == Code::ChatExists;
        let Some(operation) = operation.filter(|_| is_there) else { return Err(refused.into()) };
        if !gateway.is_made_by(&operation, &caller.user_id, &chat_id).await? {
            return Err(refused.into());
        }
        // The request came before and was given up: its chat is there, and what may be missing comes now. Whoever was in it
        // already isn't missing, but removed.
        gateway.one_chat(&caller.user_id, &chat_id).await?;
        rest = gateway.unchanged_since(&chat_id, &rest, 0).await?;
    }
    for (number, more) in rest.chunks(MAX_MEMBERS).enumerate() {
        // Based on the chat as it was made, so that one that is late undoes nothing.
        let based_on_seq = Some(1);
        let wish = Wish::AddMembers { chat_id: chat_id.clone(), members: members_of(more, None), based_on_seq };
        gateway.decide(&caller, number as i64 + 1, wish).await?;
    }
    Ok((StatusCode::CREATED, Json(gateway.one_chat(&caller.user_id, &chat_id).await?)))
}

/// Changes a chat's settings.
#[utoipa::path(patch, path = "/v1/chats/{chat_id}", operation_id = "update_chat", tag = "chats",
    params(("chat_id" = String, Path)),
    request_body = shapes::ChatChanges,
    responses((status = 200, description = "The chat", body = shapes::ShownChat)))]
pub(crate) async fn update(
    State(gateway): Shared,
    caller: Caller,
    Path(chat_id): Path<String>,
    JsonBody(mut body): JsonBody,
) -> Result<Json<Box<RawValue>>, Problem> {
    let chat_id = chat_id_of(chat_id)?;
    let settings = settings_of(&mut body, &gateway)?;
    let based_on_seq = Some(gateway.head_for(&caller.user_id, &chat_id).await?);
    gateway.decide(&caller, 0, Wish::UpdateChat { chat_id: chat_id.clone(), settings, based_on_seq }).await?;
    Ok(Json(gateway.one_chat(&caller.user_id, &chat_id).await?))
}

pub(super) fn settings_of(body: &mut Fields, gateway: &Gateway) -> Result<ChatSettings, Rejection> {
    let short = |field: &str, text: Option<String>, most: usize| match text {
        Some(text) if text.trim().is_empty() || text.chars().count() > most => {
            Err(Rejection::new(Code::BadField, format!("{field} is a text of 1 to {most} characters.")).at(field))
        }
        text => Ok(text),
    };
    let chat_name = short("name", body.optional_line("name")?, 200)?;
    let avatar_url = short("avatar_url", body.optional_line("avatar_url")?, 2_000)?;
    if avatar_url.as_deref().is_some_and(|url| !url.starts_with("https://")) {
        return Err(Rejection::new(Code::BadField, "avatar_url begins with https://").at("avatar_url"));
    }
    let deleted_shown_as = body.optional_text("deleted_shown_as")?;
    if deleted_shown_as.as_deref().is_some_and(|shown_as| !["tombstone", "hidden"].contains(&shown_as)) {
        return Err(Rejection::new(Code::BadField, "deleted_shown_as is tombstone or hidden.").at("deleted_shown_as"));
    }
    Ok(ChatSettings {
        is_group: None,
        chat_name,
        app_data: body.app_data(&gateway.frame_limits)?,
        avatar_url,
        deleted_shown_as,
        history_for_new_members: body.optional_bool("history_for_new_members")?,
    })
}

/// People as a command names them.
pub(crate) fn members_of(user_ids: &[String], role: Option<&str>) -> Vec<CommandMember> {
    user_ids
        .iter()
        .map(|user_id| CommandMember { user_id: user_id.clone(), member_role: role.map(str::to_owned) })
        .collect()
}

impl Gateway {
    /// Submits a command and waits until it is decided. `number`: which of the request's commands it is, from 0.
    pub(crate) async fn decide(&self, caller: &Caller, number: i64, wish: Wish) -> Result<Option<i64>, Rejection> {
        let asker = caller.asker_of(number);
        let submitted = match number {
            0 => self.chat.submit(&asker, wish, false).await?,
            _ => self.chat.submit_further(&asker, wish, false).await?,
        };
        submitted.accepted.await?;
        submitted.decided.await
    }

    /// One chat of a person, as JSON; the same refusal whether it isn't there or isn't theirs.
    pub(crate) async fn one_chat(&self, user_id: &str, chat_id: &str) -> Result<Box<RawValue>, Rejection> {
        if user_id == ids::SYSTEM {
            return self.any_chat(chat_id).await;
        }
        let chats = self.chats_of(user_id, Some(chat_id), None, 1).await?;
        let chat = chats.into_iter().next().ok_or_else(Rejection::chat_not_found)?;
        Ok(written(&chat))
    }

    /// Whether an operation of this person made the chat. Its settings or the maker's stay tell, until both were changed.
    async fn is_made_by(&self, operation: &str, user_id: &str, chat_id: &str) -> Result<bool, Rejection> {
        if operation == chat_id {
            return Ok(true);
        }
        let client = self.chat.pool().get().await.map_err(unavailable)?;
        let sql = "SELECT EXISTS (SELECT 1 FROM chat WHERE id = $1 AND changed_session = $2)
                       OR EXISTS (SELECT 1 FROM chat_member WHERE chat_id = $1 AND user_id = $3 AND joined_seq = 1
                                                              AND changed_session = $2)";
        let row = client.query_one(sql, &[&chat_id, &operation, &user_id]).await.map_err(unavailable)?;
        Ok(row.get(0))
    }

    /// Those of some people whose place in a chat hasn't changed after a `seq`; after 0, who never had one.
    pub(super) async fn unchanged_since(
        &self,
        chat_id: &str,
        user_ids: &[String],
        seq: i64,
    ) -> Result<Vec<String>, Rejection> {
        let client = self.chat.pool().get().await.map_err(unavailable)?;
        let sql = "SELECT asked.user_id FROM unnest($2::text[]) AS asked(user_id)
                    WHERE NOT EXISTS (SELECT 1 FROM chat_member m
                                       WHERE m.chat_id = $1 AND m.user_id = asked.user_id AND m.changed_seq > $3)";
        let rows = client.query(sql, &[&chat_id, &user_ids, &seq]).await.map_err(unavailable)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Refuses people who don't exist.
    pub(crate) async fn check_people(&self, user_ids: &[String], field: &str) -> Result<(), Rejection> {
        let existing = self.users.existing(user_ids).await?;
        match user_ids.iter().find(|user_id| !existing.contains(*user_id)) {
            None => Ok(()),
            Some(unknown) => Err(Rejection::user_not_found(unknown).at(field)),
        }
    }
}
