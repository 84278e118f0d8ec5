//! Languages, the fixed sentences of notifications in each, and how texts from people are made fit for one line.

use schemas::wire::names;
use serde::{Deserialize, Serialize};

/// A language, by the first part of its tag (BCP 47), such as `de` of `de-AT`. Which there are texts in is
/// [`Languages`](crate::languages::Languages)' to know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Language {
    /// Two or three small letters, and zeros.
    letters: [u8; 3],
}

impl Language {
    /// English, also for those whose language can't be read.
    pub const EN: Self = Self { letters: *b"en\0" };
    /// German.
    pub const DE: Self = Self { letters: *b"de\0" };
    /// Those that all texts are in.
    pub const BUILT_IN: [Self; 2] = [Self::EN, Self::DE];

    /// The one that is called exactly so.
    pub fn named(code: &str) -> Option<Self> {
        let mut letters = [0; 3];
        if !(2..=3).contains(&code.len()) || !code.bytes().all(|letter| letter.is_ascii_lowercase()) {
            return None;
        }
        letters[..code.len()].copy_from_slice(code.as_bytes());
        Some(Self { letters })
    }

    /// That of a tag such as `de-AT`; English if it is none.
    pub fn of(tag: &str) -> Self {
        let primary = tag.split(['-', '_']).next().unwrap_or_default();
        Self::named(&primary.to_ascii_lowercase()).unwrap_or_default()
    }

    /// Its code.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.letters).unwrap_or_default().trim_end_matches('\0')
    }
}

impl Default for Language {
    fn default() -> Self {
        Self::EN
    }
}

impl std::fmt::Debug for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl From<String> for Language {
    fn from(tag: String) -> Self {
        Self::of(&tag)
    }
}

impl From<Language> for String {
    fn from(language: Language) -> Self {
        language.code().to_owned()
    }
}

/// A sentence that stands where words of a message don't. Apps bring their own translation under [`Phrase::key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phrase {
    /// There is a message.
    Message,
    /// One was named.
    Mention,
    /// Everybody was named.
    MentionAll,
    /// A picture without words.
    Photo,
    /// A video without words.
    Video,
    /// A recording without words.
    Audio,
    /// Any other file without words.
    File,
}

impl Phrase {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Message, Self::Mention, Self::MentionAll, Self::Photo, Self::Video, Self::Audio, Self::File];

    /// The key of the app's own translation: `loc-key` of APNs, `body_loc_key` of FCM and Web Push.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Message => "WALTALKIE_MESSAGE",
            Self::Mention => "WALTALKIE_MENTION",
            Self::MentionAll => "WALTALKIE_MENTION_ALL",
            Self::Photo => "WALTALKIE_PHOTO",
            Self::Video => "WALTALKIE_VIDEO",
            Self::Audio => "WALTALKIE_AUDIO",
            Self::File => "WALTALKIE_FILE",
        }
    }

    /// In our words: English where they aren't in that language.
    pub(crate) fn built_in(self, language: Language) -> &'static str {
        match (language == Language::DE, self) {
            (_, Self::Video) => "Video",
            (false, Self::Message) => "New message",
            (false, Self::Mention) => "You were mentioned",
            (false, Self::MentionAll) => "Everybody was mentioned",
            (false, Self::Photo) => "Photo",
            (false, Self::Audio) => "Audio recording",
            (false, Self::File) => "File",
            (true, Self::Message) => "Neue Nachricht",
            (true, Self::Mention) => "Du wurdest erwähnt",
            (true, Self::MentionAll) => "Alle wurden erwähnt",
            (true, Self::Photo) => "Foto",
            (true, Self::Audio) => "Audioaufnahme",
            (true, Self::File) => "Datei",
        }
    }
}

/// A text from a person as one line of at most so many characters: control characters and those that turn the direction of
/// writing are gone, so that a name can't rearrange what stands around it; what is cut ends in an ellipsis.
pub fn one_line(text: &str, most_chars: usize) -> String {
    let mut line = String::new();
    let mut count = 0;
    for character in text.trim().chars() {
        let character = if character.is_whitespace() { ' ' } else { character };
        if names::is_foreign(character) || (character == ' ' && line.ends_with(' ')) {
            continue;
        }
        if count == most_chars {
            // In place of the last one.
            line.pop();
            line.truncate(line.trim_end().len());
            line.push('…');
            break;
        }
        line.push(character);
        count += 1;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_short_and_plain() {
        for (text, line) in [
            ("hello", "hello"),
            ("  two\r\n lines\t", "two lines"),
            ("a\u{0}b\u{7f}\u{202e}c", "abc"),
            ("1234567890", "1234567890"),
            ("12345678901", "123456789…"),
            ("12345678 90 1", "12345678…"),
            ("äöüßÄÖÜẞ李雷!", "äöüßÄÖÜẞ李…"),
            ("", ""),
        ] {
            assert_eq!(one_line(text, 10), line, "{text:?}");
        }
    }

    #[test]
    fn languages_are_found_by_their_tags() {
        for (tag, code) in
            [("de", "de"), ("de-AT", "de"), ("DE_de", "de"), ("en-GB", "en"), ("fr", "fr"), ("gsw-CH", "gsw")]
        {
            assert_eq!(Language::of(tag).code(), code);
            assert_eq!(serde_json::to_value(Language::of(tag)).unwrap(), code);
        }
        for tag in ["", "deutsch", "d", "d3", "../de", "é"] {
            assert_eq!(Language::of(tag), Language::EN);
        }
        assert_eq!((Language::named("de"), Language::named("DE")), (Some(Language::DE), None));
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_line(text in any::<String>(), most in 1..40_usize) {
            let line = one_line(&text, most);
            prop_assert!(line.chars().count() <= most);
            prop_assert!(!line.chars().any(names::is_foreign));
        }
    }
}
