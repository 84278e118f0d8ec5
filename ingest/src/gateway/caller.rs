//! Who makes a request, and what is in its body and query.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use schemas::ids;
use schemas::wire::client::Fields;
use schemas::wire::{Code, Rejection};
use uuid::Uuid;

use super::{Gateway, Problem, RequestId};
use crate::chat_service::Asker;

/// The person that a valid bearer token speaks for.
pub(crate) struct Caller {
    pub(crate) user_id: String,
    request_id: String,
}

impl Caller {
    /// The request as a session of one command.
    pub(crate) fn asker(&self) -> Asker {
        self.asker_of(0)
    }

    /// The same, for a request that becomes several commands.
    pub(crate) fn asker_of(&self, session_counter: i64) -> Asker {
        Asker { user_id: self.user_id.clone(), session_id: self.request_id.clone(), session_counter }
    }
}

impl FromRequestParts<Arc<Gateway>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Problem> {
        let missing = || Rejection::new(Code::TokenMissing, "Send a token: `Authorization: Bearer …`.");
        let value =
            parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
        let token = match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(missing().into()),
        };
        let identity = gateway.authenticator.verify(token)?;
        gateway.users.ensure(&identity).await?;
        let request_id =
            parts.extensions.get::<RequestId>().map_or_else(|| Uuid::now_v7().to_string(), |id| id.0.clone());
        Ok(Self { user_id: identity.user_id, request_id })
    }
}

/// A JSON object in a request's body, within the frame limit.
pub(crate) struct JsonBody(pub(crate) Fields);

impl FromRequest<Arc<Gateway>> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, gateway: &Arc<Gateway>) -> Result<Self, Problem> {
        Ok(Self(fields_of(request, gateway.frame_limits.frame_bytes).await?))
    }
}

/// The same with room for a list of 10,000 people.
pub(crate) struct ListBody(pub(crate) Fields);

/// 10,000 ids of 64 bytes, quoted, with commas and blanks, and as much beside them as other bodies have.
const LIST_BYTES: usize = 10_000 * 68 + 65_536;

impl FromRequest<Arc<Gateway>> for ListBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<Gateway>) -> Result<Self, Problem> {
        Ok(Self(fields_of(request, LIST_BYTES).await?))
    }
}

async fn fields_of(request: Request, most: usize) -> Result<Fields, Problem> {
    let too_big = || Rejection::new(Code::FrameTooBig, format!("The body is over {most} bytes."));
    let bytes: Bytes = axum::body::to_bytes(request.into_body(), most).await.map_err(|_| too_big())?;
    Ok(Fields::of_body(&bytes)?)
}

/// The query's parameters; each asked for by name, so that a wrong one is named.
pub(crate) struct Query(std::collections::HashMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::from_request_parts(parts, state)
            .await
            .map_err(|_| Rejection::new(Code::BadField, "The query can't be read.").at("query"))?;
        Ok(Self(query.0))
    }
}

impl Query {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Rejection> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        let wrong =
            || Rejection::new(Code::BadField, format!("{name} is a whole number from {least} to {most}.")).at(name);
        number.map(Some).ok_or_else(wrong)
    }

    /// How many to answer with.
    pub(crate) fn limit(&self, default: i64, most: i64) -> Result<i64, Rejection> {
        Ok(self.number("limit", 1, most)?.unwrap_or(default))
    }
}

/// A chat's id in a path. One that can't be an id is answered like one that isn't there.
pub(crate) fn chat_id_of(text: String) -> Result<String, Rejection> {
    if ids::is_valid(&text) { Ok(text) } else { Err(Rejection::chat_not_found()) }
}

/// A message's id in a path.
pub(crate) fn message_id_of(text: &str) -> Result<Uuid, Rejection> {
    Uuid::try_parse(text).map_err(|_| Rejection::new(Code::BadUuid, "message_id is a UUID.").at("message_id"))
}
