//! `/v1/users/me/settings`: how a person wants to be told of messages. Kept here, followed by whoever notifies.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use schemas::wire::client::Fields;
use schemas::wire::{Code, Rejection};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Json as Jsonb;
use utoipa::ToSchema;

use super::caller::{Caller, JsonBody};
use super::hours::{DoNotDisturb, hours_of};
use super::{Problem, Shared};
use crate::profiles;
use crate::users::unavailable;

/// Most muted chats of a person.
const MOST_MUTED: usize = 1_000;

/// How a person is told of messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct Settings {
    /// Signs on the page, such as a badge.
    in_app: bool,
    /// On the devices of `/v1/users/me/devices`.
    push: bool,
    /// By mail.
    email: bool,
    /// When to stay silent; null if never.
    #[schema(required)]
    do_not_disturb: Option<DoNotDisturb>,
    /// Chats that stay silent.
    #[schema(required)]
    muted_chat_ids: BTreeSet<String>,
    /// Chats that are silent except where one is named.
    #[schema(required)]
    mentions_only_chat_ids: BTreeSet<String>,
    /// How much of a message a notification shows; never more than the operator allows.
    #[schema(required)]
    content: Content,
    /// A language tag (BCP 47) such as `de` or `en-GB`: notifications and mails come in the nearest language that there is.
    #[schema(required)]
    language: String,
}

/// How much of a message a notification shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content {
    /// Who wrote, where, and what.
    #[default]
    Full,
    /// Who wrote, and where.
    SenderOnly,
    /// That there is something.
    Nothing,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            in_app: true,
            push: true,
            email: false,
            do_not_disturb: None,
            muted_chat_ids: BTreeSet::new(),
            mentions_only_chat_ids: BTreeSet::new(),
            content: Content::Full,
            language: "en".into(),
        }
    }
}

/// What to change; what is absent stays as it is.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "read by the document's generator")]
pub(crate) struct SettingsChanges {
    in_app: Option<bool>,
    push: Option<bool>,
    email: Option<bool>,
    /// Null takes it away.
    do_not_disturb: Option<DoNotDisturb>,
    /// Chats to silence.
    #[schema(max_items = 1000)]
    mute: Option<Vec<String>>,
    /// Chats to hear again.
    #[schema(max_items = 1000)]
    unmute: Option<Vec<String>>,
    /// Chats of which to hear only where one is named.
    #[schema(max_items = 1000)]
    mentions_only: Option<Vec<String>>,
    /// Chats of which to hear everything again.
    #[schema(max_items = 1000)]
    all_messages: Option<Vec<String>>,
    content: Option<Content>,
    /// A language tag (BCP 47).
    #[schema(pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", max_length = 35)]
    language: Option<String>,
}

/// How one is told of messages.
#[utoipa::path(get, path = "/v1/users/me/settings", operation_id = "get_settings", tag = "people",
    responses((status = 200, description = "The settings", body = Settings)))]
pub(crate) async fn show(State(gateway): Shared, caller: Caller) -> Result<Json<Settings>, Problem> {
    let client = gateway.chat.pool().get().await.map_err(unavailable)?;
    Ok(Json(read(&**client, &caller.user_id).await?))
}

/// Changes how one is told of messages.
#[utoipa::path(patch, path = "/v1/users/me/settings", operation_id = "update_settings", tag = "people",
    request_body = SettingsChanges,
    responses((status = 200, description = "The settings", body = Settings)))]
pub(crate) async fn update(
    State(gateway): Shared,
    caller: Caller,
    JsonBody(mut body): JsonBody,
) -> Result<Json<Settings>, Problem> {
    let changes = Changes::of(&mut body)?;
    if let Some(Some(hours)) = &changes.do_not_disturb
        && !(gateway.notify.check_zone)(&hours.time_zone)
    {
        let rule = "time_zone is a name of the tz database, such as Europe/Berlin.";
        return Err(Rejection::new(Code::BadField, rule).at("do_not_disturb.time_zone").into());
    }
    let mut client = gateway.chat.pool().get().await.map_err(unavailable)?;
    let transaction = client.transaction().await.map_err(unavailable)?;
    profiles::hold(&transaction, &caller.user_id).await?;
    let settings = changes.apply(read(&*transaction, &caller.user_id).await?)?;
    let sql = "INSERT INTO user_settings (user_id, settings, updated_at) VALUES ($1, $2, clock_timestamp())
               ON CONFLICT (user_id) DO UPDATE SET settings = $2, updated_at = clock_timestamp()";
    transaction.execute(sql, &[&caller.user_id, &Jsonb(&settings)]).await.map_err(unavailable)?;
    transaction.commit().await.map_err(unavailable)?;
    Ok(Json(settings))
}

async fn read(client: &impl GenericClient, user_id: &str) -> Result<Settings, Rejection> {
    let sql = "SELECT settings FROM user_settings WHERE user_id = $1";
    let row = client.query_opt(sql, &[&user_id]).await.map_err(unavailable)?;
    Ok(row.map(|row| row.get::<_, Jsonb<Settings>>(0).0).unwrap_or_default())
}

#[derive(Debug)]
struct Changes {
    in_app: Option<bool>,
    push: Option<bool>,
    email: Option<bool>,
    #[allow(clippy::option_option, reason = "absent, null and hours are three things")]
    do_not_disturb: Option<Option<DoNotDisturb>>,
    mute: Vec<String>,
    unmute: Vec<String>,
    mentions_only: Vec<String>,
    all_messages: Vec<String>,
    content: Option<Content>,
    language: Option<String>,
}

impl Changes {
    fn of(body: &mut Fields) -> Result<Self, Rejection> {
        let do_not_disturb = body.object.remove("do_not_disturb").map(hours_of).transpose()?;
        Ok(Self {
            in_app: body.optional_bool("in_app")?,
            push: body.optional_bool("push")?,
            email: body.optional_bool("email")?,
            do_not_disturb,
            mute: body.ids("mute", MOST_MUTED)?,
            unmute: body.ids("unmute", MOST_MUTED)?,
            mentions_only: body.ids("mentions_only", MOST_MUTED)?,
            all_messages: body.ids("all_messages", MOST_MUTED)?,
            content: body.optional("content").map(content_of).transpose()?,
            language: body.optional_text("language")?.map(language_of).transpose()?,
        })
    }

    fn apply(self, mut settings: Settings) -> Result<Settings, Rejection> {
        settings.in_app = self.in_app.unwrap_or(settings.in_app);
        settings.push = self.push.unwrap_or(settings.push);
        settings.email = self.email.unwrap_or(settings.email);
        settings.do_not_disturb = self.do_not_disturb.unwrap_or(settings.do_not_disturb);
        settings.muted_chat_ids.retain(|chat_id| !self.unmute.contains(chat_id));
        settings.muted_chat_ids.extend(self.mute);
        if settings.muted_chat_ids.len() > MOST_MUTED {
            let rule = format!("At most {MOST_MUTED} chats can be muted.");
            return Err(Rejection::new(Code::BadField, rule).at("mute"));
        }
        settings.mentions_only_chat_ids.retain(|chat_id| !self.all_messages.contains(chat_id));
        settings.mentions_only_chat_ids.extend(self.mentions_only);
        if settings.mentions_only_chat_ids.len() > MOST_MUTED {
            let rule = format!("At most {MOST_MUTED} chats can be heard by mentions only.");
            return Err(Rejection::new(Code::BadField, rule).at("mentions_only"));
        }
        settings.content = self.content.unwrap_or(settings.content);
        settings.language = self.language.unwrap_or(settings.language);
        Ok(settings)
    }
}

fn content_of(value: Value) -> Result<Content, Rejection> {
    let wrong = |_| Rejection::new(Code::BadField, "content is full, sender_only or nothing.").at("content");
    serde_json::from_value(value).map_err(wrong)
}

fn language_of(tag: String) -> Result<String, Rejection> {
    let is_part = |(place, part): (usize, &str)| {
        let is_plain = part.bytes().all(|byte| byte.is_ascii_alphabetic() || (place > 0 && byte.is_ascii_digit()));
        is_plain && (if place == 0 { 2..=8 } else { 1..=8 }).contains(&part.len())
    };
    if tag.len() <= 35 && tag.split('-').enumerate().all(is_part) {
        return Ok(tag);
    }
    Err(Rejection::new(Code::BadField, "language is a language tag such as en or de-AT.").at("language"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changes(body: &Value) -> Result<Changes, Rejection> {
        Changes::of(&mut Fields::of_body(body.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn what_is_absent_stays_and_null_takes_hours_away() {
        let hours = json!({ "from": "22:00", "to": "07:30", "time_zone": "Europe/Berlin" });
        let set = changes(&json!({ "push": false, "do_not_disturb": hours, "mute": ["a", "b"] })).unwrap();
        let settings = set.apply(Settings::default()).unwrap();
        assert!(!settings.push && settings.in_app && settings.do_not_disturb.is_some());
        let same = changes(&json!({})).unwrap().apply(settings.clone()).unwrap();
        assert_eq!(same, settings);
        let less = changes(&json!({ "do_not_disturb": null, "unmute": ["a"] })).unwrap().apply(settings).unwrap();
        assert!(less.do_not_disturb.is_none() && less.muted_chat_ids.iter().eq(["b"]));
    }

    #[test]
    fn chats_content_and_language_are_set_and_what_makes_no_sense_is_named() {
        let set = json!({ "mentions_only": ["team"], "content": "sender_only", "language": "de-AT" });
        let settings = changes(&set).unwrap().apply(Settings::default()).unwrap();
        assert!(settings.mentions_only_chat_ids.contains("team") && settings.language == "de-AT");
        assert_eq!(settings.content, Content::SenderOnly);
        let again = changes(&json!({ "all_messages": ["team"] })).unwrap().apply(settings).unwrap();
        assert!(again.mentions_only_chat_ids.is_empty() && again.content == Content::SenderOnly);
        for (field, value) in [
            ("content", json!("some")),
            ("content", json!(1)),
            ("language", json!("German!")),
            ("language", json!("d")),
            ("language", json!("")),
            ("mentions_only", json!("team")),
            ("all_messages", json!(["a b"])),
        ] {
            let refused = changes(&json!({ field: value })).unwrap_err();
            assert!(refused.field.as_deref().is_some_and(|at| at.starts_with(field)), "{field} {value}");
        }
    }
}
