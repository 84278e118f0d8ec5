//! What a token says and whether it would be taken, for people who wonder.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use schemas::wire::Rejection;
use serde_json::Value;

use super::{Authenticator, Token};

/// A token taken apart. Its signature isn't in it.
#[derive(Debug)]
pub struct Explanation {
    /// Its header, if that can be read.
    pub header: Option<Value>,
    /// Its claims, likewise; not to be believed if the token is refused.
    pub claims: Option<Value>,
    /// Whom it speaks for, or why it is refused.
    pub verdict: Result<Token, Rejection>,
}

impl Authenticator {
    /// Takes a token apart and verifies it.
    pub async fn explain(&self, token: &str) -> Explanation {
        let mut parts = token.splitn(3, '.');
        let mut read = || {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let (header, claims) = (read(), read());
        Explanation { header, claims, verdict: self.verify(token).await }
    }
}
