//! A person with a token: HTTP, and the way to a WebSocket.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use runtime::Config;
use serde_json::{Value, json};

use super::socket::Socket;

/// One person at one gateway.
#[derive(Debug, Clone)]
pub struct Person {
    /// `sub` of the token.
    pub user_id: String,
    /// The token.
    pub token: String,
    /// The gateway.
    pub base: String,
    /// Whom a service's requests are on behalf of.
    on_behalf_of: Option<String>,
    http: reqwest::Client,
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// JSON body, null if it has none.
    pub body: Value,
    /// Headers.
    pub headers: reqwest::header::HeaderMap,
}

impl Person {
    /// Somebody new, known to the gateway when this returns: a first valid token creates its person.
    pub async fn arrive(config: &Config, gateway: &str, user_id: &str) -> Result<Self> {
        let person = Self::with_token(gateway, user_id, &token(config, user_id, 3_600)?);
        person.get("/v1/users/me").await?.expect(200)?;
        Ok(person)
    }

    /// Somebody with any token.
    pub fn with_token(gateway: &str, user_id: &str, token: &str) -> Self {
        Self {
            user_id: user_id.to_owned(),
            token: token.to_owned(),
            base: gateway.trim_end_matches('/').to_owned(),
            on_behalf_of: None,
            http: reqwest::Client::new(),
        }
    }

    /// The same person at another gateway.
    pub fn at(&self, gateway: &str) -> Self {
        Self::with_token(gateway, &self.user_id, &self.token)
    }

    /// The same token, on behalf of somebody.
    pub fn as_if(&self, user_id: &str) -> Self {
        Self { on_behalf_of: Some(user_id.to_owned()), ..self.clone() }
    }

    /// Any request with this person's token.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(user_id) = &self.on_behalf_of {
            request = request.header("on-behalf-of", user_id);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::of(request.send().await?).await
    }

    /// A body that may be anything but JSON.
    pub async fn post_raw(&self, path: &str, body: impl Into<reqwest::Body>) -> Result<Answer> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token);
        Answer::of(request.header("content-type", "application/json").body(body).send().await?).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.request(Method::GET, path, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: Value) -> Result<Answer> {
        self.request(Method::POST, path, Some(body)).await
    }

    /// POST with an `Idempotency-Key`.
    pub async fn post_once(&self, path: &str, key: &str, body: Value) -> Result<Answer> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token);
        Answer::of(request.header("idempotency-key", key).json(&body).send().await?).await
    }

    /// PATCH.
    pub async fn patch(&self, path: &str, body: Value) -> Result<Answer> {
        self.request(Method::PATCH, path, Some(body)).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: Value) -> Result<Answer> {
        self.request(Method::PUT, path, Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.request(Method::DELETE, path, None).await
    }

    /// Makes a group with others in it; gives its id.
    pub async fn make_group(&self, others: &[&Self], extra: Value) -> Result<String> {
        let members: Vec<&str> = others.iter().map(|other| other.user_id.as_str()).collect();
        let mut body = json!({ "is_group": true, "name": "Group", "member_ids": members });
        if let (Value::Object(body), Value::Object(extra)) = (&mut body, extra) {
            body.extend(extra);
        }
        let chat = self.post("/v1/chats", body).await?.expect(201)?;
        Ok(chat["chat_id"].as_str().context("no chat_id")?.to_owned())
    }

    /// Sends a message by HTTP and waits until it is persisted; gives it as the answer shows it.
    pub async fn say(&self, chat_id: &str, content: &str) -> Result<Value> {
        self.post(&format!("/v1/chats/{chat_id}/messages"), json!({ "content": content })).await?.expect(201)
    }

    /// Opens a WebSocket; returns when all chats are announced.
    pub async fn connect(&self) -> Result<Socket> {
        Socket::open(&self.base, &self.token).await
    }
}

impl Answer {
    async fn of(response: reqwest::Response) -> Result<Self> {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        Ok(Self { status, headers, body: serde_json::from_str(&text).unwrap_or_default() })
    }

    /// The body, if the status is the expected one.
    pub fn expect(self, status: u16) -> Result<Value> {
        ensure!(self.status == status, "{} instead of {status}: {}", self.status, self.body);
        Ok(self.body)
    }

    /// Checks that it is problem details with this status, code and field.
    pub fn expect_problem(&self, status: u16, code: &str, field: Option<&str>) -> Result<()> {
        let kind = self.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        ensure!(self.status == status, "{} instead of {status} {code}: {}", self.status, self.body);
        ensure!(self.body["code"] == code, "{} instead of {code}", self.body);
        ensure!(self.body["field"].as_str() == field, "{} instead of field {field:?}", self.body);
        ensure!(kind == "application/problem+json", "content type {kind}");
        ensure!(self.body["type"] == format!("/docs/errors/{code}"), "type {}", self.body["type"]);
        ensure!(self.body["status"] == status && self.body["detail"].is_string(), "{}", self.body);
        ensure!(self.headers.contains_key("request-id"), "no Request-Id");
        Ok(())
    }
}

/// A token of this installation.
pub(super) fn token(config: &Config, user_id: &str, ttl_s: i64) -> Result<String> {
    Ok(ingest::auth::development_token(config, user_id, Some(user_id), ttl_s)?.0)
}
