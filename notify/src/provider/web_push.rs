//! Web Push (RFC 8030): a message encrypted for one browser (RFC 8291), sent to the push service that the browser chose, with
//! the application server's signature (VAPID, RFC 8292).

pub(crate) mod encrypt;
mod vapid;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Client, StatusCode};
use runtime::Secret;

pub use encrypt::{MOST_PLAINTEXT_BYTES, PUBLIC_KEY_BYTES};
pub use vapid::VapidKey;

use super::address::{PublicResolver, Reach};
use super::http::{self, Answer, Clock, HttpOptions};
use super::{Fault, Outcome, SetupError};
use crate::payload::WebPushPush;

/// An operator's identity towards push services.
#[derive(Debug, Clone)]
pub struct WebPushConfig {
    /// Signs, and is what browsers subscribe with.
    pub key: VapidKey,
    /// Whom a push service may contact: `mailto:` or `https:`.
    pub contact: String,
    /// Where endpoints may lead.
    pub reach: Reach,
    /// How to get there.
    pub http: HttpOptions,
}

/// Sends to browsers.
pub struct WebPush {
    key: VapidKey,
    contact: String,
    reach: Reach,
    client: Client,
    clock: Clock,
}

/// One browser, as `PushSubscription.toJSON()` has it.
#[derive(Clone)]
pub struct Subscription {
    endpoint: Secret,
    public_key: [u8; PUBLIC_KEY_BYTES],
    auth: [u8; 16],
}

/// Why something isn't a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// `keys.p256dh`.
    #[error("p256dh isn't base64url of an uncompressed point of P-256")]
    PublicKey,
    /// `keys.auth`.
    #[error("auth isn't base64url of 16 bytes")]
    Auth,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Subscription([redacted])")
    }
}

impl Subscription {
    /// From its endpoint and its two keys (base64url, padded or not).
    pub fn new(endpoint: Secret, p256dh: &str, auth: &str) -> Result<Self, SubscriptionError> {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).unwrap_or_default();
        let public_key: [u8; PUBLIC_KEY_BYTES] = decode(p256dh).try_into().map_err(|_| SubscriptionError::PublicKey)?;
        if !encrypt::is_point(&public_key) {
            return Err(SubscriptionError::PublicKey);
        }
        let auth = decode(auth).try_into().map_err(|_| SubscriptionError::Auth)?;
        Ok(Self { endpoint, public_key, auth })
    }
}

impl fmt::Debug for WebPush {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WebPush").field("contact", &self.contact).finish_non_exhaustive()
    }
}

impl WebPush {
    /// Sets it up; connects with the first notification.
    pub fn new(config: &WebPushConfig) -> Result<Self, SetupError> {
        if !(config.contact.starts_with("mailto:") || config.contact.starts_with("https:")) {
            let reason = "the contact begins with mailto: or https:".into();
            return Err(SetupError::Setting { provider: "Web Push", reason });
        }
        let mut builder = config.http.builder(false);
        if config.reach == Reach::Public {
            builder = builder.dns_resolver(PublicResolver::shared());
        }
        Ok(Self {
            key: config.key.clone(),
            contact: config.contact.clone(),
            reach: config.reach,
            client: builder.build().map_err(SetupError::Http)?,
            clock: config.http.clock,
        })
    }

    /// Sends to one browser.
    pub async fn send(&self, to: &Subscription, push: &WebPushPush) -> Outcome {
        let url = match self.reach.check(to.endpoint.expose()) {
            Ok(url) => url,
            Err(error) => return Outcome::Refused { reason: error.to_string() },
        };
        let plaintext = push.payload.to_string();
        if plaintext.len() > MOST_PLAINTEXT_BYTES {
            return Outcome::Refused { reason: "the payload is too large".into() };
        }
        let Some(body) = encrypt::encrypt(plaintext.as_bytes(), &to.public_key, &to.auth) else {
            return Outcome::Refused { reason: "nothing can be encrypted for the subscription's keys".into() };
        };
        let audience = url.origin().ascii_serialization();
        let Some(authorization) = self.key.authorization(&audience, &self.contact, (self.clock)() / 1_000) else {
            return Outcome::Retry { after: None, fault: Fault::Credentials("no token can be signed".into()) };
        };
        let request = self
            .client
            .post(url)
            .header("authorization", authorization)
            .header("content-encoding", "aes128gcm")
            .header("content-type", "application/octet-stream")
            .header("ttl", push.ttl_s)
            .header("urgency", push.urgency.name())
            .header("topic", &push.topic)
            .body(body);
        match http::ask(request, self.clock).await {
            Ok(answer) => outcome(&answer),
            Err(fault) => Outcome::Retry { after: None, fault },
        }
    }
}

/// Push services explain in texts of their own; only the status is a rule (RFC 8030, sections 5 and 8.4).
fn outcome(answer: &Answer) -> Outcome {
    let reason = answer.status.as_u16().to_string();
    let retry = |fault| Outcome::Retry { after: answer.retry_after(), fault };
    match answer.status {
        // `Location` names the message for whoever may cancel it, so it isn't kept.
        status if status.is_success() => Outcome::Sent { id: None },
        StatusCode::NOT_FOUND | StatusCode::GONE => Outcome::Gone { since_ms: None },
        StatusCode::TOO_MANY_REQUESTS => retry(Fault::Limited(reason)),
        status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            retry(Fault::Unavailable(reason))
        }
        // Also 401 and 403: the browser subscribed with another key than ours.
        _ => Outcome::Refused { reason },
    }
}
