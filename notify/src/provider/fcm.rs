//! FCM HTTP v1 with a service account: a JWT (RS256) is changed for an OAuth token, which is kept until shortly before its
//! end. Source: Firebase, "REST Resource: projects.messages" and "ErrorCode"; Google, "Using OAuth 2.0 for server to server
//! applications"; RFC 7523.

use std::fmt;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Client, StatusCode};
use runtime::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::http::{self, Answer, Clock, HttpOptions};
use super::{Fault, Outcome, SetupError, plain};
use crate::payload::FcmPush;

/// Google's service.
pub const ENDPOINT: &str = "https://fcm.googleapis.com";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// A token isn't used in its last minutes.
const TOKEN_MARGIN: Duration = Duration::from_mins(5);
/// Firebase's advice where a limit is exceeded and no `Retry-After` says better.
const LIMITED: Duration = Duration::from_mins(1);

/// An operator's account.
#[derive(Debug, Clone)]
pub struct FcmConfig {
    /// [`ENDPOINT`].
    pub endpoint: String,
    /// The content of the service account's JSON file.
    pub service_account: Secret,
    /// How to get there.
    pub http: HttpOptions,
}

/// What is needed of the file.
#[derive(Deserialize)]
struct ServiceAccount {
    project_id: String,
    private_key_id: String,
    private_key: String,
    client_email: String,
    token_uri: String,
}

/// Sends to Android devices.
pub struct Fcm {
    url: String,
    account: ServiceAccount,
    key: EncodingKey,
    client: Client,
    clock: Clock,
    /// Held by whoever fetches one.
    token: Mutex<Tokens>,
}

#[derive(Default)]
struct Tokens {
    token: Option<Token>,
    /// When fetching one failed last, and what came of it.
    failed: Option<(Instant, Outcome)>,
}

#[derive(Clone)]
struct Token {
    text: String,
    until: Instant,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: u64,
}

impl fmt::Debug for Fcm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Fcm").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Fcm {
    /// Sets it up; connects with the first notification.
    pub fn new(config: &FcmConfig) -> Result<Self, SetupError> {
        let broken = |reason| SetupError::Key { provider: "FCM", reason };
        let mut account: ServiceAccount = serde_json::from_str(config.service_account.expose())
            .map_err(|_| broken("it isn't the JSON of a service account"))?;
        let key = EncodingKey::from_rsa_pem(account.private_key.as_bytes())
            .map_err(|_| broken("private_key isn't a PEM of an RSA key"))?;
        account.private_key.clear();
        for url in [&config.endpoint, &account.token_uri] {
            if !url.starts_with("https://") {
                return Err(SetupError::Setting { provider: "FCM", reason: "addresses begin with https://".into() });
            }
        }
        let endpoint = config.endpoint.trim_end_matches('/');
        Ok(Self {
            url: format!("{endpoint}/v1/projects/{}/messages:send", account.project_id),
            key,
            client: config.http.builder(false).build().map_err(SetupError::Http)?,
            clock: config.http.clock,
            account,
            token: Mutex::default(),
        })
    }

    /// Gets a token of Google's for the service account, and sends nothing.
    pub async fn check(&self) -> Result<(), Fault> {
        match self.token(None).await {
            Ok(_) | Err(Outcome::Sent { .. } | Outcome::Gone { .. }) => Ok(()),
            Err(Outcome::Retry { fault, .. }) => Err(fault),
            Err(Outcome::Refused { reason }) => Err(Fault::Credentials(reason)),
        }
    }

    /// Sends to one device, named by its registration token.
    pub async fn send(&self, device: &Secret, push: &FcmPush) -> Outcome {
        let mut message = push.message.clone();
        message["token"] = device.expose().into();
        let body = json!({ "message": message });
        let mut refused = None;
        loop {
            let token = match self.token(refused.as_deref()).await {
                Ok(token) => token,
                Err(outcome) => return outcome,
            };
            let request = self.client.post(&self.url).bearer_auth(&token).json(&body);
            let answer = match http::ask(request, self.clock).await {
                Ok(answer) => answer,
                Err(fault) => return Outcome::Retry { after: None, fault },
            };
            // Withdrawn before its end: once more with another one.
            if answer.status == StatusCode::UNAUTHORIZED && refused.is_none() {
                refused = Some(token);
                continue;
            }
            return outcome(&answer);
        }
    }

    /// The token in use, or a new one where that is old or was refused. One fetches for all who wait, and who waited while that
    /// failed fails with it: one after another they would wait for a token for as long as for all of them.
    async fn token(&self, refused: Option<&str>) -> Result<String, Outcome> {
        let began = Instant::now();
        let mut tokens = self.token.lock().await;
        if let Some(token) = tokens.token.as_ref()
            && Instant::now() < token.until
            && refused != Some(&token.text)
        {
            return Ok(token.text.clone());
        }
        if let Some((_, outcome)) = tokens.failed.as_ref().filter(|(at, _)| *at >= began) {
            return Err(outcome.clone());
        }
        match self.fetch_token().await {
            Ok(fetched) => {
                let life = Duration::from_secs(fetched.expires_in).saturating_sub(TOKEN_MARGIN);
                tokens.token = Some(Token { text: fetched.access_token.clone(), until: Instant::now() + life });
                Ok(fetched.access_token)
            }
            Err(outcome) => {
                tokens.failed = Some((Instant::now(), outcome.clone()));
                Err(outcome)
            }
        }
    }

    async fn fetch_token(&self) -> Result<TokenAnswer, Outcome> {
        let now_s = (self.clock)() / 1_000;
        let header = Header { kid: Some(self.account.private_key_id.clone()), ..Header::new(Algorithm::RS256) };
        let (iss, aud) = (self.account.client_email.as_str(), self.account.token_uri.as_str());
        let claims = Claims { iss, scope: SCOPE, aud, iat: now_s, exp: now_s + 3_600 };
        let retry = |after, fault| Outcome::Retry { after, fault };
        let assertion = jsonwebtoken::encode(&header, &claims, &self.key)
            .map_err(|_| retry(None, Fault::Credentials("no assertion can be signed".into())))?;
        let request = self.client.post(aud).form(&[("grant_type", GRANT), ("assertion", &assertion)]);
        // Nothing was sent to a device yet, whatever became of this.
        let answer = http::ask(request, self.clock)
            .await
            .map_err(|fault| retry(None, Fault::Unreachable(format!("Google's tokens: {fault}"))))?;
        if answer.status.is_success() {
            let found: Option<TokenAnswer> = answer.json();
            return found.ok_or_else(|| retry(None, Fault::Unavailable("the token's answer can't be read".into())));
        }
        let word = answer.json::<Value>().and_then(|body| plain(body["error"].as_str()?));
        let word = word.unwrap_or_else(|| answer.status.as_u16().to_string());
        let is_passing = answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS;
        let fault = if is_passing { Fault::Unavailable(word) } else { Fault::Credentials(word) };
        Err(retry(answer.retry_after(), fault))
    }
}

/// FCM's own code (`details[].errorCode`), else Google's (`status`), else the number; and whether the token is blamed.
fn reason_of(answer: &Answer) -> (String, bool) {
    let body: Value = answer.json().unwrap_or_default();
    let details = body["error"]["details"].as_array().cloned().unwrap_or_default();
    let code = details.iter().find_map(|detail| plain(detail["errorCode"].as_str()?));
    let status = || body["error"]["status"].as_str().and_then(plain);
    let reason = code.or_else(status).unwrap_or_else(|| answer.status.as_u16().to_string());
    (reason, blames_token(&body["error"]))
}

fn outcome(answer: &Answer) -> Outcome {
    let retry = |after, fault| Outcome::Retry { after, fault };
    let after = answer.retry_after();
    if answer.status == StatusCode::OK {
        // projects/<project>/messages/<id>
        let name = answer.json::<Value>().and_then(|body| body["name"].as_str().map(str::to_owned));
        let id = name.and_then(|name| plain(&name.rsplit('/').next().unwrap_or_default().replace([':', '%'], "-")));
        return Outcome::Sent { id };
    }
    let (reason, is_token) = reason_of(answer);
    match (answer.status, reason.as_str()) {
        (_, "UNREGISTERED") => Outcome::Gone { since_ms: None },
        // Firebase: an invalid argument means a broken token where the payload is known to be right.
        (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT") if is_token => Outcome::Gone { since_ms: None },
        (StatusCode::TOO_MANY_REQUESTS, _) => retry(after.or(Some(LIMITED)), Fault::Limited(reason)),
        (StatusCode::UNAUTHORIZED, _) | (StatusCode::FORBIDDEN, "PERMISSION_DENIED") => {
            retry(after, Fault::Credentials(reason))
        }
        (status, _) if status.is_server_error() => retry(after, Fault::Unavailable(reason)),
        _ => Outcome::Refused { reason },
    }
}

fn blames_token(error: &Value) -> bool {
    let violations =
        error["details"].as_array().into_iter().flatten().filter_map(|detail| detail["fieldViolations"].as_array());
    violations.flatten().any(|violation| violation["field"] == "message.token")
        || error["message"] == "The registration token is not a valid FCM registration token"
}
