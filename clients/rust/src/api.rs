//! HTTP, as far as a client needs it: chats, members, messages, pages of history.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// The gateway over HTTP, for any number of people. Clones share connections.
#[derive(Debug, Clone)]
pub struct Api {
    url: String,
    client: reqwest::Client,
}

/// Why a request gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It may or may not have happened.
    #[error("{method} {path} got no answer")]
    NoAnswer {
        /// Method.
        method: Method,
        /// Path.
        path: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It was refused.
    #[error("{method} {path} was refused with {status} {}: {}", .problem.code, .problem.detail)]
    Refused {
        /// Method.
        method: Method,
        /// Path.
        path: String,
        /// HTTP status.
        status: StatusCode,
        /// The problem details.
        problem: Box<Problem>,
    },
}

/// Problem details, as far as programs look at them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Stable name.
    pub code: String,
    /// For people.
    pub detail: String,
    /// Which field is wrong.
    pub field: Option<String>,
    /// When to try again.
    pub retry_after_ms: Option<u64>,
}

impl ApiError {
    /// The stable name of what was refused; empty without an answer.
    pub fn code(&self) -> &str {
        match self {
            Self::NoAnswer { .. } => "",
            Self::Refused { problem, .. } => &problem.code,
        }
    }

    /// How long to wait before the same request may succeed.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { status, problem, .. } if matches!(status.as_u16(), 429 | 503) => {
                Some(Duration::from_millis(problem.retry_after_ms.unwrap_or(1_000)))
            }
            _ => None,
        }
    }
}

/// A chat to make.
#[derive(Debug, Clone, Default)]
pub struct NewChat<'a> {
    /// Its id; made by the server if absent.
    pub chat_id: Option<&'a str>,
    /// Its name.
    pub name: Option<&'a str>,
    /// Who is in it, beside its maker.
    pub member_ids: Vec<&'a str>,
    /// A group; else a chat of two.
    pub is_group: bool,
    /// Whether those who join later see what was before; the server's default if absent.
    pub history_for_new_members: Option<bool>,
}

/// A page of history.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Page {
    /// Messages, ascending by `message_seq`.
    pub messages: Vec<Value>,
    /// What is newer than this comes as events.
    pub as_of_seq: i64,
    /// Older ones exist.
    pub has_more_before: bool,
    /// Newer ones exist.
    pub has_more_after: bool,
}

/// Which page of a chat's history.
#[derive(Debug, Clone, Copy)]
pub enum At {
    /// The newest.
    Latest,
    /// Before a `seq`.
    Before(i64),
    /// After a `seq`.
    After(i64),
    /// Around a `seq`.
    Around(i64),
}

impl Api {
    /// Of the gateway at `http://host:port` or `https://host`.
    pub fn new(url: &str) -> Self {
        crate::install_provider();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap_or_default();
        Self { url: url.trim_end_matches('/').to_owned(), client }
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.client
    }

    /// `POST /v1/chats`; the chat with its `chat_id` and `seq`.
    pub async fn create_chat(&self, token: &str, chat: &NewChat<'_>) -> Result<Value, ApiError> {
        let mut body = json!({ "is_group": chat.is_group, "member_ids": chat.member_ids });
        if let Some(fields) = body.as_object_mut() {
            let named = [("chat_id", chat.chat_id), ("name", chat.name)];
            fields.extend(named.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))));
            fields
                .extend(chat.history_for_new_members.map(|shown| ("history_for_new_members".to_owned(), shown.into())));
        }
        self.request(Method::POST, "/v1/chats", token, Some(&body)).await
    }

    /// `GET /v1/chats/{id}/members`.
    pub async fn members(&self, token: &str, chat_id: &str) -> Result<Value, ApiError> {
        self.request(Method::GET, &format!("/v1/chats/{chat_id}/members"), token, None).await
    }

    /// `POST /v1/chats/{id}/messages`: answered once persisted.
    pub async fn send(&self, token: &str, chat_id: &str, message_id: Uuid, content: &str) -> Result<Value, ApiError> {
        let body = json!({ "message_id": message_id, "content": content });
        self.request(Method::POST, &format!("/v1/chats/{chat_id}/messages"), token, Some(&body)).await
    }

    /// `GET /v1/chats/{id}/messages`: one page.
    pub async fn page(&self, token: &str, chat_id: &str, at: At, limit: u32) -> Result<Page, ApiError> {
        let place = match at {
            At::Latest => String::new(),
            At::Before(seq) => format!("&before_seq={seq}"),
            At::After(seq) => format!("&after_seq={seq}"),
            At::Around(seq) => format!("&around_seq={seq}"),
        };
        let path = format!("/v1/chats/{chat_id}/messages?limit={limit}{place}");
        self.request(Method::GET, &path, token, None).await
    }

    /// Any request; its JSON answer as `T`.
    pub async fn request<T: for<'de> Deserialize<'de>>(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<T, ApiError> {
        self.request_once(method, path, token, body, None).await
    }

    /// The same. What is asked again with the same `Idempotency-Key` happens once.
    pub(crate) async fn request_once<T: for<'de> Deserialize<'de>>(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
        key: Option<Uuid>,
    ) -> Result<T, ApiError> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key.to_string());
        }
        let no_answer = |source| ApiError::NoAnswer { method: method.clone(), path: path.to_owned(), source };
        let response = request.send().await.map_err(no_answer)?;
        let status = response.status();
        if status.is_success() {
            let bytes = response.bytes().await.map_err(no_answer)?;
            // An answer without a body, such as 204, is null.
            let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
            return serde_json::from_slice(text).map_err(|error| ApiError::Refused {
                method,
                path: path.to_owned(),
                status,
                problem: Box::new(Problem {
                    detail: format!("the answer isn't understood: {error}"),
                    ..Problem::default()
                }),
            });
        }
        let problem = response.json().await.unwrap_or_default();
        Err(ApiError::Refused { method, path: path.to_owned(), status, problem: Box::new(problem) })
    }
}
