//! Tokens: who may come in, for how long, and with which rights. Tokens never appear in logs or errors.
//!
//! A token is a JWT (RFC 7519) signed with EdDSA, RS256 or ES256 by a key that the configuration names: one public key, or
//! those that a URL publishes (`jwks.rs`). HS256 is for development. The algorithm belongs to the key, never to the token.

mod claims;
mod development;
mod explain;
mod jwks;
mod keys;
mod scopes;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use runtime::retry::Backoff;
use runtime::{Config, RoleHealth, Shutdown, clock};
use schemas::wire::Rejection;
use serde::de::DeserializeOwned;

use self::claims::{Claims, Head, Rules, invalid};
use self::jwks::Jwks;
use self::keys::Key;
use crate::error::Error;

pub use development::{development_service_token, development_token};
pub use explain::Explanation;
pub use scopes::{Scope, Scopes};

/// Longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 8_192;
/// Longest name of a key that is looked for.
const MAX_KID_BYTES: usize = 256;

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// It speaks for a person.
    Person(Identity),
    /// It speaks for the application's backend.
    Service(Service),
}

/// A person, as their token has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `sub`: the person.
    pub user_id: String,
    /// `name`, for a person who comes for the first time.
    pub name: Option<String>,
    /// `email`, likewise.
    pub email: Option<String>,
    /// `iat` in milliseconds since 1970; 0 for a token that doesn't say.
    pub issued_at_ms: i64,
    /// End of the token, in milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// A backend, as its token has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `sub`: its name.
    pub name: String,
    /// `scope`: what it may do.
    pub scopes: Scopes,
    /// End of the token, in milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// Verifies tokens with the configured keys, each only with its own algorithm.
pub struct Authenticator {
    secret: Option<Key>,
    fixed: Option<Key>,
    published: Option<Arc<Jwks>>,
    rules: Rules,
}

impl Authenticator {
    /// From `[auth]`.
    pub fn new(config: &Config) -> Result<Self, Error> {
        runtime::tls::install_provider();
        let auth = &config.auth;
        let secret = (!auth.hs256_secret.is_empty()).then(|| Key::secret(auth.hs256_secret.expose()));
        let pem = auth.public_key_pem.expose();
        let fixed = (!pem.is_empty()).then(|| Key::of_pem(pem, &auth.algorithm)).transpose().map_err(Error::Auth)?;
        let refresh = Duration::from_secs(auth.jwks_refresh_s);
        let published = (!auth.jwks_url.is_empty()).then(|| Jwks::new(&auth.jwks_url, refresh)).transpose()?;
        if secret.is_none() && fixed.is_none() && published.is_none() {
            return Err(Error::Auth(
                "no key is configured: set auth.jwks_url or auth.public_key_pem (or auth.hs256_secret with \
                 development = true)"
                    .into(),
            ));
        }
        let rules = Rules {
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            leeway_ms: i64::try_from(auth.leeway_s).unwrap_or(i64::MAX).saturating_mul(1_000),
        };
        Ok(Self { secret, fixed, published, rules })
    }

    /// Keeps published keys fresh until shutdown, and waits until there is some key; `false` when it is time to stop first.
    pub async fn start(&self, health: &RoleHealth, shutdown: &Shutdown) -> bool {
        let Some(published) = &self.published else { return true };
        shutdown.spawn(Arc::clone(published).keep_fresh(shutdown.clone()));
        let mut backoff = Backoff::new(50, 500);
        while self.fixed.is_none() && self.secret.is_none() && published.set().is_none() {
            health.not_ready("auth.jwks_url gives no keys");
            if !shutdown.pause(backoff.next_pause()).await {
                return false;
            }
        }
        true
    }

    /// What a token says, if it is valid now.
    pub async fn verify(&self, token: &str) -> Result<Token, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid("The token is too long."));
        }
        let shape = || invalid("The token is no JWT: three parts of base64url with dots between.");
        let (message, signature) = token.rsplit_once('.').ok_or_else(shape)?;
        let (head, body) = message.split_once('.').filter(|(_, body)| !body.contains('.')).ok_or_else(shape)?;
        let head: Head = part(head, "header")?;
        head.check()?;
        self.check_signature(&head, message, signature).await?;
        part::<Claims>(body, "payload")?.check(&self.rules, clock::now_ms())
    }

    async fn check_signature(&self, head: &Head, message: &str, signature: &str) -> Result<(), Rejection> {
        let algorithm = match head.alg.as_str() {
            "EdDSA" => Algorithm::EdDSA,
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            "HS256" if self.secret.is_some() => Algorithm::HS256,
            _ => return Err(invalid("The token's algorithm isn't taken here.")),
        };
        let own = [&self.secret, &self.fixed];
        if own.into_iter().flatten().any(|key| key.has_signed(message, signature, algorithm)) {
            return Ok(());
        }
        let foreign = || invalid("The token isn't signed by a key known here.");
        let Some(published) = self.published.as_ref().filter(|_| algorithm != Algorithm::HS256) else {
            return Err(foreign());
        };
        let kid = head.kid.as_deref();
        if kid.is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
            return Err(foreign());
        }
        let mut set = published.set();
        for has_looked_again in [false, true] {
            if let Some(keys) = &set {
                if keys.candidates(algorithm, kid).any(|key| key.has_signed(message, signature, algorithm)) {
                    return Ok(());
                }
                // A key of that name is there and made another signature: a new set wouldn't help.
                if kid.is_some() && keys.candidates(algorithm, kid).next().is_some() {
                    return Err(foreign());
                }
            }
            if !has_looked_again {
                set = published.look_again(set.as_ref()).await;
            }
        }
        if set.is_some() { Err(foreign()) } else { Err(Rejection::unavailable()) }
    }
}

fn part<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, Rejection> {
    let bytes =
        BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid(&format!("The token's {name} is not base64url.")))?;
    serde_json::from_slice(&bytes)
        .map_err(|_| invalid(&format!("The token's {name} is no JSON object with the expected types.")))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
