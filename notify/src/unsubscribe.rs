//! One-click unsubscribe of mail (RFC 8058): a link that works without a sign-in, and that nobody can make but us.
//!
//! A token is `v1.<base64url of user_id>.<base64url of HMAC-SHA256>`. It doesn't expire: people click on old mails. RFC 8058
//! also wants the two header fields covered by a DKIM signature, which the operator's mail server makes.

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runtime::Secret;

const VERSION: &str = "v1";
/// The body of a one-click request (RFC 8058, section 3.2).
pub const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

/// Why links can't be made.
#[derive(Debug, thiserror::Error)]
pub enum UnsubscribeError {
    /// There is no secret.
    #[error("no secret to sign unsubscribe links with")]
    NoSecret,
    /// It is too easy to guess.
    #[error("a secret that signs unsubscribe links has less than 32 bytes")]
    Short,
    /// The address isn't one that RFC 8058 allows.
    #[error("the address of the unsubscribe page doesn't begin with https://")]
    NotHttps,
}

/// Makes and reads the links.
pub struct Unsubscribe {
    url: String,
    /// The first signs, all are accepted.
    keys: Vec<Key>,
}

impl std::fmt::Debug for Unsubscribe {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Unsubscribe").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Unsubscribe {
    /// For a page's address, without a query, and secrets of at least 32 bytes: the first signs, older ones are still
    /// accepted. RFC 8058 wants https; `is_development` lets http pass.
    pub fn new(url: impl Into<String>, secrets: &[Secret], is_development: bool) -> Result<Self, UnsubscribeError> {
        let url = url.into();
        if !(url.starts_with("https://") || (is_development && url.starts_with("http://"))) {
            return Err(UnsubscribeError::NotHttps);
        }
        if secrets.is_empty() {
            return Err(UnsubscribeError::NoSecret);
        }
        if secrets.iter().any(|secret| secret.expose().len() < 32) {
            return Err(UnsubscribeError::Short);
        }
        let keys = secrets.iter().map(|secret| Key::new(HMAC_SHA256, secret.expose().as_bytes())).collect();
        Ok(Self { url, keys })
    }

    /// A person's token.
    pub fn token(&self, user_id: &str) -> String {
        let tag = hmac::sign(&self.keys[0], signed(user_id).as_bytes());
        format!("{VERSION}.{}.{}", URL_SAFE_NO_PAD.encode(user_id), URL_SAFE_NO_PAD.encode(tag))
    }

    /// A person's link, for people (GET shows a page with a button) and for mail programs (POST does it).
    pub fn link(&self, user_id: &str) -> String {
        format!("{}?token={}", self.url, self.token(user_id))
    }

    /// Whose token this is, if it is one of ours. Compared in constant time.
    pub fn user_of(&self, token: &str) -> Option<String> {
        let [version, user_id, tag] = token.split('.').collect::<Vec<_>>().try_into().ok()?;
        if version != VERSION {
            return None;
        }
        let user_id = String::from_utf8(URL_SAFE_NO_PAD.decode(user_id).ok()?).ok()?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        let is_ours = self.keys.iter().any(|key| hmac::verify(key, signed(&user_id).as_bytes(), &tag).is_ok());
        (is_ours && schemas::ids::is_valid(&user_id)).then_some(user_id)
    }

    /// The two header fields of a person's mail.
    pub fn headers(&self, user_id: &str) -> [(&'static str, String); 2] {
        [("List-Unsubscribe", format!("<{}>", self.link(user_id))), ("List-Unsubscribe-Post", ONE_CLICK.to_owned())]
    }
}

/// Names the purpose too, so that no other use of the same secret makes a token.
fn signed(user_id: &str) -> String {
    format!("waltalkie unsubscribe {VERSION} {user_id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(byte: char) -> Secret {
        Secret::new(byte.to_string().repeat(32))
    }

    fn links(secrets: &[Secret]) -> Unsubscribe {
        Unsubscribe::new("https://chat.example/unsubscribe", secrets, false).unwrap()
    }

    #[test]
    fn headers_are_those_of_the_rfc() {
        let links = links(&[secret('a')]);
        let [list, post] = links.headers("alice");
        assert_eq!(list.0, "List-Unsubscribe");
        assert!(list.1.starts_with("<https://chat.example/unsubscribe?token=v1.YWxpY2U.") && list.1.ends_with('>'));
        assert_eq!(post, ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()));
    }

    #[test]
    fn a_new_secret_leaves_old_links_working_until_the_old_one_is_gone() {
        let old = links(&[secret('a')]).token("alice");
        let both = links(&[secret('b'), secret('a')]);
        assert_eq!(both.user_of(&old).as_deref(), Some("alice"));
        assert_ne!(both.token("alice"), old);
        assert_eq!(links(&[secret('b')]).user_of(&old), None);
    }

    #[test]
    fn what_is_unsafe_is_refused() {
        assert!(matches!(Unsubscribe::new("http://x", &[secret('a')], false), Err(UnsubscribeError::NotHttps)));
        assert!(Unsubscribe::new("http://x", &[secret('a')], true).is_ok());
        assert!(matches!(Unsubscribe::new("https://x", &[], false), Err(UnsubscribeError::NoSecret)));
        let short = [secret('a'), Secret::new("short")];
        assert!(matches!(Unsubscribe::new("https://x", &short, false), Err(UnsubscribeError::Short)));
        assert!(!format!("{:?}", links(&[secret('q')])).contains("qqq"));
    }

    proptest! {
        #[test]
        fn a_token_is_its_persons_alone(user_id in "[A-Za-z0-9._:-]{1,64}", at in any::<prop::sample::Index>(), to: char) {
            let links = links(&[secret('a')]);
            let token = links.token(&user_id);
            prop_assert_eq!(links.user_of(&token), Some(user_id.clone()));
            let mut forged: Vec<char> = token.chars().collect();
            let place = at.index(forged.len());
            prop_assume!(forged[place] != to);
            forged[place] = to;
            let forged: String = forged.into_iter().collect();
            prop_assert_eq!(links.user_of(&forged), None);
        }

        #[test]
        fn any_text_can_be_asked(text in "\\PC{0,200}") {
            prop_assert_eq!(links(&[secret('a')]).user_of(&text), None);
        }
    }
}
