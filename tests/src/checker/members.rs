//! Who may see what, from the rows of `chat_member`.

use std::collections::HashMap;

use super::Stay;

/// Stays by chat and person.
pub(crate) struct Members<'a> {
    stays: HashMap<(&'a str, &'a str), Vec<&'a Stay>>,
    chats_of: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> Members<'a> {
    pub(crate) fn of(stays: &'a [Stay]) -> Self {
        let mut members = Self { stays: HashMap::new(), chats_of: HashMap::new() };
        for stay in stays {
            let of_person = members.stays.entry((&stay.chat_id, &stay.user_id)).or_default();
            if of_person.is_empty() {
                members.chats_of.entry(&stay.user_id).or_default().push(&stay.chat_id);
            }
            of_person.push(stay);
        }
        members
    }

    /// Chats that a person is or was in.
    pub(crate) fn chats_of(&self, user_id: &str) -> &[&'a str] {
        self.chats_of.get(user_id).map_or(&[], Vec::as_slice)
    }

    /// A person's stays in a chat.
    pub(crate) fn stays<'b>(&'b self, chat_id: &'b str, user_id: &'b str) -> &'b [&'a Stay] {
        self.stays.get(&(chat_id, user_id)).map_or(&[], Vec::as_slice)
    }

    /// Whether some stay of the person shows the event.
    pub(crate) fn shows(&self, chat_id: &str, user_id: &str, seq: i64) -> bool {
        self.stays(chat_id, user_id).iter().any(|stay| stay.shows(seq))
    }
}
