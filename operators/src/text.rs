//! When two texts count as the same, and what is kept of them and of people: hashes, never the words themselves.

use sha2::{Digest, Sha256};

/// Shorter texts, as they are compared, are repeated by everybody: "ok", "thanks".
const SHORTEST_CHARS: usize = 8;

/// What two texts have in common that count as the same: lower case, letters and digits alone, one space for each run of
/// anything else. `None` for what is too short to be looked for.
pub(crate) fn normalised(text: &str) -> Option<String> {
    let mut kept = String::with_capacity(text.len());
    let mut follows_gap = false;
    for sign in text.chars().flat_map(char::to_lowercase) {
        if !sign.is_alphanumeric() {
            follows_gap = true;
            continue;
        }
        if follows_gap && !kept.is_empty() {
            kept.push(' ');
        }
        follows_gap = false;
        kept.push(sign);
    }
    (kept.chars().count() >= SHORTEST_CHARS).then_some(kept)
}

/// The hash of a text in a chat, as 16 hexadecimal digits; `None` for what is too short. Another one in each chat, so that
/// nobody can follow a text from chat to chat by it.
pub(crate) fn text_hash(chat_id: &str, text: &str) -> Option<String> {
    let text = normalised(text)?;
    let digest = Sha256::new().chain_update(chat_id).chain_update([0]).chain_update(text).finalize();
    Some(format!("{:016x}", u64::from_be_bytes(first_eight(digest))))
}

/// What tells the senders of a window apart.
pub(crate) fn sender_hash(sender_id: &str) -> i64 {
    i64::from_be_bytes(first_eight(Sha256::digest(sender_id)))
}

fn first_eight(digest: impl IntoIterator<Item = u8>) -> [u8; 8] {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_punctuation_and_spaces_make_no_other_text() {
        let same = ["Buy  NOW: cheap!", "buy now cheap", " «Buy» now…\ncheap 🚀🚀", "BUY-NOW-CHEAP"];
        for text in same {
            assert_eq!(normalised(text).as_deref(), Some("buy now cheap"), "{text}");
        }
        assert_eq!(normalised("Grüße, Ärzte!").as_deref(), Some("grüße ärzte"));
        for short in ["ok", "", "🚀🚀🚀🚀🚀🚀🚀🚀🚀", "1234567", "        "] {
            assert_eq!(normalised(short), None, "{short}");
        }
    }

    /// In changelogs and topics that are kept: another way to hash would make other rows of the same history.
    #[test]
    fn hashes_stay_as_they_are() {
        assert_eq!(text_hash("launch", "Buy NOW: cheap!"), text_hash("launch", "buy now cheap"));
        assert_ne!(text_hash("launch", "buy now cheap"), text_hash("lunch", "buy now cheap"));
        // printf 'launch\0buy now cheap' | sha256sum
        assert_eq!(text_hash("launch", "buy now cheap").as_deref(), Some(HASH));
        // printf alice | sha256sum
        assert_eq!(sender_hash("alice"), 0x2bd8_06c9_7f0e_00af_u64 as i64);
    }

    const HASH: &str = "8e2756564ae4d9a8";
}
