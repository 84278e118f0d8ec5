//! Who makes a request, and what is in its body and query.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use schemas::ids;
use schemas::wire::client::Fields;
use schemas::wire::{Code, Rejection};
use uuid::Uuid;

use super::{Gateway, Problem, RequestId};
use crate::auth::{Scope, Scopes, Service, Token};
use crate::chat_service::Asker;

/// In whose name a request is made: the person of the token, or whom a service names, or the system sender.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) user_id: String,
    /// The service that makes the request, if it isn't the person.
    pub(crate) service: Option<String>,
    /// The request's id, or that of the operation which it repeats.
    session_id: String,
}

impl Caller {
    /// The request as a session of one command.
    pub(crate) fn asker(&self) -> Asker {
        self.asker_of(0)
    }

    /// The same, for a request that becomes several commands.
    pub(crate) fn asker_of(&self, session_counter: i64) -> Asker {
        Asker {
            user_id: self.user_id.clone(),
            session_id: self.session_id.clone(),
            session_counter,
            is_service: self.service.is_some(),
        }
    }

    /// The same with a session that goes on whenever the request comes again: its own changes aren't another's to it.
    pub(super) fn in_session(&self, session_id: Uuid) -> Self {
        Self { session_id: session_id.to_string(), ..self.clone() }
    }
}

impl FromRequestParts<Arc<Gateway>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Problem> {
        // Whoever keeps answers has asked already.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let request_id =
            parts.extensions.get::<RequestId>().map_or_else(|| Uuid::now_v7().to_string(), |id| id.0.clone());
        let on_behalf_of = on_behalf_of(&parts.headers)?;
        match verified(parts, gateway).await? {
            Token::Person(identity) => {
                if on_behalf_of.is_some() {
                    let rule = "Only services act on behalf of somebody.";
                    return Err(Rejection::new(Code::ScopeMissing, rule).at(ON_BEHALF_OF).into());
                }
                gateway.users.ensure(&identity).await?;
                Ok(Self { user_id: identity.user_id, service: None, session_id: request_id })
            }
            Token::Service(service) => {
                let user_id = if let Some(user_id) = on_behalf_of {
                    service.scopes.need(Scope::ActForUsers)?;
                    gateway.users.check_there(&user_id).await.map_err(|rejection| rejection.at(ON_BEHALF_OF))?;
                    user_id
                } else {
                    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
                    let needed = Scope::of_system(&parts.method, route).ok_or_else(|| {
                        Rejection::new(Code::MissingField, "Say in whose name: On-Behalf-Of: <user_id>.")
                            .at(ON_BEHALF_OF)
                    })?;
                    service.scopes.need(needed)?;
                    ids::SYSTEM.to_owned()
                };
                Ok(Self { user_id, service: Some(service.name), session_id: request_id })
            }
        }
    }
}

/// A service that asks for itself: what only services may.
pub(crate) struct ServiceCaller {
    name: String,
    scopes: Scopes,
    request_id: String,
}

impl ServiceCaller {
    /// Refuses a service whose token doesn't have the scope.
    pub(crate) fn need(&self, scope: Scope) -> Result<(), Rejection> {
        self.scopes.need(scope)
    }

    /// The service as the system sender.
    pub(crate) fn system(&self) -> Caller {
        let (service, session_id) = (Some(self.name.clone()), self.request_id.clone());
        Caller { user_id: ids::SYSTEM.to_owned(), service, session_id }
    }
}

impl FromRequestParts<Arc<Gateway>> for ServiceCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Problem> {
        let request_id =
            parts.extensions.get::<RequestId>().map_or_else(|| Uuid::now_v7().to_string(), |id| id.0.clone());
        if on_behalf_of(&parts.headers)?.is_some() {
            let rule = "A service asks for this in its own name: leave On-Behalf-Of out.";
            return Err(Rejection::new(Code::BadField, rule).at(ON_BEHALF_OF).into());
        }
        match verified(parts, gateway).await? {
            Token::Person(identity) => {
                gateway.users.ensure(&identity).await?;
                Err(Rejection::new(Code::ScopeMissing, "Only services may do this.").into())
            }
            Token::Service(service) => Ok(Self { name: service.name, scopes: service.scopes, request_id }),
        }
    }
}

/// What the request's bearer token says.
async fn verified(parts: &Parts, gateway: &Gateway) -> Result<Token, Rejection> {
    // A service that goes over its address' limit was looked at already.
    if let Some(Admitted(service)) = parts.extensions.get() {
        return Ok(Token::Service(service.clone()));
    }
    let token = bearer(&parts.headers)
        .ok_or_else(|| Rejection::new(Code::TokenMissing, "Send a token: `Authorization: Bearer …`."))?;
    let token = gateway.authenticator.verify(token).await?;
    if let Token::Service(service) = &token {
        gateway.limits.service(&service.name)?;
    }
    Ok(token)
}

/// A service that is let in by its own limit, where its address has used up the other.
#[derive(Debug, Clone)]
pub(super) struct Admitted(pub(super) Service);

/// The token in `Authorization`; none if there are several, of which a proxy may have meant another.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

const ON_BEHALF_OF: &str = "On-Behalf-Of";

fn on_behalf_of(headers: &HeaderMap) -> Result<Option<String>, Rejection> {
    let mut values = headers.get_all(ON_BEHALF_OF).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let user_id = value.to_str().unwrap_or_default();
    if values.next().is_some() || !ids::is_valid(user_id) || ids::is_reserved(user_id) {
        return Err(Rejection::new(Code::BadField, "On-Behalf-Of is one user_id.").at(ON_BEHALF_OF));
    }
    Ok(Some(user_id.to_owned()))
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

/// 10,000 members with ids of 64 bytes and a role, and as much beside them as other bodies have.
pub(super) const LIST_BYTES: usize = 10_000 * 112 + 65_536;

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

/// The refusal of a `cursor` that no page gave.
pub(crate) fn wrong_cursor() -> Rejection {
    Rejection::new(Code::BadField, "cursor is what an earlier page gave as next_cursor.").at("cursor")
}

/// A chat's id in a path. One that can't be an id is answered like one that isn't there.
pub(crate) fn chat_id_of(text: String) -> Result<String, Rejection> {
    if ids::is_valid(&text) { Ok(text) } else { Err(Rejection::chat_not_found()) }
}

/// A message's id in a path.
pub(crate) fn message_id_of(text: &str) -> Result<Uuid, Rejection> {
    Uuid::try_parse(text).map_err(|_| Rejection::new(Code::BadUuid, "message_id is a UUID.").at("message_id"))
}
