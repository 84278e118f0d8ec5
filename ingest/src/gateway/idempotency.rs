//! `Idempotency-Key`: a POST that was answered isn't done again within a day; its answer is. After the IETF's
//! draft-ietf-httpapi-idempotency-key-header.
//!
//! *Claims.* The first request of a person with a key claims it in Postgres, so all gateways agree. One that comes
//! meanwhile is told to try again; the same key with another request is refused. Only successes are kept: a refused
//! request made nothing, so its key is free at once. A claim whose gateway died is free after a minute, longer than any
//! request is waited for.
//!
//! *Bodies.* What is kept names a message and doesn't hold it: a repeated answer shows it as it is now, or only its
//! place, so that a deleted body can't come back this way.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State as AxumState};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use schemas::wire::{Code, Rejection};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::caller::Caller;
use super::{Gateway, Problem};
use crate::users::unavailable;

const HEADER: &str = "Idempotency-Key";
/// Longest key.
const MOST_CHARS: usize = 255;
/// Keys of one person within a day.
const MOST_KEYS: i64 = 10_000;

/// Answers from what is kept, or keeps the answer.
pub(super) async fn keep(
    AxumState(gateway): AxumState<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if request.method() != Method::POST {
        return Ok(next.run(request).await);
    }
    let Some(key) = key_of(request.headers())? else { return Ok(next.run(request).await) };
    let (mut parts, body) = request.into_parts();
    // Without a caller there is nothing to keep, and the handler says what is wrong.
    let Ok(caller) = Caller::from_request_parts(&mut parts, &gateway).await else {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let most = gateway.frame_limits.frame_bytes;
    let too_big = || Rejection::new(Code::FrameTooBig, format!("The body is over {most} bytes."));
    let body = axum::body::to_bytes(body, most).await.map_err(|_| too_big())?;
    let mut hash = Sha256::new();
    hash.update(parts.uri.path_and_query().map_or("", |path| path.as_str()));
    hash.update([0]);
    hash.update(&body);
    let kept = Kept { gateway: &gateway, user_id: &caller.user_id, key: &key, claim: Uuid::new_v4() };
    if let Some(answer) = kept.claim(hash.finalize().as_slice()).await? {
        return Ok(answer);
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let status = response.status();
    if !status.is_success() {
        kept.release().await;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    kept.store(status, &body).await;
    Ok(Response::from_parts(parts, Body::from(body)))
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

struct Kept<'a> {
    gateway: &'a Gateway,
    user_id: &'a str,
    key: &'a str,
    claim: Uuid,
}

impl Kept<'_> {
    /// Claims the key; or gives the answer that it got before, or the refusal.
    async fn claim(&self, request_hash: &[u8]) -> Result<Option<Response>, Rejection> {
        let client = self.gateway.chat.pool().get().await.map_err(unavailable)?;
        let sql = "WITH few AS (SELECT 1 FROM idempotent_answer WHERE user_id = $1 LIMIT $5),
                   claimed AS (
                       INSERT INTO idempotent_answer (user_id, key, request_hash, claim, claimed_at)
                       SELECT $1, $2, $3, $4, clock_timestamp() WHERE (SELECT count(*) FROM few) < $5
                       ON CONFLICT (user_id, key) DO UPDATE
                          SET request_hash = $3, claim = $4, claimed_at = clock_timestamp(), status = NULL, body = NULL
                        WHERE idempotent_answer.claimed_at < clock_timestamp() - interval '1 day'
                           OR (idempotent_answer.status IS NULL
                               AND idempotent_answer.claimed_at < clock_timestamp() - interval '1 minute')
                       RETURNING 1)
                   SELECT EXISTS (SELECT 1 FROM claimed)";
        let statement = client.prepare_cached(sql).await.map_err(unavailable)?;
        let row = client
            .query_one(&statement, &[&self.user_id, &self.key, &request_hash, &self.claim, &MOST_KEYS])
            .await
            .map_err(unavailable)?;
        if row.get(0) {
            return Ok(None);
        }
        let sql = "SELECT request_hash, status, body FROM idempotent_answer WHERE user_id = $1 AND key = $2";
        let row = client.query_opt(sql, &[&self.user_id, &self.key]).await.map_err(unavailable)?;
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
        Ok(Some(self.repeat(status, body).await))
    }

    async fn repeat(&self, status: i16, body: Value) -> Response {
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let text = |field: &str| body[field].as_str().map(str::to_owned);
        let message_id = text("message_id").and_then(|id| Uuid::try_parse(&id).ok()).filter(|_| body["seq"].is_i64());
        let shown = match (text("chat_id"), message_id) {
            (Some(chat_id), Some(message_id)) => {
                self.gateway.one_message(self.user_id, &chat_id, message_id).await.unwrap_or(body)
            }
            _ => body,
        };
        let mut response = (status.unwrap_or(StatusCode::OK), axum::Json(shown)).into_response();
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
        response
    }

    /// Keeps the answer. If that fails the request was done all the same; its key is free again after a minute.
    async fn store(&self, status: StatusCode, body: &[u8]) {
        let kept = without_bodies(serde_json::from_slice(body).unwrap_or_default());
        let status = status.as_u16() as i16;
        let stored = async {
            let client = self.gateway.chat.pool().get().await.map_err(unavailable)?;
            let sql = "UPDATE idempotent_answer SET status = $4, body = $5
                        WHERE user_id = $1 AND key = $2 AND claim = $3";
            client
                .execute(sql, &[&self.user_id, &self.key, &self.claim, &status, &Json(kept)])
                .await
                .map_err(unavailable)
        };
        if stored.await.is_err() {
            tracing::warn!("an answer with an Idempotency-Key is not kept");
        }
    }

    async fn release(&self) {
        let freed = async {
            let client = self.gateway.chat.pool().get().await.map_err(unavailable)?;
            let sql = "DELETE FROM idempotent_answer WHERE user_id = $1 AND key = $2 AND claim = $3";
            client.execute(sql, &[&self.user_id, &self.key, &self.claim]).await.map_err(unavailable)
        };
        if freed.await.is_err() {
            tracing::warn!("an Idempotency-Key stays claimed for a minute");
        }
    }
}

/// An answer without what messages say.
fn without_bodies(mut answer: Value) -> Value {
    if answer.get("message_id").is_some() && answer.get("content").is_some() {
        return json!({ "chat_id": answer["chat_id"], "message_id": answer["message_id"], "seq": answer["seq"] });
    }
    if let Some(last) = answer.get_mut("last_message") {
        *last = Value::Null;
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
        let chat = json!({ "chat_id": "c", "last_message": { "content": "secret" } });
        for kept in [without_bodies(message), without_bodies(chat)] {
            assert!(!kept.to_string().contains("secret"), "{kept}");
        }
    }
}
