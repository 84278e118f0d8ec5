//! What may not stand in a name: of a chat, a person or a device.
//!
//! Names are shown in the middle of what others wrote, in lists, notifications and logs. One with a line break makes two lines of
//! one, one that turns the direction of writing (UAX 9) rearranges what stands around it. The marks U+200E and U+200F, with which
//! names in two scripts are written, do neither.

/// The first character of a text that no name has.
pub fn foreign(text: &str) -> Option<char> {
    text.chars().find(|character| is_foreign(*character))
}

/// A name without them, for names that come from somewhere else, such as tokens; `None` if nothing is left.
pub fn cleaned(name: &str) -> Option<String> {
    let name: String = name.chars().filter(|character| !is_foreign(*character)).collect();
    Some(name).filter(|name| !name.trim().is_empty())
}

/// Control characters, separators of lines, and embeddings, overrides and isolates of the bidirectional algorithm.
pub fn is_foreign(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned() {
        assert_eq!(cleaned("Al\u{202e}ice\n").as_deref(), Some("Alice"));
        assert_eq!(cleaned("\u{202a} \u{202c}"), None);
        assert_eq!(foreign("Zo\u{eb} \u{200f}"), None);
        assert_eq!(foreign("a\u{0}"), Some('\u{0}'));
    }
}
