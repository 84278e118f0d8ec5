//! Tokens: who may come in, and for how long. Tokens never appear in logs or errors.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use runtime::config::Auth;
use runtime::{Config, clock};
use schemas::ids;
use schemas::wire::{Code, Rejection};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 8_192;

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `sub`: the person.
    pub user_id: String,
    /// `name`, for a person who comes for the first time.
    pub name: Option<String>,
    /// `email`, likewise.
    pub email: Option<String>,
    /// End of the token, in milliseconds since 1970.
    pub expires_at_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aud: Option<serde_json::Value>,
}

/// Verifies tokens with the configured key, and only with its algorithm.
pub struct Authenticator {
    key: DecodingKey,
    validation: Validation,
}

impl Authenticator {
    /// From `[auth]`.
    pub fn new(config: &Config) -> Result<Self, Error> {
        runtime::tls::install_provider();
        let auth = &config.auth;
        let (key, algorithm) = key_of(auth)?;
        let mut validation = Validation::new(algorithm);
        validation.leeway = auth.leeway_s;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "sub"]);
        if auth.issuer.is_empty() {
            validation.iss = None;
        } else {
            validation.set_issuer(&[&auth.issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        if auth.audience.is_empty() {
            validation.validate_aud = false;
        } else {
            validation.set_audience(&[&auth.audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        Ok(Self { key, validation })
    }

    /// Who a token speaks for.
    pub fn verify(&self, token: &str) -> Result<Identity, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::new(Code::TokenInvalid, "The token is too long."));
        }
        let data =
            jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => {
                    Rejection::new(Code::TokenExpired, "The token has expired: get a new one.")
                }
                ErrorKind::ImmatureSignature => Rejection::new(Code::TokenInvalid, "The token is not valid yet."),
                ErrorKind::InvalidIssuer => {
                    Rejection::new(Code::TokenInvalid, "The token's issuer isn't the one expected here.")
                }
                ErrorKind::InvalidAudience => {
                    Rejection::new(Code::TokenInvalid, "The token isn't meant for this service.")
                }
                _ => Rejection::new(Code::TokenInvalid, "The token isn't valid here."),
            })?;
        let claims = data.claims;
        if !ids::is_valid(&claims.sub) {
            let rule = "The token's sub is no user id: 1 to 64 of A-Z a-z 0-9 . _ : -";
            return Err(Rejection::new(Code::TokenInvalid, rule));
        }
        let plain = |text: Option<String>| text.filter(|text| text.len() <= 256 && !text.contains('\0'));
        Ok(Identity {
            user_id: claims.sub,
            name: plain(claims.name),
            email: plain(claims.email),
            expires_at_ms: claims.exp.saturating_mul(1_000),
        })
    }
}

fn key_of(auth: &Auth) -> Result<(DecodingKey, Algorithm), Error> {
    if !auth.hs256_secret.is_empty() {
        return Ok((DecodingKey::from_secret(auth.hs256_secret.expose().as_bytes()), Algorithm::HS256));
    }
    let pem = auth.public_key_pem.expose().as_bytes();
    if pem.is_empty() {
        return Err(Error::Auth(
            "no key is configured: set auth.public_key_pem (or auth.hs256_secret with development = true)".into(),
        ));
    }
    let (key, algorithm) = match auth.algorithm.as_str() {
        "EdDSA" => (DecodingKey::from_ed_pem(pem), Algorithm::EdDSA),
        "RS256" => (DecodingKey::from_rsa_pem(pem), Algorithm::RS256),
        "ES256" => (DecodingKey::from_ec_pem(pem), Algorithm::ES256),
        other => return Err(Error::Auth(format!("algorithm `{other}` is not EdDSA, RS256 or ES256"))),
    };
    Ok((key.map_err(|_| Error::Auth(format!("public_key_pem is no {} public key", auth.algorithm)))?, algorithm))
}

/// A development token for a person, valid for `ttl_s` seconds. Refused unless a development secret is configured.
pub fn development_token(
    config: &Config,
    user_id: &str,
    name: Option<&str>,
    ttl_s: i64,
) -> Result<(String, i64), Error> {
    runtime::tls::install_provider();
    let secret = &config.auth.hs256_secret;
    if !config.development || secret.is_empty() {
        return Err(Error::Auth("development tokens need development = true and auth.hs256_secret".into()));
    }
    if !ids::is_valid(user_id) {
        return Err(Error::Auth("a user id is 1 to 64 of A-Z a-z 0-9 . _ : -".into()));
    }
    let expires_at_s = clock::now_ms() / 1_000 + ttl_s;
    let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let claims = Claims {
        sub: user_id.to_owned(),
        name: name.map(str::to_owned),
        email: None,
        exp: expires_at_s,
        iss: optional(&config.auth.issuer),
        aud: optional(&config.auth.audience).map(serde_json::Value::from),
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|_| Error::Auth("the token could not be signed".into()))?;
    Ok((token, expires_at_s * 1_000))
}

#[cfg(test)]
mod tests {
    use runtime::Secret;

    use super::*;

    fn config() -> Config {
        let mut config = Config { development: true, ..Config::default() };
        config.auth.hs256_secret = Secret::new("0123456789abcdef0123456789abcdef");
        config
    }

    fn code_of(token: &str) -> Code {
        Authenticator::new(&config()).unwrap().verify(token).unwrap_err().code
    }

    #[test]
    fn own_tokens_are_accepted_until_they_expire() {
        let (token, expires_at_ms) = development_token(&config(), "alice", Some("Alice"), 60).unwrap();
        let identity = Authenticator::new(&config()).unwrap().verify(&token).unwrap();
        assert_eq!((identity.user_id.as_str(), identity.name.as_deref()), ("alice", Some("Alice")));
        assert_eq!(identity.expires_at_ms, expires_at_ms);
        let (expired, _) = development_token(&config(), "alice", None, -60).unwrap();
        assert_eq!(code_of(&expired), Code::TokenExpired);
    }

    #[test]
    fn foreign_tokens_are_not() {
        let (token, _) = development_token(&config(), "alice", None, 60).unwrap();
        let (head, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(code_of(head), Code::TokenInvalid);
        assert_eq!(code_of(&format!("{head}.")), Code::TokenInvalid);
        assert_eq!(code_of(&format!("{head}.{}", signature.to_uppercase())), Code::TokenInvalid);
        assert_eq!(code_of(&"x".repeat(1 << 20)), Code::TokenInvalid);
        // {"alg":"none"} . {"sub":"alice","exp":9999999999} .
        assert_eq!(code_of("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0."), Code::TokenInvalid);
        let mut other = config();
        other.auth.hs256_secret = Secret::new("another secret of thirty-two byte");
        let (foreign, _) = development_token(&other, "alice", None, 60).unwrap();
        assert_eq!(code_of(&foreign), Code::TokenInvalid);
    }

    #[test]
    fn issuer_and_audience_are_required_where_configured() {
        let mut strict = config();
        strict.auth.issuer = "https://id.example".into();
        strict.auth.audience = "chat".into();
        let verifier = Authenticator::new(&strict).unwrap();
        let (bare, _) = development_token(&config(), "alice", None, 60).unwrap();
        assert_eq!(verifier.verify(&bare).unwrap_err().code, Code::TokenInvalid);
        let (full, _) = development_token(&strict, "alice", None, 60).unwrap();
        assert!(verifier.verify(&full).is_ok());
    }

    #[test]
    fn development_tokens_need_development() {
        let mut config = config();
        config.development = false;
        assert!(development_token(&config, "alice", None, 60).is_err());
    }
}
