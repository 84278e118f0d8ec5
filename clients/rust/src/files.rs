//! Files of messages: brought to the store by URLs that the server signs, then looked into, then named by a message.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::{Api, ApiError, Problem};

/// Pauses before the same is asked again.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// For a part of 16 MiB on a slow line.
const BRINGING: Duration = Duration::from_secs(300);
/// What errors call the store: its URLs hold signatures.
const STORE: &str = "of the store";

/// A file for a chat.
#[derive(Debug, Clone, Copy)]
pub struct NewFile<'a> {
    /// The chat that it is for.
    pub chat_id: &'a str,
    /// Its name, for people.
    pub file_name: &'a str,
    /// What it is; absent if that isn't known.
    pub content_type: Option<&'a str>,
    /// All of it.
    pub bytes: &'a [u8],
}

/// An upload as the server has it.
#[derive(Deserialize)]
struct Begun {
    media_id: String,
    /// Nothing where all is there.
    upload: Option<Upload>,
}

#[derive(Deserialize)]
struct Upload {
    url: Option<String>,
    headers: HashMap<String, String>,
    /// Those that are missing.
    parts: Vec<Part>,
    part_bytes: Option<usize>,
}

#[derive(Deserialize)]
struct Part {
    part_number: usize,
    url: String,
}

impl Api {
    /// Brings a file to the store and has it looked into; gives the `media_id` that [`Command::with_attachments`] takes. What is
    /// refused for now or gets no answer is asked again for a while, of a large file only the parts that are missing.
    ///
    /// [`Command::with_attachments`]: crate::Command::with_attachments
    pub async fn upload(&self, token: &str, file: &NewFile<'_>) -> Result<String, ApiError> {
        let begun = self.begin(token, file).await?;
        self.bring_all(token, &begun.media_id, file, begun.upload).await?;
        Ok(begun.media_id)
    }

    /// Only begins an upload: gives its `media_id`, by which [`Api::go_on_with_upload`] brings the file, as often as it takes.
    pub async fn begin_upload(&self, token: &str, file: &NewFile<'_>) -> Result<String, ApiError> {
        Ok(self.begin(token, file).await?.media_id)
    }

    /// Brings what the store doesn't have yet of a file whose upload was begun, and has it looked into. The server keeps what is
    /// there for a day.
    pub async fn go_on_with_upload(&self, token: &str, media_id: &str, file: &NewFile<'_>) -> Result<(), ApiError> {
        let begun = self.begun(token, media_id).await?;
        self.bring_all(token, media_id, file, begun.upload).await
    }

    async fn begin(&self, token: &str, file: &NewFile<'_>) -> Result<Begun, ApiError> {
        let mut wanted =
            json!({ "chat_id": file.chat_id, "file_name": file.file_name, "size_bytes": file.bytes.len() });
        if let Some(content_type) = file.content_type {
            wanted["content_type"] = content_type.into();
        }
        // Without it each try would begin another upload.
        let key = Some(Uuid::new_v4());
        patiently(async || self.request_once(Method::POST, "/v1/media", token, Some(&wanted), key).await).await
    }

    async fn begun(&self, token: &str, media_id: &str) -> Result<Begun, ApiError> {
        let path = format!("/v1/media/{media_id}");
        patiently(async || self.request(Method::GET, &path, token, None).await).await
    }

    /// Brings what is missing and completes it. Where that fails for now, or URLs have ended, the server is asked what is missing.
    async fn bring_all(
        &self,
        token: &str,
        media_id: &str,
        file: &NewFile<'_>,
        mut missing: Option<Upload>,
    ) -> Result<(), ApiError> {
        let complete = format!("/v1/media/{media_id}/complete");
        let mut pauses = PAUSES.into_iter();
        loop {
            let outcome = async {
                self.bring_missing(missing.as_ref(), file).await?;
                self.request::<Value>(Method::POST, &complete, token, None).await
            };
            let Err(error) = outcome.await else { return Ok(()) };
            match pauses.next() {
                Some(pause) if is_for_now(&error) || is_incomplete(&error) => {
                    tokio::time::sleep(error.retry_after().unwrap_or_default().max(pause)).await;
                }
                _ => return Err(error),
            }
            missing = self.begun(token, media_id).await?.upload;
        }
    }

    async fn bring_missing(&self, missing: Option<&Upload>, file: &NewFile<'_>) -> Result<(), ApiError> {
        let Some(Upload { url, headers, parts, part_bytes }) = missing else { return Ok(()) };
        if let Some(url) = url {
            self.bring(url, headers, file.bytes).await?;
        }
        let part_bytes = part_bytes.unwrap_or(file.bytes.len()).max(1);
        for Part { part_number, url } in parts {
            let piece = file.bytes.chunks(part_bytes).nth(part_number.saturating_sub(1)).unwrap_or_default();
            self.bring(url, headers, piece).await?;
        }
        Ok(())
    }

    /// `GET /v1/media/{id}`: what was found of a file, and URLs to read it with for five minutes.
    pub async fn file(&self, token: &str, media_id: &str) -> Result<Value, ApiError> {
        self.request(Method::GET, &format!("/v1/media/{media_id}"), token, None).await
    }

    /// The token doesn't go to the store.
    async fn bring(&self, url: &str, headers: &HashMap<String, String>, bytes: &[u8]) -> Result<(), ApiError> {
        let mut request = self.http().put(url).timeout(BRINGING).body(bytes.to_vec());
        for (name, value) in headers.iter().filter(|(name, _)| *name != "content-length") {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| ApiError::NoAnswer {
            method: Method::PUT,
            path: STORE.into(),
            source: error.without_url(),
        })?;
        if answer.status().is_success() {
            return Ok(());
        }
        let (method, path, status) = (Method::PUT, STORE.to_owned(), answer.status());
        Err(ApiError::Refused { method, path, status, problem: Box::new(Problem::default()) })
    }
}

async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, ApiError>) -> Result<T, ApiError> {
    for pause in PAUSES {
        match ask().await {
            Err(error) if is_for_now(&error) => {
                tokio::time::sleep(error.retry_after().unwrap_or_default().max(pause)).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

fn is_for_now(error: &ApiError) -> bool {
    match error {
        ApiError::NoAnswer { .. } => true,
        ApiError::Refused { status, problem, .. } => {
            let is_busy = matches!(&*problem.code, "media_busy" | "idempotency_key_in_use");
            *status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() || is_busy
        }
    }
}

/// Bytes are missing, or their URLs counted no more: the store says 403, then.
fn is_incomplete(error: &ApiError) -> bool {
    let is_of_store = matches!(error, ApiError::Refused { path, .. } if path == STORE);
    match error {
        ApiError::NoAnswer { .. } => false,
        ApiError::Refused { status, problem, .. } => {
            problem.code == "upload_incomplete" || (is_of_store && *status == StatusCode::FORBIDDEN)
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A gateway that gives these answers, one a connection; what each request has as its key.
    async fn keys_of(gateway: TcpListener, answers: [(&str, &str); 3]) -> Vec<Option<String>> {
        let mut keys = Vec::new();
        for (status, body) in answers {
            let (mut socket, _) = gateway.accept().await.unwrap();
            let mut request = Vec::new();
            // To the end of its body, which is JSON.
            while request.last() != Some(&b'}') {
                assert!(socket.read_buf(&mut request).await.unwrap() > 0, "half a request");
            }
            let request = String::from_utf8(request).unwrap();
            keys.push(request.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).map(str::to_owned));
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
        keys
    }

    #[tokio::test]
    async fn an_upload_that_is_begun_again_is_the_same() {
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Api::new(&format!("http://{}", gateway.local_addr().unwrap()));
        let asked = tokio::spawn(keys_of(
            gateway,
            [
                ("503 Service Unavailable", "{}"),
                ("409 Conflict", r#"{"code":"idempotency_key_in_use"}"#),
                ("201 Created", r#"{"media_id":"m","upload":null}"#),
            ],
        ));
        let file = NewFile { chat_id: "c", file_name: "a", content_type: None, bytes: b"hello" };
        assert_eq!(api.begin_upload("token", &file).await.unwrap(), "m");
        let keys = asked.await.unwrap();
        assert!(keys[0].is_some() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

    #[test]
    fn what_is_refused_for_good_is_not_asked_again() {
        let refused = |status: u16, code: &str| ApiError::Refused {
            method: Method::POST,
            path: String::new(),
            status: StatusCode::from_u16(status).unwrap(),
            problem: Box::new(Problem { code: code.into(), ..Problem::default() }),
        };
        for (status, code, expected) in [
            (422, "media_refused", false),
            (409, "upload_incomplete", false),
            (403, "", false),
            (409, "media_busy", true),
            (409, "idempotency_key_in_use", true),
            (429, "rate_limited", true),
            (503, "unavailable", true),
        ] {
            assert_eq!(is_for_now(&refused(status, code)), expected, "{status} {code}");
        }
    }
}
