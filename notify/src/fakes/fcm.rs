//! FCM HTTP v1 and Google's token endpoint: verifies the assertion, the access token and the message.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, Response};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use runtime::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::server::{Instead, Provider, Script, Server, Tls, field, json as answer, listener, now_ms};
use crate::provider::HttpOptions;
use crate::provider::fcm::FcmConfig;

const PROJECT: &str = "myproject-b5ae1";
const ACCOUNT: &str = "sender@myproject-b5ae1.iam.gserviceaccount.com";
const KEY: &str = "0123456789abcdef";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// What was accepted for a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// To which device.
    pub device: String,
    /// The `message` without its token.
    pub message: Value,
}

/// A fake FCM, with Google's token endpoint.
pub struct FcmFake {
    server: Server,
    script: Script,
    state: Arc<State>,
    tls: Tls,
    key_pem: String,
}

struct State {
    token_uri: String,
    public_key: DecodingKey,
    /// Access tokens that are good, and how many were given out in all.
    tokens: Mutex<(HashSet<String>, usize)>,
    gone: Mutex<HashSet<String>>,
    accepted: watch::Sender<Vec<Sent>>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    scope: String,
    iat: i64,
    exp: i64,
}

impl FcmFake {
    /// Starts one.
    pub async fn start() -> Self {
        let tls = Tls::new();
        let listener = listener().await;
        let port = listener.local_addr().expect("an address").port();
        let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let state = Arc::new(State::new(&key, format!("https://localhost:{port}/token")));
        let script = Script::default();
        let server = Server::start(&tls, listener, Arc::clone(&state) as Arc<dyn Provider>, script.clone());
        let der: Pkcs8V1Der<'static> = key.as_der().expect("PKCS #8");
        Self { server, script, state, tls, key_pem: pem(der.as_ref()) }
    }

    /// How to reach it.
    pub fn config(&self) -> FcmConfig {
        let account = json!({
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": KEY,
            "private_key": self.key_pem,
            "client_email": ACCOUNT,
            "client_id": "1",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": self.state.token_uri,
        });
        FcmConfig {
            endpoint: self.server.url(),
            service_account: Secret::new(account.to_string()),
            http: HttpOptions::new(self.tls.client(), now_ms),
        }
    }

    /// Its certificate, for whoever trusts files.
    pub fn ca_pem(&self) -> &str {
        self.tls.pem()
    }

    /// The next request, to either endpoint, meets this.
    pub fn next(&self, instead: Instead) {
        self.script.add(instead);
    }

    /// A device is gone.
    pub fn unregister(&self, device: &str) {
        self.state.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(device.to_owned());
    }

    /// Withdraws all access tokens.
    pub fn revoke(&self) {
        self.state.tokens.lock().unwrap_or_else(PoisonError::into_inner).0.clear();
    }

    /// How many access tokens were given out.
    pub fn tokens(&self) -> usize {
        self.state.tokens.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// What was accepted so far.
    pub fn accepted(&self) -> Vec<Sent> {
        self.state.accepted.borrow().clone()
    }

    /// Waits until so many were accepted.
    pub async fn wait_for(&self, count: usize) -> Vec<Sent> {
        let mut accepted = self.state.accepted.subscribe();
        accepted.wait_for(|accepted| accepted.len() >= count).await.map(|accepted| accepted.clone()).unwrap_or_default()
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

impl Provider for State {
    fn answer(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        let (status, body) = if request.uri().path() == "/token" {
            self.exchange(request, now_ms() / 1_000)
        } else {
            self.send(request)
        };
        answer(status, &body)
    }
}

impl State {
    fn new(key: &KeyPair, token_uri: String) -> Self {
        Self {
            token_uri,
            public_key: DecodingKey::from_rsa_der(key.public_key().as_ref()),
            tokens: Mutex::default(),
            gone: Mutex::default(),
            accepted: watch::Sender::default(),
        }
    }

    /// RFC 7523, and Google's "Using OAuth 2.0 for server to server applications".
    fn exchange(&self, request: &Request<Bytes>, now_s: i64) -> (u16, Value) {
        let refuse = |error: &str| (400, json!({ "error": error, "error_description": "Invalid JWT." }));
        let form: HashMap<String, String> = reqwest::Url::parse("http://form/")
            .map(|mut url| {
                url.set_query(std::str::from_utf8(request.body()).ok());
                url.query_pairs().into_owned().collect()
            })
            .unwrap_or_default();
        if form.get("grant_type").map(String::as_str) != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
            return refuse("unsupported_grant_type");
        }
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[&self.token_uri]);
        // Judged by the time given.
        validation.validate_exp = false;
        let assertion = form.get("assertion").map(String::as_str).unwrap_or_default();
        let kid = jsonwebtoken::decode_header(assertion).ok().and_then(|header| header.kid);
        let Ok(decoded) = jsonwebtoken::decode::<Claims>(assertion, &self.public_key, &validation) else {
            return refuse("invalid_grant");
        };
        let claims = decoded.claims;
        let is_in_time = claims.exp > now_s && claims.exp - claims.iat <= 3_600 && claims.iat <= now_s + 300;
        if kid.as_deref() != Some(KEY) || claims.iss != ACCOUNT || !is_in_time {
            return refuse("invalid_grant");
        }
        if claims.scope != SCOPE {
            return refuse("invalid_scope");
        }
        let token = format!("ya29.{}", Uuid::new_v4().simple());
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.0.insert(token.clone());
        tokens.1 += 1;
        (200, json!({ "access_token": token, "scope": SCOPE, "token_type": "Bearer", "expires_in": 3_599 }))
    }

    fn send(&self, request: &Request<Bytes>) -> (u16, Value) {
        if request.method() != Method::POST || request.uri().path() != format!("/v1/projects/{PROJECT}/messages:send") {
            return refusal(404, "NOT_FOUND", None, "Not found.");
        }
        let token = field(request, "authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !self.tokens.lock().unwrap_or_else(PoisonError::into_inner).0.contains(token) {
            return refusal(401, "UNAUTHENTICATED", None, "Request had invalid authentication credentials.");
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let mut message = body["message"].clone();
        if let Err(wrong) = check(&message) {
            let violation = json!([{
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{ "field": wrong, "description": "Invalid value" }],
            }]);
            return refusal(400, "INVALID_ARGUMENT", Some(violation), "Invalid value.");
        }
        let device = message["token"].as_str().unwrap_or_default().to_owned();
        if device.len() < 8 {
            return refusal(400, "INVALID_ARGUMENT", Some(code("INVALID_ARGUMENT")), INVALID_TOKEN);
        }
        if self.gone.lock().unwrap_or_else(PoisonError::into_inner).contains(&device) {
            return refusal(404, "NOT_FOUND", Some(code("UNREGISTERED")), "Requested entity was not found.");
        }
        if let Some(message) = message.as_object_mut() {
            message.remove("token");
        }
        self.accepted.send_modify(|accepted| accepted.push(Sent { device, message }));
        (200, json!({ "name": format!("projects/{PROJECT}/messages/0:1500415314455276%31bd1c9631bd1c96") }))
    }
}

const INVALID_TOKEN: &str = "The registration token is not a valid FCM registration token";

fn code(code: &str) -> Value {
    json!([{ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code }])
}

fn refusal(status: u16, name: &str, details: Option<Value>, message: &str) -> (u16, Value) {
    let mut error = json!({ "code": status, "message": message, "status": name });
    if let Some(details) = details {
        error["details"] = details;
    }
    (status, json!({ "error": error }))
}

/// The types of the fields that are used; the error is the field at fault.
fn check(message: &Value) -> Result<(), &'static str> {
    let fits = |is_right: bool, field: &'static str| if is_right { Ok(()) } else { Err(field) };
    let is_text_or_none = |value: &Value| value.is_null() || value.is_string();
    fits(message["token"].is_string(), "message.token")?;
    let data = message["data"].as_object();
    fits(message["data"].is_null() || data.is_some_and(|data| data.values().all(Value::is_string)), "message.data")?;
    fits(message.to_string().len() <= 4_096 + 512, "message")?;
    let android = &message["android"];
    let priority = &android["priority"];
    fits(priority.is_null() || *priority == "HIGH" || *priority == "NORMAL", "message.android.priority")?;
    let ttl = android["ttl"].as_str().map_or(Some(0), |ttl| ttl.strip_suffix('s')?.parse::<u32>().ok());
    fits(ttl.is_some_and(|ttl| ttl <= 2_419_200), "message.android.ttl")?;
    fits(is_text_or_none(&android["collapse_key"]), "message.android.collapse_key")?;
    let shown = &android["notification"];
    for field in ["title", "body", "body_loc_key", "tag", "channel_id"] {
        fits(is_text_or_none(&shown[field]), "message.android.notification")?;
    }
    let count = &shown["notification_count"];
    fits(count.is_null() || count.is_u64(), "message.android.notification.notification_count")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let state =
            State::new(&KeyPair::generate(KeySize::Rsa2048).unwrap(), "https://oauth2.googleapis.com/token".into());
        state.tokens.lock().unwrap().0.insert("good".into());
        state
    }

    fn request(body: &str) -> Request<Bytes> {
        Request::post("https://fcm.googleapis.com/v1/projects/myproject-b5ae1/messages:send")
            .header("content-type", "application/json")
            .header("authorization", "Bearer good")
            .body(Bytes::from(body.to_owned()))
            .unwrap()
    }

    /// "Send a message using FCM HTTP v1 API".
    #[test]
    fn googles_example_is_accepted_and_answered_as_shown() {
        let state = state();
        let (status, body) = state.send(&request(
            r#"{ "message":{ "token":"bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1...", "notification":{
                "body":"This is an FCM notification message!", "title":"FCM Message" } } }"#,
        ));
        assert_eq!(status, 200);
        assert_eq!(body["name"], "projects/myproject-b5ae1/messages/0:1500415314455276%31bd1c9631bd1c96");
        assert_eq!(state.accepted.borrow().len(), 1);
    }

    #[test]
    fn faults_are_refused_with_googles_codes() {
        let state = state();
        let (status, body) = state.send(&request(r#"{"message":{"token":"short"}}"#));
        assert_eq!((status, &body["error"]["message"]), (400, &json!(INVALID_TOKEN)));
        state.gone.lock().unwrap().insert("gone-device".into());
        let (status, body) = state.send(&request(r#"{"message":{"token":"gone-device"}}"#));
        assert_eq!((status, &body["error"]["details"][0]["errorCode"]), (404, &json!("UNREGISTERED")));
        let (status, body) = state.send(&request(r#"{"message":{"token":"long-enough","data":{"seq":5}}}"#));
        assert_eq!(
            (status, &body["error"]["details"][0]["fieldViolations"][0]["field"]),
            (400, &json!("message.data"))
        );
        let mut other = request("{}");
        other.headers_mut().insert("authorization", "Bearer other".parse().unwrap());
        assert_eq!(state.send(&other).0, 401);
    }
}
