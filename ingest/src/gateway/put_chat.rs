//! `PUT /v1/chats/{chat_id}`: a chat as a service wants it. Made if it isn't there; settings that are named are given,
//! people who are named are in it with the role that is named, and nobody else is touched. The same again changes nothing.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemas::wire::client::Fields;
use schemas::wire::{Code, Rejection};
use schemas::{CommandMember, ids, timestamp};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::caller::{Caller, ListBody, ServiceCaller, chat_id_of};
use super::chats::settings_of;
use super::history::written;
use super::{Gateway, Problem, Shared, shapes};
use crate::auth::Scope;
use crate::chat_service::Wish;
use crate::persister::MAX_MEMBERS;
use crate::persister::roles::Role;
use crate::users::unavailable;

/// Most people in one request.
const MOST_PEOPLE: usize = 10_000;

/// A person whom a request names.
struct Wanted {
    user_id: String,
    /// `None` leaves the role of one who is in, and makes others members.
    role: Option<Role>,
}

/// A chat as it shall be: made if it isn't there; nobody is taken out. For services with `chats:write`.
#[utoipa::path(put, path = "/v1/chats/{chat_id}", operation_id = "put_chat", tag = "services",
    params(("chat_id" = String, Path)),
    request_body = shapes::WantedChat, responses((status = 201, description = "A new chat", body = shapes::ServiceChat),
        (status = 200, description = "One that was there", body = shapes::ServiceChat)))]
pub(crate) async fn put(
    State(gateway): Shared,
    service: ServiceCaller,
    Path(chat_id): Path<String>,
    ListBody(mut body): ListBody,
) -> Result<(StatusCode, Json<Box<RawValue>>), Problem> {
    service.need(Scope::ChatsWrite)?;
    let chat_id = chat_id_of(chat_id)
        .map_err(|_| Rejection::new(Code::BadField, "chat_id is 1 to 64 of A-Z a-z 0-9 . _ : -").at("chat_id"))?;
    let system = service.system();
    let is_group = body.optional_bool("is_group")?;
    let people = wanted(&mut body)?;
    let settings = settings_of(&mut body, &gateway)?;
    let ids: Vec<String> = people.iter().map(|wanted| wanted.user_id.clone()).collect();
    gateway.check_people(&ids, "members").await?;
    let found = gateway.kind_of(&chat_id).await?;
    if let Some(found) = found {
        if is_group.is_some_and(|wished| wished != found) {
            return Err(Rejection::new(Code::BadField, "is_group can't be changed.").at("is_group").into());
        }
        let based_on_seq = Some(gateway.head_for(&system.user_id, &chat_id).await?);
        if settings != schemas::ChatSettings::default() {
            gateway.decide(&system, 0, Wish::UpdateChat { chat_id: chat_id.clone(), settings, based_on_seq }).await?;
        }
    } else {
        let is_group = is_group.unwrap_or(true);
        check_first_members(&chat_id, is_group, &people)?;
        let first = people.iter().take(MAX_MEMBERS).map(Wanted::as_member).collect();
        let settings = schemas::ChatSettings { is_group: Some(is_group), ..settings };
        gateway.decide(&system, 0, Wish::CreateChat { chat_id: chat_id.clone(), settings, members: first }).await?;
    }
    gateway.bring_in(&system, &chat_id, &people).await?;
    let status = if found.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(gateway.any_chat(&chat_id).await?)))
}

fn wanted(body: &mut Fields) -> Result<Vec<Wanted>, Rejection> {
    let wrong = |rule: String| Rejection::new(Code::BadField, rule).at("members");
    let Some(value) = body.optional("members") else { return Ok(Vec::new()) };
    let Value::Array(items) = value else { return Err(wrong("members is a list of {user_id, role?}.".into())) };
    if items.len() > MOST_PEOPLE {
        return Err(wrong(format!("members is a list of at most {MOST_PEOPLE} people.")));
    }
    let mut people: HashMap<String, Option<Role>> = HashMap::new();
    for item in items {
        let Value::Object(object) = item else { return Err(wrong("members is a list of {user_id, role?}.".into())) };
        let mut fields = Fields::of(object, "members.");
        let user_id = fields.user_or_chat_id("user_id")?;
        let role = match fields.optional_text("role")? {
            None => None,
            Some(name) => Some(Role::parse(&name).ok_or_else(|| wrong("role is owner, admin or member.".into()))?),
        };
        if people.insert(user_id, role).is_some() {
            return Err(wrong("members names somebody twice.".into()));
        }
    }
    let mut people: Vec<Wanted> = people.into_iter().map(|(user_id, role)| Wanted { user_id, role }).collect();
    // Owners first: the first command of a new chat has to have one.
    people.sort_unstable_by(|a, b| b.role.cmp(&a.role).then_with(|| a.user_id.cmp(&b.user_id)));
    Ok(people)
}

fn check_first_members(chat_id: &str, is_group: bool, people: &[Wanted]) -> Result<(), Rejection> {
    if is_group {
        let has_owner = people.first().is_none_or(|first| first.role == Some(Role::Owner));
        let rule = "A group with members has at least one owner among them.";
        return if has_owner { Ok(()) } else { Err(Rejection::new(Code::BadField, rule).at("members")) };
    }
    let [one, other] = people else {
        return Err(Rejection::new(Code::BadField, "A 1:1 chat has exactly two members.").at("members"));
    };
    let derived = ids::one_to_one_chat(&one.user_id, &other.user_id);
    if derived == chat_id {
        return Ok(());
    }
    Err(Rejection::new(Code::BadField, format!("The id of these two people's 1:1 chat is {derived}.")).at("chat_id"))
}

impl Wanted {
    fn as_member(&self) -> CommandMember {
        CommandMember { user_id: self.user_id.clone(), member_role: self.role.map(|role| role.name().to_owned()) }
    }
}

impl Gateway {
    /// Adds who isn't in, and gives roles to who is.
    async fn bring_in(&self, system: &Caller, chat_id: &str, people: &[Wanted]) -> Result<(), Rejection> {
        let head = Some(self.head_for(&system.user_id, chat_id).await?);
        let roles = self.roles_of(chat_id, people).await?;
        let is_new = |wanted: &&Wanted| !roles.contains_key(&wanted.user_id);
        let is_other = |wanted: &&Wanted| {
            roles.get(&wanted.user_id).is_some_and(|own| wanted.role.is_some_and(|role| role.name() != own))
        };
        let added: Vec<CommandMember> = people.iter().filter(is_new).map(Wanted::as_member).collect();
        let changed: Vec<CommandMember> = people.iter().filter(is_other).map(Wanted::as_member).collect();
        let chunks = |people: Vec<CommandMember>| -> Vec<Vec<CommandMember>> {
            people.chunks(MAX_MEMBERS).map(<[CommandMember]>::to_vec).collect()
        };
        let chat_id = chat_id.to_owned();
        let adding = chunks(added).into_iter().map(|members| Wish::AddMembers {
            chat_id: chat_id.clone(),
            members,
            based_on_seq: head,
        });
        let changing = chunks(changed).into_iter().map(|members| Wish::UpdateMembers {
            chat_id: chat_id.clone(),
            members,
            based_on_seq: head,
        });
        for (number, wish) in adding.chain(changing).enumerate() {
            // The chat itself was the request's first command.
            self.decide(system, number as i64 + 1, wish).await?;
        }
        Ok(())
    }

    async fn roles_of(&self, chat_id: &str, people: &[Wanted]) -> Result<HashMap<String, String>, Rejection> {
        let client = self.chat.pool().get().await.map_err(unavailable)?;
        let ids: Vec<&str> = people.iter().map(|wanted| wanted.user_id.as_str()).collect();
        let sql = "SELECT user_id, role FROM chat_member WHERE chat_id = $1 AND user_id = ANY($2) AND left_seq IS NULL";
        let rows = client.query(sql, &[&chat_id, &ids]).await.map_err(unavailable)?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Whether a chat is a group; `None` if it isn't there.
    async fn kind_of(&self, chat_id: &str) -> Result<Option<bool>, Rejection> {
        let client = self.chat.pool().get().await.map_err(unavailable)?;
        let row =
            client.query_opt("SELECT is_group FROM chat WHERE id = $1", &[&chat_id]).await.map_err(unavailable)?;
        Ok(row.map(|row| row.get(0)))
    }

    /// A chat as a service sees it: without what belongs to a member.
    pub(crate) async fn any_chat(&self, chat_id: &str) -> Result<Box<RawValue>, Rejection> {
        let client = self.chat.pool().get().await.map_err(unavailable)?;
        let sql = "SELECT c.name, c.is_group, c.avatar_url, c.app_data, c.deleted_shown_as, c.history_for_new_members,
                          c.created_at, n.last_seq, n.last_at, (SELECT count(*) FROM (SELECT 1 FROM chat_member m
                           WHERE m.chat_id = c.id AND m.left_seq IS NULL LIMIT 1000) few)
                     FROM chat c JOIN chat_counter n ON n.chat_id = c.id WHERE c.id = $1";
        let row = client.query_opt(sql, &[&chat_id]).await.map_err(unavailable)?;
        let row = row.ok_or_else(Rejection::chat_not_found)?;
        Ok(written(&AnyChat {
            chat_id,
            name: row.get(0),
            is_group: row.get(1),
            avatar_url: row.get(2),
            app_data: row.get::<_, Option<String>>(3).and_then(|text| RawValue::from_string(text).ok()),
            deleted_shown_as: row.get(4),
            history_for_new_members: row.get(5),
            member_count: row.get(9),
            head_seq: row.get(7),
            created_at: timestamp::from_offset(row.get(6)),
            last_activity_at: timestamp::from_offset(row.get(8)),
        }))
    }
}

/// `ServiceChat` of the document.
#[derive(Serialize)]
struct AnyChat<'a> {
    chat_id: &'a str,
    name: Option<String>,
    is_group: bool,
    avatar_url: Option<String>,
    app_data: Option<Box<RawValue>>,
    deleted_shown_as: String,
    history_for_new_members: bool,
    member_count: i64,
    head_seq: i64,
    #[serde(serialize_with = "timestamp::serialize")]
    created_at: i64,
    #[serde(serialize_with = "timestamp::serialize")]
    last_activity_at: i64,
}
