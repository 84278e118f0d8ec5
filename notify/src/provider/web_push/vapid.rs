//! VAPID (RFC 8292): an ES256 token that says who sends, to a push service.

use std::fmt;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use runtime::Secret;
use serde::Serialize;

use crate::provider::SetupError;

/// Half of the 24 hours that RFC 8292, section 2, allows, for clocks that differ.
const LIFE_S: i64 = 12 * 3_600;

/// An application server's key. Browsers' subscriptions are bound to it: a new key means that all subscribe again.
#[derive(Clone)]
pub struct VapidKey {
    signing: EncodingKey,
    /// Base64url of the uncompressed point.
    public_key: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    exp: i64,
    sub: &'a str,
}

impl fmt::Debug for VapidKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("VapidKey").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

impl VapidKey {
    /// From the usual text form: base64url of the 32 bytes of the private key.
    pub fn new(private_key: &Secret) -> Result<Self, SetupError> {
        Self::of(private_key).ok_or(SetupError::Key {
            provider: "Web Push",
            reason: "it isn't base64url of the 32 bytes of a P-256 key",
        })
    }

    fn of(private_key: &Secret) -> Option<Self> {
        let private = URL_SAFE_NO_PAD.decode(private_key.expose().trim().trim_end_matches('=')).ok()?;
        let public = PrivateKey::from_private_key(&ECDH_P256, &private).ok()?.compute_public_key().ok()?;
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &private, public.as_ref())
                .ok()?;
        let signing = EncodingKey::from_ec_der(pair.to_pkcs8v1().ok()?.as_ref());
        Some(Self { signing, public_key: URL_SAFE_NO_PAD.encode(public.as_ref()) })
    }

    /// A new private key in its text form, for operators who have none.
    pub fn generate() -> Option<Secret> {
        let private: EcPrivateKeyBin<'static> = PrivateKey::generate(&ECDH_P256).ok()?.as_be_bytes().ok()?;
        Some(Secret::new(URL_SAFE_NO_PAD.encode(private.as_ref())))
    }

    /// What browsers subscribe with (`applicationServerKey`), base64url.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// The `Authorization` for a push service, named by its origin.
    pub(super) fn authorization(&self, audience: &str, contact: &str, now_s: i64) -> Option<String> {
        let claims = Claims { aud: audience, exp: now_s + LIFE_S, sub: contact };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.signing).ok()?;
        Some(format!("vapid t={token}, k={}", self.public_key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_public_half() {
        // The application server's keys of RFC 8291, appendix A.
        let key = VapidKey::new(&Secret::new("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")).unwrap();
        assert_eq!(
            key.public_key(),
            "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"
        );
        assert!(!format!("{key:?}").contains("yfWPiYE"));
    }

    #[test]
    fn new_keys_can_be_used_and_broken_ones_are_refused() {
        let (first, second) = (VapidKey::generate().unwrap(), VapidKey::generate().unwrap());
        assert_ne!(first.expose(), second.expose());
        assert!(
            VapidKey::new(&first).unwrap().authorization("https://push.example", "mailto:a@b.example", 0).is_some()
        );
        for broken in ["", "short", "****", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert!(VapidKey::new(&Secret::new(broken)).is_err(), "{broken}");
        }
    }
}
