//! A push service and the browsers that it serves: verifies VAPID, decrypts what comes, hands it to the browser.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, Response, StatusCode};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use runtime::Secret;
use serde::Deserialize;
use tokio::sync::watch;
use uuid::Uuid;

use super::server::{Instead, Provider, Script, Server, Tls, field, listener, now_ms};
use crate::provider::HttpOptions;
use crate::provider::web_push::{Subscription, encrypt};

/// A browser's subscription, as its service worker hands it to the application.
#[derive(Debug, Clone)]
pub struct Browser {
    /// Where to send.
    pub endpoint: String,
    /// Its public key, base64url.
    pub p256dh: String,
    /// Its secret, base64url.
    pub auth: String,
}

impl Browser {
    /// As the application keeps it.
    pub fn subscription(&self) -> Subscription {
        Subscription::new(Secret::new(&self.endpoint), &self.p256dh, &self.auth).expect("a subscription")
    }
}

/// What a browser's service worker gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Which browser.
    pub endpoint: String,
    /// Decrypted.
    pub plaintext: Vec<u8>,
    /// `Topic`.
    pub topic: Option<String>,
    /// `Urgency`.
    pub urgency: Option<String>,
    /// `TTL`, in seconds.
    pub ttl_s: u32,
    /// Who sent it: `sub` of its token.
    pub contact: String,
}

/// A fake push service.
pub struct PushServiceFake {
    server: Server,
    script: Script,
    state: Arc<State>,
    tls: Tls,
}

struct State {
    origin: String,
    browsers: Mutex<HashMap<String, Keys>>,
    delivered: watch::Sender<Vec<Pushed>>,
}

struct Keys {
    private: PrivateKey,
    auth: Vec<u8>,
    /// The one application server key that the browser subscribed with.
    bound_to: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    exp: i64,
    sub: String,
}

impl PushServiceFake {
    /// Starts one.
    pub async fn start() -> Self {
        let tls = Tls::new();
        let listener = listener().await;
        let origin = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
        let state = Arc::new(State::new(origin));
        let script = Script::default();
        let server = Server::start(&tls, listener, Arc::clone(&state) as Arc<dyn Provider>, script.clone());
        Self { server, script, state, tls }
    }

    /// How to reach it.
    pub fn http(&self) -> HttpOptions {
        HttpOptions::new(self.tls.client(), now_ms)
    }

    /// Its certificate, for whoever trusts files.
    pub fn ca_pem(&self) -> &str {
        self.tls.pem()
    }

    /// A new browser that subscribes, bound to the application server's key where one is given.
    pub fn subscribe(&self, application_server_key: Option<&str>) -> Browser {
        let mut auth = [0; 16];
        rand::fill(&mut auth).expect("randomness");
        let private = PrivateKey::generate(&ECDH_P256).expect("a key");
        let p256dh = URL_SAFE_NO_PAD.encode(private.compute_public_key().expect("a public key").as_ref());
        let path = format!("/push/{}", Uuid::new_v4().simple());
        let keys = Keys { private, auth: auth.to_vec(), bound_to: application_server_key.map(str::to_owned) };
        self.state.browsers.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), keys);
        Browser { endpoint: format!("{}{path}", self.server.url()), p256dh, auth: URL_SAFE_NO_PAD.encode(auth) }
    }

    /// The browser's subscription ends.
    pub fn unsubscribe(&self, browser: &Browser) {
        let mut browsers = self.state.browsers.lock().unwrap_or_else(PoisonError::into_inner);
        browsers.retain(|path, _| !browser.endpoint.ends_with(path));
    }

    /// The next request meets this.
    pub fn next(&self, instead: Instead) {
        self.script.add(instead);
    }

    /// What was delivered so far.
    pub fn delivered(&self) -> Vec<Pushed> {
        self.state.delivered.borrow().clone()
    }

    /// Waits for more than `seen` and gives the ones beyond.
    pub async fn after(&self, seen: usize) -> Vec<Pushed> {
        let mut delivered = self.state.delivered.subscribe();
        let more = delivered.wait_for(|delivered| delivered.len() > seen).await;
        more.map(|all| all[seen..].to_vec()).unwrap_or_default()
    }

    /// Waits until so many were delivered.
    pub async fn wait_for(&self, count: usize) -> Vec<Pushed> {
        let mut delivered = self.state.delivered.subscribe();
        delivered.wait_for(|delivered| delivered.len() >= count).await.map(|all| all.clone()).unwrap_or_default()
    }
}

impl Provider for State {
    fn answer(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::new(Bytes::new()));
        match self.judge(request, now_ms() / 1_000) {
            Ok(pushed) => {
                self.delivered.send_modify(|delivered| delivered.push(pushed));
                *answer.status_mut() = StatusCode::CREATED;
                let location = format!("{}/message/{}", self.origin, Uuid::new_v4().simple());
                answer.headers_mut().insert("location", location.parse().expect("a value"));
            }
            Err(status) => *answer.status_mut() = status,
        }
        answer
    }
}

impl State {
    fn new(origin: String) -> Self {
        Self { origin, browsers: Mutex::default(), delivered: watch::Sender::default() }
    }

    /// RFC 8030, section 5; RFC 8292, section 4; RFC 8291, section 4.
    fn judge(&self, request: &Request<Bytes>, now_s: i64) -> Result<Pushed, StatusCode> {
        if request.method() != Method::POST {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        let browsers = self.browsers.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = browsers.get(request.uri().path()).ok_or(StatusCode::GONE)?;
        let authorization = field(request, "authorization").ok_or(StatusCode::UNAUTHORIZED)?;
        let (contact, sender_key) = self.sender(authorization, now_s).ok_or(StatusCode::FORBIDDEN)?;
        if keys.bound_to.as_ref().is_some_and(|bound_to| *bound_to != sender_key) {
            return Err(StatusCode::FORBIDDEN);
        }
        let ttl_s = field(request, "ttl").and_then(|ttl| ttl.parse().ok()).ok_or(StatusCode::BAD_REQUEST)?;
        let topic = field(request, "topic").map(str::to_owned);
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if topic.as_ref().is_some_and(|topic| topic.len() > 32 || !topic.bytes().all(is_token)) {
            return Err(StatusCode::BAD_REQUEST);
        }
        let urgency = field(request, "urgency").map(str::to_owned);
        if urgency.as_ref().is_some_and(|urgency| !["very-low", "low", "normal", "high"].contains(&urgency.as_str())) {
            return Err(StatusCode::BAD_REQUEST);
        }
        if request.body().len() > 4_096 {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        if field(request, "content-encoding") != Some("aes128gcm") {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        // A push service can't do this; the browser behind it does.
        let plaintext =
            encrypt::decrypt(request.body(), &keys.private, &keys.auth).ok_or(StatusCode::UNPROCESSABLE_ENTITY)?;
        let endpoint = format!("{}{}", self.origin, request.uri().path());
        Ok(Pushed { endpoint, plaintext, topic, urgency, ttl_s, contact })
    }

    /// Contact and key of who sends, if the token is good.
    fn sender(&self, authorization: &str, now_s: i64) -> Option<(String, String)> {
        let parameters: HashMap<&str, &str> = authorization
            .strip_prefix("vapid ")?
            .split(',')
            .filter_map(|parameter| parameter.trim().split_once('='))
            .collect();
        let (token, key) = (*parameters.get("t")?, *parameters.get("k")?);
        let point = URL_SAFE_NO_PAD.decode(key).ok().filter(|point| point.len() == 65)?;
        let key_of = DecodingKey::from_ec_der(&point);
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_exp = false;
        validation.set_audience(&[&self.origin]);
        let claims = jsonwebtoken::decode::<Claims>(token, &key_of, &validation).ok()?.claims;
        let is_in_time = claims.exp > now_s && claims.exp - now_s <= 86_400;
        (is_in_time && claims.aud == self.origin).then(|| (claims.sub, key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV";
    /// When the token of RFC 8292 ends.
    const EXP_S: i64 = 1_453_523_768;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    /// The browser of RFC 8291, appendix A.
    fn state() -> State {
        let state = State::new("https://push.example.net".into());
        let private =
            PrivateKey::from_private_key(&ECDH_P256, &bytes("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")).unwrap();
        let keys = Keys { private, auth: bytes("BTBZMqHH6r4Tts7J_aSIgg"), bound_to: None };
        state.browsers.lock().unwrap().insert(PATH.into(), keys);
        state
    }

    /// The request of RFC 8291, section 5, with the authorization of RFC 8292, section 2.4.
    fn example() -> Request<Bytes> {
        let body = bytes(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w\
             EqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        );
        Request::post(format!("https://push.example.net{PATH}"))
            .header("ttl", "10")
            .header("content-encoding", "aes128gcm")
            .header(
                "authorization",
                "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs",
            )
            .body(Bytes::from(body))
            .unwrap()
    }

    #[test]
    fn the_examples_of_the_rfcs_are_accepted() {
        let pushed = state().judge(&example(), EXP_S - 3_600).unwrap();
        assert_eq!(pushed.plaintext, b"When I grow up, I want to be a watermelon");
        assert_eq!((pushed.contact.as_str(), pushed.ttl_s), ("mailto:push@example.com", 10));
    }

    #[test]
    fn each_fault_is_refused() {
        let state = state();
        let judge = |request: &Request<Bytes>| state.judge(request, EXP_S - 3_600).map(|_| ()).unwrap_err();
        assert_eq!(state.judge(&example(), EXP_S).unwrap_err(), StatusCode::FORBIDDEN);
        // Longer than a day ahead.
        assert_eq!(state.judge(&example(), EXP_S - 86_401).unwrap_err(), StatusCode::FORBIDDEN);
        let elsewhere = State::new("https://other.example".into());
        let keys = state.browsers.lock().unwrap().remove(PATH).unwrap();
        assert_eq!(judge(&example()), StatusCode::GONE);
        elsewhere.browsers.lock().unwrap().insert(PATH.into(), keys);
        assert_eq!(elsewhere.judge(&example(), EXP_S - 3_600).unwrap_err(), StatusCode::FORBIDDEN);

        let state = self::state();
        let judge = |request: &Request<Bytes>| state.judge(request, EXP_S - 3_600).map(|_| ()).unwrap_err();
        for (name, value, status) in [
            ("authorization", "vapid t=x, k=y", StatusCode::FORBIDDEN),
            ("ttl", "soon", StatusCode::BAD_REQUEST),
            ("topic", "this-topic-is-longer-than-32-chars", StatusCode::BAD_REQUEST),
            ("topic", "no spaces", StatusCode::BAD_REQUEST),
            ("urgency", "now", StatusCode::BAD_REQUEST),
            ("content-encoding", "aesgcm", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ] {
            let mut request = example();
            request.headers_mut().insert(name, value.parse().unwrap());
            assert_eq!(judge(&request), status, "{name}: {value}");
        }
        let mut request = example();
        *request.body_mut() = Bytes::from_static(b"not encrypted");
        assert_eq!(judge(&request), StatusCode::UNPROCESSABLE_ENTITY);
    }
}
