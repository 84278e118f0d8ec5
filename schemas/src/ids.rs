//! Ids: what an application may call its people and chats, and what a 1:1 chat is called.

use uuid::Uuid;

/// Longest `user_id` and `chat_id`, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// Namespace of the UUIDv5 that names a 1:1 chat; a constant of the contract.
const ONE_TO_ONE: Uuid = Uuid::from_u128(0x6b6f_9c1a_4d0b_4a52_9e0c_1f1c_7a3d_5e21);

/// Whether a text may be a `user_id` or `chat_id`: 1 to 64 of `[A-Za-z0-9._:-]`.
pub fn is_valid(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-'))
}

/// What begins like this names the program's own, never a person.
const RESERVED: &str = "waltalkie:";

/// The sender of what a service posts in no person's name.
pub const SYSTEM: &str = "waltalkie:system";

/// Whether an id is the program's own, so that no person may have it.
pub fn is_reserved(id: &str) -> bool {
    id.starts_with(RESERVED)
}

/// The id of the one 1:1 chat of two people, whoever makes it: a UUIDv5 of the length-prefixed, sorted pair.
pub fn one_to_one_chat(first: &str, second: &str) -> String {
    let (low, high) = if first <= second { (first, second) } else { (second, first) };
    let name = format!("{}:{low}{}:{high}", low.len(), high.len());
    Uuid::new_v5(&ONE_TO_ONE, name.as_bytes()).to_string()
}

/// Whether an id has the form of those of 1:1 chats.
pub fn is_one_to_one(id: &str) -> bool {
    Uuid::try_parse(id).is_ok_and(|uuid| uuid.get_version() == Some(uuid::Version::Sha1))
}

/// A new id where the client gives none: a UUIDv7 as text, so that ids made later sort later.
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_form_of_a_one_to_one_chats_id_is_known() {
        assert!(is_one_to_one(&one_to_one_chat("alice", "bob")));
        for other in [new_id(), Uuid::new_v4().to_string(), "alice".into(), SYSTEM.into()] {
            assert!(!is_one_to_one(&other), "{other}");
        }
    }

    #[test]
    fn ids_are_short_and_plain() {
        assert!(is_valid("alice"));
        assert!(is_valid("a.b_c:d-9"));
        for bad in ["", "a b", "ä", "a/b", "a\0", &"x".repeat(65)] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_pair_has_one_chat(a in "[a-z0-9:]{1,12}", b in "[a-z0-9:]{1,12}", c in "[a-z0-9:]{1,12}") {
            prop_assert_eq!(one_to_one_chat(&a, &b), one_to_one_chat(&b, &a));
            if b != c {
                prop_assert_ne!(one_to_one_chat(&a, &b), one_to_one_chat(&a, &c));
            }
        }
    }
}
