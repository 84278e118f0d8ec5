//! Templates of mails: our own, or an operator's in their place. All are compiled and tried out when they are loaded.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

use super::{Seen, SeenChat, SeenMessage};
use crate::languages::Languages;
use crate::text::{Language, one_line};

const SUBJECT_CHARS: usize = 150;

/// A part of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// One line.
    Subject,
    /// `text/plain`.
    Text,
    /// `text/html`; what is put in is escaped.
    Html,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Subject, Self::Text, Self::Html];

    /// The file's name, in its language's folder.
    pub fn file_name(self) -> String {
        format!("digest.{}", self.extension())
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "txt",
            Self::Html => "html",
        }
    }

    fn built_in(self, language: Language) -> Option<&'static str> {
        Some(match (language, self) {
            (Language::EN, Self::Subject) => include_str!("../../templates/en/digest.subject"),
            (Language::EN, Self::Text) => include_str!("../../templates/en/digest.txt"),
            (Language::EN, Self::Html) => include_str!("../../templates/en/digest.html"),
            (Language::DE, Self::Subject) => include_str!("../../templates/de/digest.subject"),
            (Language::DE, Self::Text) => include_str!("../../templates/de/digest.txt"),
            (Language::DE, Self::Html) => include_str!("../../templates/de/digest.html"),
            _ => return None,
        })
    }
}

/// What is wrong with a template. Says its name and line.
#[derive(Debug, thiserror::Error)]
#[error("the template {name} can't be used")]
pub struct TemplateError {
    name: String,
    #[source]
    source: minijinja::Error,
}

/// Templates of all languages.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    languages: Languages,
}

pub(super) struct Rendered {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

impl Templates {
    /// Ours.
    pub fn built_in() -> Result<Self, TemplateError> {
        Self::with(Languages::built_in(), BTreeMap::new())
    }

    /// Of all these languages: ours, except for those given. A language that isn't ours needs all parts.
    pub fn with(languages: Languages, mut replaced: BTreeMap<(Language, Part), String>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let is_html = |name: &str| name.rsplit_once('.').is_some_and(|(_, extension)| extension == "html");
        environment
            .set_auto_escape_callback(move |name| if is_html(name) { AutoEscape::Html } else { AutoEscape::None });
        for language in languages.all() {
            for part in Part::ALL {
                let name = name_of(language, part);
                let own = replaced.remove(&(language, part));
                let Some(source) = own.or_else(|| part.built_in(language).map(str::to_owned)) else {
                    let why = "a language that isn't built in needs all of its templates";
                    return Err(TemplateError {
                        name,
                        source: minijinja::Error::new(ErrorKind::TemplateNotFound, why),
                    });
                };
                let added = environment.add_template_owned(name.clone(), source);
                added.map_err(|source| TemplateError { name, source })?;
            }
        }
        let all: Vec<Language> = languages.all().collect();
        let templates = Self { environment, languages };
        for language in all {
            for mut sample in samples() {
                templates.render(language, &mut sample)?;
            }
        }
        Ok(templates)
    }

    pub(super) fn languages(&self) -> &Languages {
        &self.languages
    }

    /// In a language that there is.
    pub(super) fn render(&self, language: Language, seen: &mut Seen) -> Result<Rendered, TemplateError> {
        seen.subject = one_line(&self.part(language, Part::Subject, seen)?, SUBJECT_CHARS);
        Ok(Rendered {
            text: self.part(language, Part::Text, seen)?,
            html: self.part(language, Part::Html, seen)?,
            subject: seen.subject.clone(),
        })
    }

    fn part(&self, language: Language, part: Part, seen: &Seen) -> Result<String, TemplateError> {
        let name = name_of(language, part);
        let rendered =
            self.environment.get_template(&name).and_then(|template| template.render(Value::from(Serde(seen))));
        rendered.map_err(|source| TemplateError { name, source })
    }
}

fn name_of(language: Language, part: Part) -> String {
    format!("{}/digest.{}", language.code(), part.extension())
}

/// With everything, and with nothing that may be absent.
fn samples() -> [Seen; 2] {
    let message = SeenMessage { sender: "Alice".into(), text: Some("Hello".into()), time: Some("10:00".into()) };
    let chat = SeenChat {
        name: "Team".into(),
        link: "https://chat.example/1".into(),
        count: 3,
        messages: vec![message, SeenMessage { sender: "Bob".into(), ..SeenMessage::default() }],
        more: Some(1),
    };
    let full = Seen {
        brand: "Chat".into(),
        home: "https://chat.example".into(),
        settings: Some("https://chat.example/settings".into()),
        unsubscribe: Some("https://chat.example/unsubscribe".into()),
        name: Some("Carol".into()),
        subject: String::new(),
        total: 3,
        chats: vec![chat],
    };
    let bare = Seen { brand: "Chat".into(), home: "https://chat.example".into(), total: 1, ..Seen::default() };
    [full, bare]
}
