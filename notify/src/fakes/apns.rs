//! APNs: verifies the provider token, header fields and payload as Apple's documentation has them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, Response, Version};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use runtime::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::server::{Instead, Provider, Script, Server, Tls, field, json as answer, listener, now_ms};
use crate::provider::HttpOptions;
use crate::provider::apns::ApnsConfig;

const TEAM: &str = "DEF123GHIJ";
const KEY: &str = "ABC123DEFG";
const TOPIC: &str = "com.example.MyApp";

/// What was accepted for a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// To which device.
    pub device: String,
    /// Header fields that begin with `apns-`.
    pub fields: HashMap<String, String>,
    /// What it gets.
    pub payload: Value,
    /// The provider token that it was sent with.
    pub token: String,
}

/// A fake APNs.
pub struct ApnsFake {
    server: Server,
    script: Script,
    state: Arc<State>,
    tls: Tls,
    key: KeyPair,
}

struct State {
    public_key: DecodingKey,
    gone: Mutex<HashMap<String, i64>>,
    accepted: watch::Sender<Vec<Notification>>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    iat: i64,
}

impl ApnsFake {
    /// Starts one.
    pub async fn start() -> Self {
        let tls = Tls::new();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let state = Arc::new(State::new(&key));
        let script = Script::default();
        let server = Server::start(&tls, listener().await, Arc::clone(&state) as Arc<dyn Provider>, script.clone());
        Self { server, script, state, tls, key }
    }

    /// How to reach it.
    pub fn config(&self) -> ApnsConfig {
        ApnsConfig {
            endpoint: self.server.url(),
            topic: TOPIC.into(),
            team_id: TEAM.into(),
            key_id: KEY.into(),
            key: Secret::new(self.key.serialize_pem()),
            http: HttpOptions::new(self.tls.client(), now_ms),
        }
    }

    /// Its certificate, for whoever trusts files.
    pub fn ca_pem(&self) -> &str {
        self.tls.pem()
    }

    /// The next request meets this.
    pub fn next(&self, instead: Instead) {
        self.script.add(instead);
    }

    /// How many of these no request has met yet.
    pub fn unmet(&self) -> usize {
        self.script.len()
    }

    /// A device is gone since then, in milliseconds since 1970.
    pub fn unregister(&self, device: &str, since_ms: i64) {
        self.state.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(device.to_owned(), since_ms);
    }

    /// What was accepted so far.
    pub fn accepted(&self) -> Vec<Notification> {
        self.state.accepted.borrow().clone()
    }

    /// Waits until so many were accepted.
    pub async fn wait_for(&self, count: usize) -> Vec<Notification> {
        let mut accepted = self.state.accepted.subscribe();
        accepted.wait_for(|accepted| accepted.len() >= count).await.map(|accepted| accepted.clone()).unwrap_or_default()
    }
}

impl Provider for State {
    fn answer(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        match self.judge(request, now_ms()) {
            Ok(notification) => {
                let id = notification.fields.get("apns-id").cloned().unwrap_or_else(|| Uuid::new_v4().to_string());
                self.accepted.send_modify(|accepted| accepted.push(notification));
                let mut good = Response::new(Full::new(Bytes::new()));
                good.headers_mut().insert("apns-id", id.parse().expect("a value"));
                good
            }
            Err((status, body)) => answer(status, &body),
        }
    }
}

impl State {
    fn new(key: &KeyPair) -> Self {
        Self {
            public_key: DecodingKey::from_ec_der(key.der_bytes()),
            gone: Mutex::default(),
            accepted: watch::Sender::default(),
        }
    }

    /// Status and reason are those of Apple's table.
    fn judge(&self, request: &Request<Bytes>, now_ms: i64) -> Result<Notification, (u16, Value)> {
        let refuse = |status: u16, reason: &str| Err((status, json!({ "reason": reason })));
        if request.version() != Version::HTTP_2 {
            return refuse(400, "HTTP2Required");
        }
        if request.method() != Method::POST {
            return refuse(405, "MethodNotAllowed");
        }
        let Some(device) = request.uri().path().strip_prefix("/3/device/") else { return refuse(404, "BadPath") };
        let authorization = field(request, "authorization").unwrap_or_default();
        let Some((scheme, token)) = authorization.split_once(' ') else { return refuse(403, "MissingProviderToken") };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return refuse(403, "MissingProviderToken");
        }
        let Some(claims) = self.verified(token) else { return refuse(403, "InvalidProviderToken") };
        if (now_ms / 1_000 - claims.iat).abs() > 3_600 {
            return refuse(403, "ExpiredProviderToken");
        }
        if device.len() < 64 || !device.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return refuse(400, "BadDeviceToken");
        }
        let topic = field(request, "apns-topic").unwrap_or_default();
        if topic != TOPIC {
            return refuse(400, if topic.is_empty() { "MissingTopic" } else { "DeviceTokenNotForTopic" });
        }
        let push_type = field(request, "apns-push-type").unwrap_or_default();
        if !matches!(push_type, "alert" | "background") {
            return refuse(400, "InvalidPushType");
        }
        let priority = field(request, "apns-priority").unwrap_or("10");
        if !matches!(priority, "1" | "5" | "10") || (push_type == "background" && priority != "5") {
            return refuse(400, "BadPriority");
        }
        if field(request, "apns-expiration").is_some_and(|at| at.parse::<u64>().is_err()) {
            return refuse(400, "BadExpirationDate");
        }
        if field(request, "apns-collapse-id").is_some_and(|id| id.len() > 64) {
            return refuse(400, "BadCollapseId");
        }
        if field(request, "apns-id").is_some_and(|id| Uuid::try_parse(id).is_err()) {
            return refuse(400, "BadMessageId");
        }
        if request.body().len() > 4_096 {
            return refuse(413, "PayloadTooLarge");
        }
        let payload: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        if !payload["aps"].is_object() {
            return refuse(400, "PayloadEmpty");
        }
        if let Some(since_ms) = self.gone.lock().unwrap_or_else(PoisonError::into_inner).get(device) {
            return Err((410, json!({ "reason": "Unregistered", "timestamp": since_ms })));
        }
        let fields = request.headers().iter().filter(|(name, _)| name.as_str().starts_with("apns-"));
        let fields = fields.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
        Ok(Notification { device: device.to_owned(), fields: fields.collect(), payload, token: token.to_owned() })
    }

    fn verified(&self, token: &str) -> Option<Claims> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.public_key, &validation).ok()?.claims;
        (header.kid.as_deref() == Some(KEY) && claims.iss == TEAM).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header};

    /// Listing 1 of "Sending notification requests to APNs".
    fn example(authorization: &str) -> Request<Bytes> {
        let device = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";
        Request::post(format!("https://api.sandbox.push.apple.com/3/device/{device}"))
            .version(Version::HTTP_2)
            .header("authorization", format!("bearer {authorization}"))
            .header("apns-id", "eabeae54-14a8-11e5-b60b-1697f925ec7b")
            .header("apns-push-type", "alert")
            .header("apns-expiration", "0")
            .header("apns-priority", "10")
            .header("apns-topic", "com.example.MyApp")
            .body(Bytes::from(r#"{ "aps" : { "alert" : "Hello" } }"#))
            .unwrap()
    }

    fn token(key: &KeyPair, kid: &str, iat: i64) -> String {
        let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_der(&key.serialize_der());
        jsonwebtoken::encode(&header, &json!({ "iss": TEAM, "iat": iat }), &key).unwrap()
    }

    #[test]
    fn apples_example_is_accepted_and_each_fault_refused_as_its_table_says() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let state = State::new(&key);
        let (at_ms, at_s) = (1_459_143_580_650, 1_459_143_580);
        let good = token(&key, KEY, at_s);
        let accepted = state.judge(&example(&good), at_ms).unwrap();
        assert_eq!(accepted.payload["aps"]["alert"], "Hello");
        let answer = state.answer(&example(&token(&key, KEY, now_ms() / 1_000)));
        assert_eq!(answer.headers()["apns-id"], "eabeae54-14a8-11e5-b60b-1697f925ec7b");

        let reason = |request: &Request<Bytes>| {
            let (status, body) = state.judge(request, at_ms).unwrap_err();
            (status, body["reason"].as_str().unwrap().to_owned())
        };
        let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        // The example's own token is another account's.
        let apples = "eyAia2lkIjogIjhZTDNHM1JSWDciIH0.eyAiaXNzIjogIkM4Nk5WOUpYM0QiLCAiaWF0IjogIjE0NTkxNDM1ODA2NTAiIH0.MEYCIQDzqyahmH1rz1s-LFNkylXEa2lZ_aOCX4daxxTZkVEGzwIhALvkClnx5m5eAT6Lxw7LZtEQcH6JENhJTMArwLf3sXwi";
        for forged in [apples, &token(&other, KEY, at_s), &token(&key, "OTHER", at_s), "x.y.z"] {
            assert_eq!(reason(&example(forged)), (403, "InvalidProviderToken".into()));
        }
        assert_eq!(reason(&example(&token(&key, KEY, at_s - 3_601))), (403, "ExpiredProviderToken".into()));
        for (name, value, expected) in [
            ("apns-topic", "other", "DeviceTokenNotForTopic"),
            ("apns-push-type", "loud", "InvalidPushType"),
            ("apns-push-type", "background", "BadPriority"),
            ("apns-priority", "11", "BadPriority"),
            ("apns-expiration", "soon", "BadExpirationDate"),
            ("apns-id", "1", "BadMessageId"),
        ] {
            let mut request = example(&good);
            request.headers_mut().insert(name, value.parse().unwrap());
            assert_eq!(reason(&request), (400, expected.into()));
        }
        let mut request = example(&good);
        request.headers_mut().insert("apns-collapse-id", "x".repeat(65).parse().unwrap());
        assert_eq!(reason(&request), (400, "BadCollapseId".into()));
        let mut request = example(&good);
        *request.body_mut() = Bytes::from(vec![b' '; 4_097]);
        assert_eq!(reason(&request), (413, "PayloadTooLarge".into()));
        let mut request = example(&good);
        *request.version_mut() = Version::HTTP_11;
        assert_eq!(reason(&request).0, 400);
    }
}
