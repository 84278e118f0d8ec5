//! Keys: from a PEM, or from a JSON Web Key Set (RFC 7517). Each is good for one algorithm and no other, so that a token
//! can't choose how it is checked.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Most keys of one set that are looked at.
const MOST_KEYS: usize = 64;
/// Shortest and longest RSA modulus, in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// A public key.
pub(super) struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    material: DecodingKey,
}

impl Key {
    pub(super) fn secret(secret: &str) -> Self {
        Self { kid: None, algorithm: Algorithm::HS256, material: DecodingKey::from_secret(secret.as_bytes()) }
    }

    pub(super) fn of_pem(pem: &str, algorithm: &str) -> Result<Self, String> {
        let pem = pem.as_bytes();
        let (key, algorithm) = match algorithm {
            "EdDSA" => (DecodingKey::from_ed_pem(pem), Algorithm::EdDSA),
            "RS256" => (DecodingKey::from_rsa_pem(pem), Algorithm::RS256),
            "ES256" => (DecodingKey::from_ec_pem(pem), Algorithm::ES256),
            other => return Err(format!("algorithm `{other}` is not EdDSA, RS256 or ES256")),
        };
        let material = key.map_err(|_| format!("public_key_pem is no {algorithm:?} public key"))?;
        Ok(Self { kid: None, algorithm, material })
    }

    fn of_jwk(jwk: Jwk) -> Result<Self, &'static str> {
        if jwk.r#use.is_some_and(|purpose| purpose != "sig") {
            return Err("it is not for signatures (use)");
        }
        if jwk.key_ops.is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
            return Err("it is not for verifying (key_ops)");
        }
        let bytes = |part: Option<String>| {
            let text = part.ok_or("a part of it is missing")?;
            BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| "a part of it is not base64url")
        };
        let (material, algorithm) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                let (modulus, exponent) = (bytes(jwk.n)?, bytes(jwk.e)?);
                if !RSA_BYTES.contains(&modulus.len()) {
                    return Err("its modulus has less than 2,048 or more than 8,192 bits");
                }
                (DecodingKey::from_rsa_raw_components(&modulus, &exponent), Algorithm::RS256)
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(jwk.x)?, bytes(jwk.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return Err("its coordinates don't have 32 bytes");
                }
                (DecodingKey::from_ec_der(&[&[4], x.as_slice(), y.as_slice()].concat()), Algorithm::ES256)
            }
            ("OKP", Some("Ed25519")) => {
                let x = bytes(jwk.x)?;
                if x.len() != 32 {
                    return Err("it doesn't have 32 bytes");
                }
                (DecodingKey::from_ed_der(&x), Algorithm::EdDSA)
            }
            _ => return Err("it is of a kind that isn't used here"),
        };
        match jwk.alg.as_deref() {
            None => {}
            Some("EdDSA" | "Ed25519") if algorithm == Algorithm::EdDSA => {}
            Some("RS256") if algorithm == Algorithm::RS256 => {}
            Some("ES256") if algorithm == Algorithm::ES256 => {}
            Some(_) => return Err("it is for another algorithm (alg)"),
        }
        Ok(Self { kid: jwk.kid, algorithm, material })
    }

    /// Whether this key made a signature.
    pub(super) fn has_signed(&self, message: &str, signature: &str, algorithm: Algorithm) -> bool {
        self.algorithm == algorithm
            && jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.material, algorithm).unwrap_or(false)
    }
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// The keys that a URL published.
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a set; keys that can't be used here are left out, a set without any is an error.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Published {
            keys: Vec<Value>,
        }
        let published: Published =
            serde_json::from_slice(json).map_err(|_| "the answer is no JSON Web Key Set".to_owned())?;
        let mut keys = Vec::new();
        for jwk in published.keys.into_iter().take(MOST_KEYS) {
            let key = serde_json::from_value::<Jwk>(jwk).map_err(|_| "it can't be read").and_then(Key::of_jwk);
            match key {
                Ok(key) => keys.push(key),
                Err(reason) => tracing::debug!(reason, "a key of the set is left out"),
            }
        }
        if keys.is_empty() {
            return Err("the set has no key for EdDSA, RS256 or ES256".into());
        }
        Ok(Self(keys))
    }

    /// Keys for an algorithm: the one of that name, or all where the token names none.
    pub(super) fn candidates<'a>(
        &'a self,
        algorithm: Algorithm,
        kid: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Key> {
        self.0.iter().filter(move |key| {
            key.algorithm == algorithm && kid.is_none_or(|kid| key.kid.as_deref().is_some_and(|own| own == kid))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn parse(keys: &str) -> Result<KeySet, String> {
        KeySet::parse(format!(r#"{{"keys":[{keys}]}}"#).as_bytes())
    }

    #[test]
    fn what_cant_be_used_is_left_out() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let bad = [
            r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(),
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_owned(),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","use":"enc"}}"#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","key_ops":["sign"]}}"#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","alg":"RS256"}}"#),
            format!(r#"{{"kty":"OKP","crv":"X25519","x":"{x}"}}"#),
            r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#.to_owned(),
            r#"{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}"#.to_owned(),
            r#""text""#.to_owned(),
        ];
        for jwk in &bad {
            assert!(parse(jwk).is_err(), "{jwk}");
            assert_eq!(parse(&format!("{jwk},{GOOD}")).unwrap().len(), 1, "{jwk}");
        }
        assert!(KeySet::parse(b"<html>").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn a_name_is_compared_as_a_whole() {
        let set = parse(GOOD).unwrap();
        let count = |kid| set.candidates(Algorithm::EdDSA, kid).count();
        assert_eq!((count(Some("a")), count(None), count(Some("A")), count(Some(""))), (1, 1, 0, 0));
        assert_eq!(set.candidates(Algorithm::RS256, Some("a")).count(), 0);
    }
}
