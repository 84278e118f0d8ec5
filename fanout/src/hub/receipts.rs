//! Receipts on their way to a chat's members: by name, or counted when a crowd has moved, since a frame that names a thousand
//! people would go to a thousand.

use std::collections::HashMap;

use schemas::wire::payload::{MarkCounts, Marks};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::task::Task;
use crate::frames;

/// Different `seq` that are counted; the highest.
const COUNTED: usize = 100;

#[derive(Deserialize)]
struct Receipts<'a> {
    #[serde(borrow)]
    chat_id: &'a str,
    #[serde(borrow)]
    users: HashMap<&'a str, &'a RawValue>,
}

impl Task {
    /// Passes cursors on to those who are in the chat, without people who have left it. Whoever is one of a crowd still gets
    /// their own by name: their other devices may have moved it.
    pub(super) fn take_receipts(&mut self, json: &[u8]) {
        let Ok(Receipts { chat_id, mut users }) = serde_json::from_slice::<Receipts<'_>>(json) else {
            tracing::warn!("receipts on a channel of ours can't be read and are passed over");
            return;
        };
        let Some(chat) = self.chats.get(chat_id) else { return };
        users.retain(|user_id, _| chat.members.get(user_id).is_none_or(|member| member.stays.open_since().is_some()));
        if users.is_empty() {
            return;
        }
        let members = || chat.members.iter().filter(|(_, member)| member.stays.open_since().is_some());
        let frame = if users.len() <= self.receipt_people {
            frames::receipt(chat_id, &users)
        } else {
            for (user_id, member) in members() {
                let Some((name, marks)) = users.get_key_value(&**user_id) else { continue };
                let own = frames::receipt(chat_id, &HashMap::from([(*name, *marks)]));
                member.links.iter().for_each(|link| link.desk.outgoing.push(own.clone()));
            }
            frames::receipt_counts(chat_id, &counts(users.values().copied()))
        };
        for link in members().flat_map(|(_, member)| &member.links) {
            link.desk.outgoing.push(frame.clone());
        }
    }
}

fn counts<'a>(marks: impl Iterator<Item = &'a RawValue>) -> MarkCounts {
    let mut counts = MarkCounts::default();
    for marks in marks.filter_map(|marks| serde_json::from_str::<Marks>(marks.get()).ok()) {
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
        let marks: Vec<Box<RawValue>> = (1..=300)
            .map(|n| format!(r#"{{"delivered_seq":{},"read_seq":{n}}}"#, 7 + n % 2))
            .map(|json| RawValue::from_string(json).expect("JSON"))
            .collect();
        let counts = counts(marks.iter().map(|marks| &**marks));
        assert_eq!(counts.delivered.into_iter().collect::<Vec<_>>(), [(7, 150), (8, 150)]);
        assert_eq!((counts.read.len(), counts.read.first_key_value()), (COUNTED, Some((&201, &1))));
    }
}
