//! Receipts on their way to a chat's members: at most one a second of each chat, however many publishers tell of it; by name,
//! or counted when a crowd has moved, since a frame that names a thousand people would go to a thousand.

use std::collections::HashMap;
use std::sync::Arc;

use schemas::wire::payload::{MarkCounts, Marks};
use serde::Deserialize;

use super::task::Task;
use crate::frames;

/// How often members of a chat are told at the most.
const EVERY_MS: u64 = 1_000;
/// Different `seq` that are counted; the highest.
const COUNTED: usize = 100;

#[derive(Deserialize)]
struct Receipts<'a> {
    #[serde(borrow)]
    chat_id: &'a str,
    users: HashMap<String, Marks>,
}

/// What has come since a chat's members were told last.
pub(super) struct Gathered {
    next_ms: u64,
    users: HashMap<String, Marks>,
}

impl Gathered {
    /// The farthest of each counts: what comes from another publisher may be older.
    fn take(&mut self, users: HashMap<String, Marks>) {
        for (user_id, moved) in users {
            self.users
                .entry(user_id)
                .and_modify(|marks| {
                    marks.delivered_seq = marks.delivered_seq.max(moved.delivered_seq);
                    marks.read_seq = marks.read_seq.max(moved.read_seq);
                })
                .or_insert(moved);
        }
    }
}

impl Task {
    pub(super) fn take_receipts(&mut self, json: &[u8]) {
        let Ok(Receipts { chat_id, users }) = serde_json::from_slice::<Receipts<'_>>(json) else {
            tracing::warn!("receipts on a channel of ours can't be read and are passed over");
            return;
        };
        let Some(chat_id) = self.chats.get(chat_id).map(|chat| Arc::clone(&chat.id)) else { return };
        let now_ms = self.now_ms();
        let gathered = self
            .receipts
            .entry(Arc::clone(&chat_id))
            .or_insert_with(|| Gathered { next_ms: now_ms, users: HashMap::new() });
        gathered.take(users);
        if now_ms >= gathered.next_ms {
            gathered.next_ms = now_ms + EVERY_MS;
            let users = std::mem::take(&mut gathered.users);
            self.tell_receipts(&chat_id, users);
        }
    }

    /// Tells what has gathered long enough.
    pub(super) fn receipts_tick(&mut self, now_ms: u64) {
        let mut due = Vec::new();
        self.receipts.retain(|chat_id, gathered| {
            if now_ms < gathered.next_ms {
                return true;
            }
            gathered.next_ms = now_ms + EVERY_MS;
            let users = std::mem::take(&mut gathered.users);
            let is_busy = !users.is_empty();
            if is_busy {
                due.push((Arc::clone(chat_id), users));
            }
            is_busy
        });
        for (chat_id, users) in due {
            self.tell_receipts(&chat_id, users);
        }
    }

    /// Passes cursors on to those who are in the chat, without people who have left it. Whoever is one of a crowd still gets
    /// their own by name: their other devices may have moved it.
    fn tell_receipts(&self, chat_id: &str, mut users: HashMap<String, Marks>) {
        let Some(chat) = self.chats.get(chat_id) else { return };
        users.retain(|user_id, _| {
            chat.members.get(user_id.as_str()).is_none_or(|member| member.stays.open_since().is_some())
        });
        if users.is_empty() {
            return;
        }
        let members = || chat.members.iter().filter(|(_, member)| member.stays.open_since().is_some());
        let frame = if users.len() <= self.receipt_people {
            frames::receipt(chat_id, &users)
        } else {
            for (user_id, member) in members() {
                let Some((name, marks)) = users.get_key_value(&**user_id) else { continue };
                let own = frames::receipt(chat_id, &HashMap::from([(name.clone(), *marks)]));
                member.links.iter().for_each(|link| link.desk.outgoing.push(own.clone()));
            }
            frames::receipt_counts(chat_id, &counts(users.values()))
        };
        for link in members().flat_map(|(_, member)| &member.links) {
            link.desk.outgoing.push(frame.clone());
        }
    }
}

fn counts<'a>(marks: impl Iterator<Item = &'a Marks>) -> MarkCounts {
    let mut counts = MarkCounts::default();
    for marks in marks {
        *counts.delivered.entry(marks.delivered_seq).or_default() += 1;
        *counts.read.entry(marks.read_seq).or_default() += 1;
        for counted in [&mut counts.delivered, &mut counts.read] {
            if counted.len() > COUNTED {
                counted.pop_first();
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_counted_by_how_far_they_have_come() {
        let marks: Vec<Marks> = (1..=300).map(|read_seq| Marks { delivered_seq: 7 + read_seq % 2, read_seq }).collect();
        let counts = counts(marks.iter());
        assert_eq!(counts.delivered.into_iter().collect::<Vec<_>>(), [(7, 150), (8, 150)]);
        assert_eq!((counts.read.len(), counts.read.first_key_value()), (COUNTED, Some((&201, &1))));
    }

    #[test]
    fn the_farthest_of_each_person_counts() {
        let marks = |delivered_seq, read_seq| Marks { delivered_seq, read_seq };
        let mut gathered = Gathered { next_ms: 0, users: HashMap::from([("a".to_owned(), marks(5, 2))]) };
        gathered.take(HashMap::from([("a".to_owned(), marks(4, 3)), ("b".to_owned(), marks(1, 1))]));
        assert_eq!(gathered.users, HashMap::from([("a".to_owned(), marks(5, 3)), ("b".to_owned(), marks(1, 1))]));
    }
}
