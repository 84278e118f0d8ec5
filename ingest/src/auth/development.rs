//! Tokens for development: signed with the configured secret, refused without it.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use runtime::{Config, clock};
use schemas::ids;
use serde_json::json;

use crate::error::Error;

/// A token for a person, valid for `ttl_s` seconds; with its end, in milliseconds since 1970.
pub fn development_token(
    config: &Config,
    user_id: &str,
    name: Option<&str>,
    ttl_s: i64,
) -> Result<(String, i64), Error> {
    sign(config, user_id, ttl_s, json!({ "name": name }))
}

/// A token for a service, with scopes separated by spaces.
pub fn development_service_token(
    config: &Config,
    service: &str,
    scope: &str,
    ttl_s: i64,
) -> Result<(String, i64), Error> {
    sign(config, service, ttl_s, json!({ "typ": "service", "scope": scope }))
}

fn sign(config: &Config, subject: &str, ttl_s: i64, mut claims: serde_json::Value) -> Result<(String, i64), Error> {
    runtime::tls::install_provider();
    let secret = &config.auth.hs256_secret;
    if !config.development || secret.is_empty() {
        return Err(Error::Auth("development tokens need development = true and auth.hs256_secret".into()));
    }
    if !ids::is_valid(subject) || ids::is_reserved(subject) {
        return Err(Error::Auth("an id is 1 to 64 of A-Z a-z 0-9 . _ : - and doesn't begin with waltalkie:".into()));
    }
    let now_s = clock::now_ms() / 1_000;
    let expires_at_s = now_s + ttl_s;
    claims["sub"] = json!(subject);
    claims["iat"] = json!(now_s);
    claims["exp"] = json!(expires_at_s);
    for (claim, value) in [("iss", &config.auth.issuer), ("aud", &config.auth.audience)] {
        if !value.is_empty() {
            claims[claim] = json!(value);
        }
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|_| Error::Auth("the token could not be signed".into()))?;
    Ok((token, expires_at_s * 1_000))
}
