//! How a person wants to be told of messages: the JSON of `/v1/users/me/settings`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::quiet::QuietHours;
use crate::text::Language;

/// A person's settings. What is absent has its default; fields that others use are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Signs on the page, such as a badge.
    pub in_app: bool,
    /// On the person's devices.
    pub push: bool,
    /// By mail.
    pub email: bool,
    /// When to stay silent.
    pub do_not_disturb: Option<QuietHours>,
    /// Chats that stay silent.
    pub muted_chat_ids: BTreeSet<String>,
    /// Chats that are silent except for mentions.
    pub mentions_only_chat_ids: BTreeSet<String>,
    /// How much of a message leaves the application.
    pub content: ContentMode,
    /// In which language.
    pub language: Language,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            in_app: true,
            push: true,
            email: false,
            do_not_disturb: None,
            muted_chat_ids: BTreeSet::new(),
            mentions_only_chat_ids: BTreeSet::new(),
            content: ContentMode::Full,
            language: Language::En,
        }
    }
}

/// How much of a message a notification shows. Later ones are stricter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentMode {
    /// Who wrote, where, and what.
    #[default]
    Full,
    /// Who wrote, and where.
    SenderOnly,
    /// That there is something; no name and no words.
    Nothing,
}

impl ContentMode {
    /// The stricter of the operator's and the person's.
    pub fn stricter(self, other: Self) -> Self {
        self.max(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_today_is_read() {
        let json = r#"{"in_app": true, "push": false, "email": true, "muted_chat_ids": ["c1"],
            "do_not_disturb": {"from": "22:00", "to": "07:30", "time_zone": "Europe/Berlin"}}"#;
        let settings: Settings = serde_json::from_str(json).unwrap();
        assert!(!settings.push && settings.email && settings.muted_chat_ids.contains("c1"));
        assert_eq!((settings.content, settings.language), (ContentMode::Full, Language::En));
        let again: Settings = serde_json::from_str(&serde_json::to_string(&settings).unwrap()).unwrap();
        assert_eq!(again, settings);
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
    }

    #[test]
    fn the_stricter_mode_wins() {
        use ContentMode::{Full, Nothing, SenderOnly};
        for (operator, person, both) in [
            (Full, Full, Full),
            (Full, SenderOnly, SenderOnly),
            (Nothing, Full, Nothing),
            (SenderOnly, Nothing, Nothing),
        ] {
            assert_eq!(operator.stricter(person), both);
            assert_eq!(person.stricter(operator), both);
        }
    }
}
