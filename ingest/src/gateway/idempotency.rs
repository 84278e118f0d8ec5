//! `Idempotency-Key`: a POST that was answered isn't done again within a day; its answer is. After the IETF's
//! draft-ietf-httpapi-idempotency-key-header.
//!
//! *Claims.* The first request of a person or service with a key claims it in Postgres, so all gateways agree. One that
//! comes meanwhile is told to try again; the same key with another request is refused. A definite refusal made nothing, so
//! its key is free at once.
//!
//! *Failure.* A request that nobody knows the end of (its gateway died, or gave up waiting) leaves its claim, which the same
//! request takes over: at once or, from a gateway that is silent, after a minute. It inherits the *operation*: a UUID that names
//! the new message or chat if the request doesn't, so that nothing is made twice, and the session of its commands; and the
//! head of its chat when it came first, so that it undoes nothing that others did meanwhile.
//!
//! *Bodies.* What is kept names a message or chat and doesn't hold it: a repeated answer shows it as it is now, or only its
//! place, so that a deleted body or a removed person's name can't come back this way.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State as AxumState};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use schemas::ids;
use schemas::wire::{Code, Rejection};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::caller::{Caller, LIST_BYTES};
use super::history::written;
use super::{Gateway, Problem};
use crate::users::unavailable;

const HEADER: &str = "Idempotency-Key";
/// Longest key.
const MOST_CHARS: usize = 255;
/// Keys of one person within a day.
const MOST_KEYS: i64 = 10_000;

/// Claims a key that is new, a day old, or was left by the same request; `$5` names the operation of a new one, which is based
/// on the present head of the chat `$7`.
const CLAIM_SQL: &str = "
    WITH few AS (SELECT 1 FROM idempotent_answer WHERE user_id = $1 AND service = $2 LIMIT $6)
    INSERT INTO idempotent_answer AS kept (user_id, service, key, request_hash, claim, operation, claimed_at, based_on_seq)
    SELECT $1, $2, $3, $4, $5, $5, clock_timestamp(), (SELECT last_seq FROM chat_counter WHERE chat_id = $7)
     WHERE $2 <> '' OR (SELECT count(*) FROM few) < $6
    ON CONFLICT (user_id, service, key) DO UPDATE
       SET operation = CASE WHEN kept.claimed_at < clock_timestamp() - interval '1 day' THEN excluded.operation
                            ELSE kept.operation END,
           based_on_seq = CASE WHEN kept.claimed_at < clock_timestamp() - interval '1 day' THEN excluded.based_on_seq
                               ELSE coalesce(kept.based_on_seq, excluded.based_on_seq) END,
           request_hash = excluded.request_hash, claim = excluded.claim, claimed_at = excluded.claimed_at,
           status = NULL, body = NULL
     WHERE kept.claimed_at < clock_timestamp() - interval '1 day'
        OR (kept.status IS NULL AND kept.request_hash = excluded.request_hash
            AND (kept.claim IS NULL OR kept.claimed_at < clock_timestamp() - interval '1 minute'))
    RETURNING operation, based_on_seq";

/// Routes without a caller to keep an answer for: development, services for themselves, and what isn't there.
fn has_caller(route: &str) -> bool {
    !route.starts_with("/v1/dev/") && !["/v1/users/{user_id}/revoke", "/v1/{*unknown}", ""].contains(&route)
}

/// Requests that may be several commands: the first may be done though a later one is refused.
const SEVERAL: [&str; 2] = ["/v1/chats", "/v1/chats/{chat_id}/members"];

/// Answers from what is kept, or keeps the answer.
pub(super) async fn keep(
    AxumState(gateway): AxumState<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    if request.method() != Method::POST || !has_caller(&route) {
        return Ok(next.run(request).await);
    }
    let Some(key) = key_of(request.headers())? else { return Ok(next.run(request).await) };
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &gateway).await?;
    // The largest that any handler takes; each has its own limit below.
    let too_big = || Rejection::new(Code::FrameTooBig, format!("The body is over {LIST_BYTES} bytes."));
    let body = axum::body::to_bytes(body, LIST_BYTES).await.map_err(|_| too_big())?;
    let mut hash = Sha256::new();
    hash.update(parts.uri.path_and_query().map_or("", |path| path.as_str()));
    hash.update([0]);
    hash.update(&body);
    let chat_id = chat_of(&mut parts).await;
    let mut kept = Kept { gateway, caller, key, claim: Uuid::new_v4(), is_open: false };
    let operation = match kept.claim(hash.finalize().as_slice(), chat_id.as_deref()).await? {
        Claim::Answered(answer) => return Ok(answer),
        Claim::Ours(operation) => operation,
    };
    kept.is_open = true;
    parts.extensions.insert(kept.caller.in_session(operation.id));
    parts.extensions.insert(operation);
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let status = response.status();
    if !status.is_success() {
        // What is temporary may have been accepted and be decided later; so may an earlier attempt at the same operation.
        let is_definite = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
        let made_nothing = status == StatusCode::BAD_REQUEST || !SEVERAL.contains(&route.as_str());
        let is_first = operation.id == kept.claim;
        kept.give_up(is_definite && made_nothing && is_first).await;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    kept.store(status, &body).await;
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// What a request does, the same whenever it comes again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    /// Names what it makes, and the session of its commands.
    pub(super) id: Uuid,
    /// Head of the chat that its path names, when it came first.
    pub(super) based_on_seq: Option<i64>,
}

enum Claim {
    Ours(Operation),
    Answered(Response),
}

/// The key, as the draft quotes it or bare.
fn key_of(headers: &HeaderMap) -> Result<Option<String>, Rejection> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if values.next().is_some() || key.is_empty() || key.len() > MOST_CHARS {
        let rule = format!("Idempotency-Key is one text of 1 to {MOST_CHARS} visible characters, such as a UUID.");
        return Err(Rejection::new(Code::BadField, rule).at(HEADER));
    }
    Ok(Some(key.to_owned()))
}

/// The chat that a request's path names.
async fn chat_of(parts: &mut Parts) -> Option<String> {
    let params = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    params.iter().find(|(name, id)| *name == "chat_id" && ids::is_valid(id)).map(|(_, id)| id.to_owned())
}

struct Kept {
    gateway: Arc<Gateway>,
    caller: Caller,
    key: String,
    claim: Uuid,
    /// Claimed, and not yet stored or given up.
    is_open: bool,
}

impl Drop for Kept {
    /// The client went away, and with it the request: whoever comes back needn't wait.
    fn drop(&mut self) {
        if self.is_open {
            let (gateway, caller, key) =
                (Arc::clone(&self.gateway), self.caller.clone(), std::mem::take(&mut self.key));
            let mut left = Self { gateway, caller, key, claim: self.claim, is_open: false };
            tokio::spawn(async move { left.give_up(false).await });
        }
    }
}

impl Kept {
    /// The service that asks, or nothing: keys of one aren't those of another.
    fn service(&self) -> &str {
        self.caller.service.as_deref().unwrap_or_default()
    }

    /// Claims the key; or gives the answer that it got before, or the refusal.
    async fn claim(&self, request_hash: &[u8], chat_id: Option<&str>) -> Result<Claim, Rejection> {
        let client = self.gateway.chat.pool().get().await.map_err(unavailable)?;
        let user_id = &self.caller.user_id;
        let statement = client.prepare_cached(CLAIM_SQL).await.map_err(unavailable)?;
        let row = client
            .query_opt(
                &statement,
                &[user_id, &self.service(), &self.key, &request_hash, &self.claim, &MOST_KEYS, &chat_id],
            )
            .await
            .map_err(unavailable)?;
        if let Some(row) = row {
            return Ok(Claim::Ours(Operation { id: row.get(0), based_on_seq: row.get(1) }));
        }
        let sql = "SELECT request_hash, status, body FROM idempotent_answer
                    WHERE user_id = $1 AND service = $2 AND key = $3";
        let row = client.query_opt(sql, &[user_id, &self.service(), &self.key]).await.map_err(unavailable)?;
        let Some(row) = row else {
            let rule = format!("At most {MOST_KEYS} keys of a person are kept, each for a day.");
            return Err(Rejection::new(Code::RateLimited, rule).at(HEADER).retry_after(60_000));
        };
        if row.get::<_, &[u8]>(0) != request_hash {
            let rule = "This Idempotency-Key was used with another request: make a new one for each.";
            return Err(Rejection::new(Code::IdempotencyKeyReused, rule).at(HEADER));
        }
        let Some(status) = row.get::<_, Option<i16>>(1) else {
            let rule = "The first request with this Idempotency-Key is still under way.";
            return Err(Rejection::new(Code::IdempotencyKeyInUse, rule).at(HEADER).retry_after(1_000));
        };
        let Json(body) = row.get::<_, Json<Value>>(2);
        // What follows takes a connection of its own.
        drop(client);
        Ok(Claim::Answered(self.repeat(status, body).await))
    }

    async fn repeat(&self, status: i16, body: Value) -> Response {
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let text = |field: &str| body[field].as_str().map(str::to_owned);
        let message_id = text("message_id").and_then(|id| Uuid::try_parse(&id).ok()).filter(|_| body["seq"].is_i64());
        let is_chat = body.as_object().is_some_and(|body| body.len() == 1);
        let shown = match (text("chat_id"), message_id) {
            (Some(chat_id), Some(message_id)) => {
                self.gateway.one_message(&self.caller.user_id, &chat_id, message_id).await.ok()
            }
            (None, None) if body["media_id"].is_string() => {
                let media_id = body["media_id"].as_str().unwrap_or_default();
                self.gateway.one_media(&self.caller.user_id, media_id).await.map(|file| written(&file))
            }
            (Some(chat_id), None) if is_chat => self.gateway.one_chat(&self.caller.user_id, &chat_id).await.ok(),
            _ => None,
        };
        let shown = shown.unwrap_or_else(|| written(&body));
        let mut response = (status.unwrap_or(StatusCode::OK), axum::Json(shown)).into_response();
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
        response
    }

    /// Keeps the answer. If that fails the request was done all the same; the next one takes the claim over.
    async fn store(&mut self, status: StatusCode, body: &[u8]) {
        let kept = without_bodies(serde_json::from_slice(body).unwrap_or_default());
        let status = status.as_u16() as i16;
        let stored = async {
            let client = self.gateway.chat.pool().get().await.map_err(unavailable)?;
            let sql = "UPDATE idempotent_answer SET status = $4, body = $5
                        WHERE user_id = $1 AND service = $2 AND key = $3 AND claim = $6";
            let (user_id, service) = (&self.caller.user_id, self.service());
            client
                .execute(sql, &[user_id, &service, &self.key, &status, &Json(kept), &self.claim])
                .await
                .map_err(unavailable)
        };
        let is_stored = stored.await.is_ok();
        self.is_open = false;
        if !is_stored {
            tracing::warn!("an answer with an Idempotency-Key is not kept");
        }
    }

    /// Frees the key: for any request, or for this one only.
    async fn give_up(&mut self, is_free: bool) {
        let freed = async {
            let client = self.gateway.chat.pool().get().await.map_err(unavailable)?;
            let what =
                if is_free { "DELETE FROM idempotent_answer" } else { "UPDATE idempotent_answer SET claim = NULL" };
            let sql = format!("{what} WHERE user_id = $1 AND service = $2 AND key = $3 AND claim = $4");
            let (user_id, service) = (&self.caller.user_id, self.service());
            client.execute(&sql, &[user_id, &service, &self.key, &self.claim]).await.map_err(unavailable)
        };
        let is_freed = freed.await.is_ok();
        self.is_open = false;
        if !is_freed {
            tracing::warn!("an Idempotency-Key stays claimed for a minute");
        }
    }
}

/// An answer without what messages and people say, and without signatures: what is kept names them.
fn without_bodies(answer: Value) -> Value {
    if answer.get("media_id").is_some() {
        return json!({ "media_id": answer["media_id"] });
    }
    if answer.get("message_id").is_some() && answer.get("content").is_some() {
        return json!({ "chat_id": answer["chat_id"], "message_id": answer["message_id"], "seq": answer["seq"] });
    }
    if answer.get("last_message").is_some() || answer.get("head_seq").is_some() {
        return json!({ "chat_id": answer["chat_id"] });
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_or_bare() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, HeaderValue::from_static(value));
            }
            key_of(&headers).map_err(|rejection| rejection.code)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["a-1"]), Ok(Some("a-1".into())));
        assert_eq!(of(&["\"a-1\""]), Ok(Some("a-1".into())));
        for wrong in [&[""][..], &["\"\""], &["a", "b"]] {
            assert_eq!(of(wrong), Err(Code::BadField), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_kept_says_nothing() {
        let message =
            json!({ "chat_id": "c", "message_id": "m", "seq": 2, "content": "secret", "app_data": {"a": "secret"} });
        let chat = json!({ "chat_id": "c", "last_message": { "content": "secret" }, "peer": { "name": "secret" } });
        let media = json!({ "media_id": "m", "chat_id": "c", "upload": { "url": "https://s3/secret" } });
        assert_eq!(without_bodies(media.clone()), json!({ "media_id": "m" }));
        for kept in [without_bodies(message), without_bodies(chat), without_bodies(media)] {
            assert!(!kept.to_string().contains("secret"), "{kept}");
        }
    }
}
