//! Languages, the fixed sentences of notifications in each, and how texts from people are made fit for one line.

use schemas::wire::names;
use serde::{Deserialize, Serialize};

/// A language that there are templates and sentences in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Language {
    /// English, also for those whose language isn't here.
    #[default]
    En,
    /// German.
    De,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::En, Self::De];

    /// Its code (BCP 47).
    pub const fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
        }
    }

    /// The best one for a tag such as `de-AT`.
    pub fn of(tag: &str) -> Self {
        let primary = tag.split(['-', '_']).next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| primary.eq_ignore_ascii_case(language.code())).unwrap_or_default()
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

    /// In a language.
    pub const fn text(self, language: Language) -> &'static str {
        match (language, self) {
            (_, Self::Video) => "Video",
            (Language::En, Self::Message) => "New message",
            (Language::En, Self::Mention) => "You were mentioned",
            (Language::En, Self::MentionAll) => "Everybody was mentioned",
            (Language::En, Self::Photo) => "Photo",
            (Language::En, Self::Audio) => "Audio recording",
            (Language::En, Self::File) => "File",
            (Language::De, Self::Message) => "Neue Nachricht",
            (Language::De, Self::Mention) => "Du wurdest erwähnt",
            (Language::De, Self::MentionAll) => "Alle wurden erwähnt",
            (Language::De, Self::Photo) => "Foto",
            (Language::De, Self::Audio) => "Audioaufnahme",
            (Language::De, Self::File) => "Datei",
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
        for (tag, language) in [("de", Language::De), ("de-AT", Language::De), ("DE_de", Language::De)] {
            assert_eq!(Language::of(tag), language);
        }
        for tag in ["en-GB", "fr", "", "deutsch"] {
            assert_eq!(Language::of(tag), Language::En);
        }
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
