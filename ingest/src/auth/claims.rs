//! What a token says, and whether that holds: shape, time, issuer, audience. Nothing here looks at its signature.

use schemas::ids;
use schemas::wire::{Code, Rejection, names};
use serde::Deserialize;
use serde_json::Value;

use super::scopes::Scopes;
use super::{Identity, Service, Token};

/// The last second that any calendar holds.
const LAST_SECOND: f64 = 253_402_300_799.0;
/// Longest `name` and `email` that a new person gets.
const MAX_PROFILE_BYTES: usize = 256;

/// The header's parts that decide something. Where a token says its key is to be had (`jku`, `jwk`, `x5u`, `x5c`) isn't
/// among them: keys come from the configuration alone.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

impl Head {
    /// Refuses what isn't an access token, or asks for more than is understood here.
    pub(super) fn check(&self) -> Result<(), Rejection> {
        if self.crit.is_some() {
            return Err(invalid("The token's header has crit: nothing beyond RFC 7519 is understood here."));
        }
        let Some(typ) = &self.typ else { return Ok(()) };
        let typ = typ.to_ascii_lowercase();
        match typ.strip_prefix("application/").unwrap_or(&typ) {
            "jwt" | "at+jwt" => Ok(()),
            _ => Err(invalid("The token's header typ isn't JWT or at+jwt.")),
        }
    }
}

/// The claims that decide something. The reader refuses a name that stands twice.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
    typ: Option<String>,
    scope: Option<String>,
    name: Option<String>,
    email: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// What claims are held against.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) leeway_ms: i64,
}

impl Claims {
    /// Whom the claims speak for, if they hold at this time.
    pub(super) fn check(self, rules: &Rules, now_ms: i64) -> Result<Token, Rejection> {
        let expires_at_ms = moment(self.exp, "exp")?.ok_or_else(|| invalid("The token has no exp."))?;
        if expires_at_ms.saturating_add(rules.leeway_ms) <= now_ms {
            return Err(Rejection::new(Code::TokenExpired, "The token has expired: get a new one."));
        }
        let latest_ms = now_ms.saturating_add(rules.leeway_ms);
        if moment(self.nbf, "nbf")?.is_some_and(|nbf_ms| nbf_ms > latest_ms) {
            return Err(invalid("The token is not valid yet (nbf)."));
        }
        let issued_at_ms = moment(self.iat, "iat")?.unwrap_or(0);
        if issued_at_ms > latest_ms {
            return Err(invalid("The token was issued in the future (iat)."));
        }
        if !rules.issuer.is_empty() && self.iss.as_ref() != Some(&rules.issuer) {
            return Err(invalid("The token's issuer (iss) isn't the one expected here."));
        }
        if !rules.audience.is_empty() && !self.aud.is_some_and(|audience| audience.names(&rules.audience)) {
            return Err(invalid("The token isn't meant for this service (aud)."));
        }
        let subject = self.sub.ok_or_else(|| invalid("The token has no sub."))?;
        if !ids::is_valid(&subject) {
            return Err(invalid("The token's sub is no id: 1 to 64 of A-Z a-z 0-9 . _ : -"));
        }
        if ids::is_reserved(&subject) {
            return Err(invalid("Ids that begin with waltalkie: are the program's own."));
        }
        let plain = |text: Option<String>| text.filter(|text| text.len() <= MAX_PROFILE_BYTES && !text.contains('\0'));
        match self.typ.as_deref() {
            Some("service") => Ok(Token::Service(Service {
                name: subject,
                scopes: Scopes::parse(self.scope.as_deref().unwrap_or_default()),
                expires_at_ms,
            })),
            // Keycloak writes Bearer, and other words into what isn't meant for services.
            None | Some("user" | "Bearer") => Ok(Token::Person(Identity {
                user_id: subject,
                name: plain(self.name).and_then(|name| names::cleaned(&name)),
                email: plain(self.email),
                issued_at_ms,
                expires_at_ms,
            })),
            Some(_) => Err(invalid("The claim typ is neither user nor service.")),
        }
    }
}

impl Audience {
    fn names(&self, wanted: &str) -> bool {
        match self {
            Self::One(audience) => audience == wanted,
            Self::Many(audiences) => audiences.iter().any(|audience| audience == wanted),
        }
    }
}

fn moment(seconds: Option<f64>, claim: &str) -> Result<Option<i64>, Rejection> {
    match seconds {
        None => Ok(None),
        Some(seconds) if (0.0..=LAST_SECOND).contains(&seconds) => Ok(Some((seconds * 1_000.0) as i64)),
        Some(_) => Err(invalid(&format!("The token's {claim} is no time in seconds since 1970."))),
    }
}

pub(super) fn invalid(text: &str) -> Rejection {
    Rejection::new(Code::TokenInvalid, text)
}
