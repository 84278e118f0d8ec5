//! Which rows of the stream the history lacks, once it was completed from the tables.
//!
//! Pure. The slot shows every transaction from its start on, and tables that are read later hold rows of some of them
//! too. A place in the stream can't tell those apart, a row's `seq` can: it is in the history already if the history
//! goes that far in its chat.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Fault;
use super::report::{Report, Step};
use crate::lsn::Lsn;
use crate::mapping::Key;

/// How far the history goes while the stream is read up to an LSN.
pub(crate) struct Completing {
    chats: HashMap<String, i64>,
    users: HashMap<String, i64>,
    until: Lsn,
    report: Report,
    added: u64,
}

impl Completing {
    /// A history that goes so far in each chat, and for each person; and the LSN from which on the stream has nothing
    /// that could be in it.
    pub(crate) const fn new(
        chats: HashMap<String, i64>,
        users: HashMap<String, i64>,
        until: Lsn,
        report: Report,
    ) -> Self {
        Self { chats, users, until, report, added: 0 }
    }

    /// Where the stream takes over from the tables.
    pub(crate) const fn until(&self) -> Lsn {
        self.until
    }

    /// Whether everything up to there has been seen.
    pub(crate) fn has_come(&self, lsn: Lsn) -> bool {
        lsn >= self.until
    }

    /// Whether a row is missing from the history, which goes one further then. Rows come in the order of their chats;
    /// one that leaves others out is an error.
    pub(crate) fn is_new(&mut self, key: &Key<'_>) -> Result<bool, Fault> {
        let is_new = match *key {
            Key::Chat { chat_id, seq, .. } => match self.chats.get_mut(chat_id) {
                Some(head) if seq <= *head => false,
                Some(head) if seq == *head + 1 => {
                    *head = seq;
                    true
                }
                None if seq == 1 => {
                    self.chats.insert(chat_id.to_owned(), seq);
                    true
                }
                head => {
                    return Err(Fault::Gap { chat_id: chat_id.to_owned(), seq, after: head.map_or(0, |head| *head) });
                }
            },
            Key::User { user_id, version } => match self.users.entry(user_id.to_owned()) {
                Entry::Occupied(head) if version <= *head.get() => false,
                head => {
                    *head.or_insert(version) = version;
                    true
                }
            },
        };
        if is_new {
            self.added += 1;
            self.report.tell(Step::Following { added: self.added });
        }
        Ok(is_new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(chat_id: &str, seq: i64) -> Key<'_> {
        Key::Chat { is_message: true, chat_id, seq }
    }

    fn user(user_id: &str, version: i64) -> Key<'_> {
        Key::User { user_id, version }
    }

    #[test]
    fn what_is_there_is_dropped_and_what_follows_is_new() {
        let chats = HashMap::from([("c".to_owned(), 3)]);
        let users = HashMap::from([("u".to_owned(), 2)]);
        let mut completing = Completing::new(chats, users, Lsn(10), Report::default());
        let new = [
            chat("c", 2),
            chat("c", 3),
            chat("c", 4),
            chat("c", 4),
            chat("d", 1),
            user("u", 2),
            user("u", 3),
            user("v", 1),
            user("v", 1),
        ]
        .map(|key| completing.is_new(&key).ok());
        let [yes, no] = [Some(true), Some(false)];
        assert_eq!(new, [no, no, yes, no, yes, no, yes, yes, no]);
        assert!(!completing.has_come(Lsn(9)) && completing.has_come(Lsn(10)));
    }

    #[test]
    fn a_hole_is_an_error() {
        let mut completing =
            Completing::new(HashMap::from([("c".to_owned(), 3)]), HashMap::new(), Lsn(10), Report::default());
        assert!(completing.is_new(&chat("c", 5)).is_err());
        assert!(completing.is_new(&chat("d", 2)).is_err());
    }
}
