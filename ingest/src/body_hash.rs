//! The keyed hash by which a repeated message is known, also when its body is gone.
//!
//! Keyed, so that the table of hashes can't be searched for short bodies by somebody who has only that table.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Hashes bodies with the installation's key.
#[derive(Clone)]
pub(crate) struct BodyHasher {
    empty: Hmac<Sha256>,
}

impl BodyHasher {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        let empty = Hmac::new_from_slice(&key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        Self { empty }
    }

    /// 16 bytes for a body: its text and its media in order, each with its length before it.
    pub(crate) fn hash(&self, content: &str, media_ids: &[String]) -> Vec<u8> {
        let mut mac = self.empty.clone();
        for part in std::iter::once(content).chain(media_ids.iter().map(String::as_str)) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes()[..16].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_differ_by_text_media_and_key() {
        let hasher = BodyHasher::new([1; 16]);
        let one = hasher.hash("ab", &[]);
        assert_eq!(one, hasher.hash("ab", &[]));
        assert_ne!(one, hasher.hash("a", &["b".into()]));
        assert_ne!(one, BodyHasher::new([2; 16]).hash("ab", &[]));
    }
}
