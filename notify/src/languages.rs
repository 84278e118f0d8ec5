//! Languages that notifications come in: ours, and those that an operator adds.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::text::{Language, Phrase};

/// Times of languages that don't say how they are written.
const TIME: &str = "%Y-%m-%d, %H:%M";
/// Beside the keys of phrases: how times are written (strftime).
const TIME_KEY: &str = "time";

/// What is wrong with an operator's sentences.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sentences of {language} can't be used: {reason}")]
pub struct PhrasesError {
    language: String,
    reason: String,
}

/// Sentences of one language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    language: Language,
    phrases: BTreeMap<&'static str, String>,
    time: String,
}

impl Texts {
    fn built_in(language: Language) -> Self {
        let phrases = Phrase::ALL.iter().map(|phrase| (phrase.key(), phrase.built_in(language).to_owned())).collect();
        let time = if language == Language::DE { "%d.%m.%Y, %H:%M" } else { "%-d %b %Y, %H:%M" };
        Self { language, phrases, time: time.to_owned() }
    }

    /// Which.
    pub fn language(&self) -> Language {
        self.language
    }

    /// A sentence.
    pub fn phrase(&self, phrase: Phrase) -> &str {
        self.phrases.get(phrase.key()).map_or(phrase.built_in(Language::EN), String::as_str)
    }

    /// A time in a zone; nothing if it is out of any calendar.
    pub fn time(&self, ms: i64, zone: &TimeZone) -> Option<String> {
        let at = zone.to_datetime(Timestamp::from_millisecond(ms).ok()?);
        jiff::fmt::strtime::format(&self.time, at).ok()
    }
}

/// All of them. Clones share everything.
#[derive(Debug, Clone)]
pub struct Languages(Arc<BTreeMap<Language, Texts>>);

impl Languages {
    /// Ours.
    pub fn built_in() -> Self {
        Self(Arc::new(Language::BUILT_IN.into_iter().map(|language| (language, Texts::built_in(language))).collect()))
    }

    /// Ours, and those given, by the keys of phrases: of a language that isn't ours all of them.
    pub fn with(given: BTreeMap<Language, BTreeMap<String, String>>) -> Result<Self, PhrasesError> {
        let mut all: BTreeMap<Language, Texts> = (*Self::built_in().0).clone();
        for (language, mut sentences) in given {
            let failed = |reason: String| PhrasesError { language: language.code().to_owned(), reason };
            let empty = || Texts { language, phrases: BTreeMap::new(), time: TIME.to_owned() };
            let texts = all.entry(language).or_insert_with(empty);
            if let Some(time) = sentences.remove(TIME_KEY) {
                jiff::fmt::strtime::format(&time, TimeZone::UTC.to_datetime(Timestamp::UNIX_EPOCH))
                    .map_err(|error| failed(format!("{TIME_KEY}: {error}")))?;
                texts.time = time;
            }
            for phrase in Phrase::ALL {
                if let Some(sentence) = sentences.remove(phrase.key()) {
                    texts.phrases.insert(phrase.key(), sentence);
                } else if !texts.phrases.contains_key(phrase.key()) {
                    return Err(failed(format!("{} is missing", phrase.key())));
                }
            }
            if let Some(unknown) = sentences.keys().next() {
                return Err(failed(format!("{unknown} isn't one of them")));
            }
        }
        Ok(Self(Arc::new(all)))
    }

    /// A language's; English where there is none.
    pub fn texts(&self, language: Language) -> &Texts {
        // English is always there.
        self.0.get(&language).unwrap_or_else(|| &self.0[&Language::EN])
    }

    /// Which there are: English first.
    pub fn all(&self) -> impl Iterator<Item = Language> + '_ {
        let others = self.0.keys().copied().filter(|language| *language != Language::EN);
        std::iter::once(Language::EN).chain(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(left_out: usize) -> BTreeMap<String, String> {
        let phrases = Phrase::ALL.iter().skip(left_out);
        phrases.map(|phrase| (phrase.key().to_owned(), format!("fr {}", phrase.key()))).collect()
    }

    fn with(code: &str, sentences: BTreeMap<String, String>) -> Result<Languages, String> {
        Languages::with(BTreeMap::from([(Language::of(code), sentences)])).map_err(|error| error.to_string())
    }

    #[test]
    fn an_operators_language_is_one_like_ours() {
        let mut given = sentences(0);
        given.insert("time".into(), "%d/%m/%Y %Hh%M".into());
        let languages = with("fr", given).unwrap();
        assert_eq!(languages.all().map(|language| language.code().to_owned()).collect::<Vec<_>>(), ["en", "de", "fr"]);
        let french = languages.texts(Language::of("fr-CA"));
        assert_eq!((french.language().code(), french.phrase(Phrase::Photo)), ("fr", "fr WALTALKIE_PHOTO"));
        assert_eq!(french.time(1_768_478_580_000, &TimeZone::UTC).as_deref(), Some("15/01/2026 12h03"));
        assert_eq!(languages.texts(Language::of("it")).phrase(Phrase::Photo), "Photo", "English where there is none");
        let plain = with("fr", sentences(0)).unwrap();
        let written = plain.texts(Language::of("fr")).time(1_768_478_580_000, &TimeZone::UTC);
        assert_eq!(written.as_deref(), Some("2026-01-15, 12:03"));
    }

    #[test]
    fn ours_can_be_put_in_other_words_and_what_is_wrong_is_told() {
        let one = BTreeMap::from([("WALTALKIE_MESSAGE".to_owned(), "Sie haben Post".to_owned())]);
        let german = with("de", one).unwrap();
        let german = german.texts(Language::DE);
        assert_eq!((german.phrase(Phrase::Message), german.phrase(Phrase::Photo)), ("Sie haben Post", "Foto"));
        let error = |code, left_out, key: &str, value: &str| {
            let mut given = sentences(left_out);
            given.insert(key.to_owned(), value.to_owned());
            with(code, given).unwrap_err()
        };
        let told = "the sentences of fr can't be used: ";
        assert_eq!(error("fr", 1, "time", "%H"), format!("{told}WALTALKIE_MESSAGE is missing"));
        assert_eq!(error("fr", 0, "WALTALKIE_SMELL", "odeur"), format!("{told}WALTALKIE_SMELL isn't one of them"));
        assert!(error("fr", 0, "time", "%!").starts_with(&format!("{told}time: ")));
    }
}
