//! APNs: HTTP/2 with a provider token (ES256). Source: Apple, "Establishing a token-based connection to APNs", "Sending
//! notification requests to APNs", "Handling notification responses from APNs".

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Client, StatusCode};
use runtime::Secret;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::http::{self, Answer, Clock, HttpOptions};
use super::{Fault, Outcome, SetupError, plain};
use crate::payload::{ApnsPriority, ApnsPush};

/// Apple's service for apps from the store.
pub const PRODUCTION: &str = "https://api.push.apple.com";
/// For apps under development.
pub const SANDBOX: &str = "https://api.sandbox.push.apple.com";

/// A token is used for this long. Apple refuses those over an hour old.
const TOKEN_LIFE: Duration = Duration::from_mins(40);
/// Apple refuses new tokens more often than each 20 minutes.
const TOKEN_SPACING: Duration = Duration::from_mins(20);
/// Largest payload, in bytes.
const MOST_BYTES: usize = 4_096;

/// An operator's account.
#[derive(Debug, Clone)]
pub struct ApnsConfig {
    /// [`PRODUCTION`] or [`SANDBOX`].
    pub endpoint: String,
    /// The app's bundle id.
    pub topic: String,
    /// Of Apple's developer account, ten characters.
    pub team_id: String,
    /// Of the key, ten characters.
    pub key_id: String,
    /// The content of the `.p8` file.
    pub key: Secret,
    /// How to get there.
    pub http: HttpOptions,
}

/// Sends to Apple's devices.
pub struct Apns {
    endpoint: String,
    topic: String,
    team_id: String,
    key_id: String,
    key: EncodingKey,
    client: Client,
    clock: Clock,
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    text: String,
    made_at: Instant,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: i64,
}

/// Apple's explanation.
#[derive(Deserialize)]
struct Explanation {
    reason: String,
    /// Since when a device is gone, in milliseconds since 1970.
    timestamp: Option<i64>,
}

impl fmt::Debug for Apns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Apns")
            .field("endpoint", &self.endpoint)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Apns {
    /// Sets it up; connects with the first notification.
    pub fn new(config: &ApnsConfig) -> Result<Self, SetupError> {
        let key = EncodingKey::from_ec_pem(config.key.expose().as_bytes())
            .map_err(|_| SetupError::Key { provider: "APNs", reason: "it isn't a PKCS #8 PEM of a P-256 key" })?;
        if !config.endpoint.starts_with("https://") {
            return Err(SetupError::Setting { provider: "APNs", reason: "the endpoint begins with https://".into() });
        }
        Ok(Self {
            endpoint: config.endpoint.trim_end_matches('/').to_owned(),
            topic: config.topic.clone(),
            team_id: config.team_id.clone(),
            key_id: config.key_id.clone(),
            key,
            client: config.http.builder(true).build().map_err(SetupError::Http)?,
            clock: config.http.clock,
            token: Mutex::default(),
        })
    }

    /// Sends to one device, named by its token (hexadecimal).
    pub async fn send(&self, device: &Secret, push: &ApnsPush) -> Outcome {
        // It becomes a part of the path.
        if device.is_empty() || !device.expose().bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Outcome::Refused { reason: "the device's token isn't hexadecimal".into() };
        }
        let payload = push.payload.to_string();
        if payload.len() > MOST_BYTES {
            return Outcome::Refused { reason: "the payload is too large".into() };
        }
        let Some(token) = self.token(Instant::now(), None) else { return no_token() };
        let answer = match self.ask(device, push, &payload, &token).await {
            Ok(answer) => answer,
            Err(fault) => return Outcome::Retry { after: None, fault },
        };
        if reason_of(&answer) != "ExpiredProviderToken" {
            return outcome(&answer);
        }
        // A clock that is off, or the machine slept: once more with a new one, if it may be made already.
        match self.token(Instant::now(), Some(&token)) {
            None => no_token(),
            Some(same) if same == token => outcome(&answer),
            Some(token) => match self.ask(device, push, &payload, &token).await {
                Ok(answer) => outcome(&answer),
                Err(fault) => Outcome::Retry { after: None, fault },
            },
        }
    }

    async fn ask(&self, device: &Secret, push: &ApnsPush, payload: &str, token: &str) -> Result<Answer, Fault> {
        let priority = match push.priority {
            ApnsPriority::Now => "10",
            ApnsPriority::Saving => "5",
        };
        let request = self
            .client
            .post(format!("{}/3/device/{}", self.endpoint, device.expose()))
            .bearer_auth(token)
            .header("apns-topic", &self.topic)
            .header("apns-push-type", "alert")
            .header("apns-priority", priority)
            .header("apns-expiration", push.expires_at_s)
            .header("apns-collapse-id", &push.collapse_id)
            .header("content-type", "application/json")
            .body(payload.to_owned());
        http::ask(request, self.clock).await
    }

    /// The token in use, or a new one where that is old, or was refused and isn't too young.
    fn token(&self, now: Instant, refused: Option<&str>) -> Option<String> {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = token.as_ref() {
            let most = if refused == Some(&token.text) { TOKEN_SPACING } else { TOKEN_LIFE };
            if now.saturating_duration_since(token.made_at) < most {
                return Some(token.text.clone());
            }
        }
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        let claims = Claims { iss: &self.team_id, iat: (self.clock)() / 1_000 };
        let text = jsonwebtoken::encode(&header, &claims, &self.key).ok()?;
        *token = Some(Token { text: text.clone(), made_at: now });
        Some(text)
    }
}

fn no_token() -> Outcome {
    Outcome::Retry { after: None, fault: Fault::Credentials("no token can be signed".into()) }
}

fn reason_of(answer: &Answer) -> String {
    let explained = answer.json::<Explanation>().and_then(|explanation| plain(&explanation.reason));
    explained.unwrap_or_else(|| answer.status.as_u16().to_string())
}

fn outcome(answer: &Answer) -> Outcome {
    let retry = |fault| Outcome::Retry { after: answer.retry_after(), fault };
    let reason = reason_of(answer);
    match answer.status {
        StatusCode::OK => {
            let id = answer.headers.get("apns-id").and_then(|id| id.to_str().ok()).and_then(plain);
            Outcome::Sent { id }
        }
        // BadDeviceToken (400) isn't here: it is also what all devices get where the environment is set wrong.
        StatusCode::GONE => {
            Outcome::Gone { since_ms: answer.json::<Explanation>().and_then(|explanation| explanation.timestamp) }
        }
        StatusCode::TOO_MANY_REQUESTS => retry(Fault::Limited(reason)),
        StatusCode::FORBIDDEN => retry(Fault::Credentials(reason)),
        status if status.is_server_error() => retry(Fault::Unavailable(reason)),
        _ => Outcome::Refused { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::Tls;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

    fn config() -> ApnsConfig {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        ApnsConfig {
            endpoint: PRODUCTION.into(),
            topic: "example.chat".into(),
            team_id: "DEF123GHIJ".into(),
            key_id: "ABC123DEFG".into(),
            key: Secret::new(key.serialize_pem()),
            http: HttpOptions::new(Tls::new().client(), || 1_790_000_000_000),
        }
    }

    #[test]
    fn a_token_is_renewed_between_20_and_60_minutes() {
        let apns = Apns::new(&config()).unwrap();
        let start = Instant::now();
        let after = |minutes| start + Duration::from_mins(minutes);
        let first = apns.token(start, None).unwrap();
        assert_eq!(apns.token(after(39), None).unwrap(), first);
        // Refused: not before its 20 minutes are over, then at once.
        assert_eq!(apns.token(after(19), Some(&first)).unwrap(), first);
        let second = apns.token(after(20), Some(&first)).unwrap();
        assert_ne!(second, first);
        // Whoever was refused with the one before takes the new one.
        assert_eq!(apns.token(after(21), Some(&first)).unwrap(), second);
        assert_eq!(apns.token(after(59), None).unwrap(), second);
        assert_ne!(apns.token(after(60), None).unwrap(), second);
    }

    #[test]
    fn keys_are_nowhere_to_be_seen_and_broken_ones_are_refused() {
        let config = config();
        assert!(!format!("{config:?} {:?}", Apns::new(&config).unwrap()).contains("PRIVATE"));
        let broken = ApnsConfig { key: Secret::new("secret-words"), ..config.clone() };
        let error = Apns::new(&broken).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret-words"));
        assert!(Apns::new(&ApnsConfig { endpoint: "http://x".into(), ..config }).is_err());
    }
}
