//! How a person wants to be told of messages: the JSON of `/v1/users/me/settings`.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::quiet::QuietHours;
use crate::text::Language;

/// A person's settings. What is absent has its default; fields that others use are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Signs in the application, such as a badge: clients give them.
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
            language: Language::EN,
        }
    }
}

impl Settings {
    /// As they are kept, field by field: what can't be read has its default, and nothing is shown of messages where it can't be
    /// read how much may be. Names the fields that can't be read.
    pub fn read(kept: &Value) -> (Self, Vec<&'static str>) {
        let (usual, mut unread) = (Self::default(), Vec::new());
        let settings = Self {
            in_app: field(kept, "in_app", usual.in_app, &mut unread),
            push: field(kept, "push", usual.push, &mut unread),
            email: field(kept, "email", usual.email, &mut unread),
            do_not_disturb: field(kept, "do_not_disturb", usual.do_not_disturb, &mut unread),
            muted_chat_ids: field(kept, "muted_chat_ids", usual.muted_chat_ids, &mut unread),
            mentions_only_chat_ids: field(kept, "mentions_only_chat_ids", usual.mentions_only_chat_ids, &mut unread),
            content: match kept.get("content") {
                None => usual.content,
                Some(_) => field(kept, "content", ContentMode::Nothing, &mut unread),
            },
            language: field(kept, "language", usual.language, &mut unread),
        };
        (settings, unread)
    }
}

fn field<T: DeserializeOwned>(kept: &Value, name: &'static str, otherwise: T, unread: &mut Vec<&'static str>) -> T {
    match kept.get(name) {
        None => otherwise,
        Some(value) => T::deserialize(value).unwrap_or_else(|_| {
            unread.push(name);
            otherwise
        }),
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
        assert_eq!((settings.content, settings.language), (ContentMode::Full, Language::EN));
        let again: Settings = serde_json::from_str(&serde_json::to_string(&settings).unwrap()).unwrap();
        assert_eq!(again, settings);
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
    }

    #[test]
    fn what_cannot_be_read_takes_nothing_else_with_it_and_shows_nothing() {
        let kept = serde_json::json!({
            "push": false, "email": "yes", "muted_chat_ids": ["c1"], "content": "headlines",
            "do_not_disturb": { "from": "22:00", "to": "07:30", "time_zone": "Middle/Earth" },
        });
        let (settings, unread) = Settings::read(&kept);
        assert!(!settings.push && !settings.email && settings.muted_chat_ids.contains("c1"));
        assert_eq!((settings.content, settings.do_not_disturb), (ContentMode::Nothing, None));
        assert_eq!(unread, ["email", "do_not_disturb", "content"]);
        let good = serde_json::json!({ "content": "sender_only", "of_others": 1 });
        assert_eq!(Settings::read(&good).0, serde_json::from_value(good).unwrap());
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
