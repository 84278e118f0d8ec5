//! Keys that sign tokens, and a server that publishes them as an identity provider does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A key pair with a name.
pub struct SigningKey {
    /// Its `kid`.
    pub kid: String,
    /// The public key as PEM.
    pub public_pem: String,
    algorithm: Algorithm,
    key: EncodingKey,
    jwk: Value,
}

impl SigningKey {
    /// A new one for `EdDSA`, `ES256` or `RS256`.
    pub fn make(algorithm: &str, kid: &str) -> Result<Self> {
        runtime::tls::install_provider();
        let (kind, algorithm) = match algorithm {
            "EdDSA" => (&rcgen::PKCS_ED25519, Algorithm::EdDSA),
            "ES256" => (&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
            _ => (&rcgen::PKCS_RSA_SHA256, Algorithm::RS256),
        };
        let pair = KeyPair::generate_for(kind)?;
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        }?;
        let jwk = match algorithm {
            // The library can't tell the public half of what it signs with by this one.
            Algorithm::EdDSA => {
                let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key_raw());
                json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "alg": "EdDSA" })
            }
            _ => serde_json::to_value(Jwk::from_encoding_key(&key, algorithm)?)?,
        };
        Ok(Self { kid: kid.to_owned(), public_pem: pair.public_key_pem(), algorithm, key, jwk })
    }

    /// The public key as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let mut jwk = self.jwk.clone();
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        self.sign_with(&json!({}), claims)
    }

    /// The same, with more in the header, or other things.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> Result<String> {
        let mut own = json!({ "alg": format!("{:?}", self.algorithm), "typ": "JWT", "kid": self.kid });
        if let (Value::Object(own), Value::Object(more)) = (&mut own, header) {
            own.extend(more.clone());
        }
        self.sign_text(&own.to_string(), &claims.to_string())
    }

    /// The same of any texts.
    pub fn sign_text(&self, header: &str, claims: &str) -> Result<String> {
        let message = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm)?;
        Ok(format!("{message}.{signature}"))
    }
}

/// A server that publishes keys.
pub struct KeyServer {
    /// Where.
    pub url: String,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// Status and body.
    answer: Mutex<(u16, String)>,
    requests: AtomicUsize,
}

impl KeyServer {
    /// One that publishes these.
    pub async fn start(keys: &[&SigningKey]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for keys")?;
        let url = format!("http://{}/keys.json", listener.local_addr()?);
        let state = Arc::<State>::default();
        let serving = tokio::spawn(serve(listener, Arc::clone(&state)));
        let server = Self { url, state, serving };
        server.publish(keys);
        Ok(server)
    }

    /// Publishes these from here on, and no others.
    pub fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.answer(200, json!({ "keys": keys }).to_string());
    }

    /// Answers anything from here on.
    pub fn answer(&self, status: u16, body: String) {
        *self.state.answer.lock().unwrap_or_else(PoisonError::into_inner) = (status, body);
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let mut request = Vec::new();
            let mut piece = [0; 1_024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut piece).await {
                    Ok(count) if count > 0 => request.extend_from_slice(&piece[..count]),
                    _ => return,
                }
            }
            state.requests.fetch_add(1, Ordering::Relaxed);
            let (status, body) = state.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let length = body.len();
            let head = format!("HTTP/1.1 {status} OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        });
    }
}
