use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use schemas::{ChatEvent, Cursor, event_type};

use super::{CursorState, EventState, Inbox, PendingRow};
use crate::projection::Input;
use crate::samples::{actions, batches, cuts, history};

/// The three tables, with what the SQL does to them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tables {
    most_members: usize,
    members: BTreeMap<(String, String, i64), Option<i64>>,
    cursors: BTreeMap<(String, String), i64>,
    /// By chat, seq and person: the row, and whether it is delivered.
    inbox: BTreeMap<(String, i64, String), (PendingRow, bool)>,
}

impl Tables {
    fn new(most_members: usize) -> Self {
        Self { most_members, members: BTreeMap::new(), cursors: BTreeMap::new(), inbox: BTreeMap::new() }
    }

    fn apply_events(&self, events: &[ChatEvent]) -> EventState {
        let mut state = EventState::new(self.most_members);
        let named: BTreeSet<_> = events
            .iter()
            .flat_map(|event| event.memberships.iter().map(|stay| (&event.chat_id, &stay.user_id, stay.joined_seq)))
            .collect();
        for ((chat, user, joined), left) in &self.members {
            if left.is_none() || named.contains(&(chat, user, *joined)) {
                state.loaded_stay(chat.clone(), user.clone(), *joined, *left);
            }
        }
        for ((chat, user), seq) in &self.cursors {
            state.loaded_cursor(chat.clone(), user.clone(), *seq);
        }
        for event in events {
            <Inbox as Input<ChatEvent>>::apply(&mut state, event).expect("usable");
        }
        state
    }

    fn store_events(&mut self, state: &EventState) {
        self.members.extend(state.stays.changed().into_iter().map(|(key, left)| (key.clone(), *left)));
        self.inbox.retain(|(chat, seq, user), _| {
            state.left.get(&(chat.clone(), user.clone())).is_none_or(|left_seq| seq > left_seq)
        });
        for ((chat, seq, _), (row, _)) in &mut self.inbox {
            row.is_deleted |= state.deleted.contains(&(chat.clone(), *seq));
        }
        for (key, row) in &state.made {
            self.inbox.entry(key.clone()).or_insert((*row, false));
        }
    }

    fn apply_cursors(&self, cursors: &[Cursor]) -> CursorState {
        let mut state = CursorState::default();
        for (key, seq) in &self.cursors {
            state.loaded(key.clone(), *seq);
        }
        for cursor in cursors {
            <Inbox as Input<Cursor>>::apply(&mut state, cursor).expect("usable");
        }
        state
    }

    /// `seen`: the rows that the statement sees; a concurrent transaction's are not among them.
    fn store_cursors(&mut self, state: &CursorState, seen: &BTreeSet<(String, i64, String)>) {
        for (key, seq) in state.changed() {
            self.cursors.insert(key.clone(), *seq);
            for ((chat, row_seq, user), (_, is_delivered)) in &mut self.inbox {
                let (chat, user): (&String, &String) = (chat, user);
                let is_seen = seen.contains(&(chat.clone(), *row_seq, user.clone()));
                *is_delivered |= is_seen && (&key.0, &key.1) == (chat, user) && *row_seq <= *seq;
            }
        }
    }

    fn events(&mut self, events: &[ChatEvent]) {
        let state = self.apply_events(events);
        self.store_events(&state);
    }

    fn cursors(&mut self, cursors: &[Cursor]) {
        let state = self.apply_cursors(cursors);
        let seen = self.inbox.keys().cloned().collect();
        self.store_cursors(&state, &seen);
    }

    /// Both at once: neither sees what the other writes.
    fn both(&mut self, events: &[ChatEvent], cursors: &[Cursor]) {
        let seen = self.inbox.keys().cloned().collect();
        let (made, reached) = (self.apply_events(events), self.apply_cursors(cursors));
        self.store_events(&made);
        self.store_cursors(&reached, &seen);
    }

    /// The janitor's sweep and removal.
    fn rest(mut self) -> Self {
        let cursors = &self.cursors;
        self.inbox.retain(|(chat, seq, user), (_, is_delivered)| {
            !*is_delivered && cursors.get(&(chat.clone(), user.clone())).copied().unwrap_or(0) < *seq
        });
        self
    }
}

fn users() -> impl Iterator<Item = String> {
    (0..4).map(|user| format!("u{user}"))
}

/// The rows at rest, said without any state: by events and cursors alone.
fn meaning(events: &[ChatEvent], cursors: &[Cursor], most_members: usize) -> BTreeSet<(String, i64, String, bool)> {
    let mut rows = BTreeSet::new();
    for sent in events.iter().filter(|event| event.event_type == event_type::MESSAGE_PERSISTED) {
        let of_chat = || events.iter().filter(|event| event.chat_id == sent.chat_id);
        let is_deleted = of_chat().any(|event| {
            event.event_type == event_type::MESSAGE_DELETED
                && event.message.as_ref().is_some_and(|message| message.message_seq == sent.seq)
        });
        let is_open_then = |user: &String| {
            let mut earlier = of_chat().filter(|event| event.seq <= sent.seq).flat_map(|event| &event.memberships);
            earlier.rfind(|stay| stay.user_id == *user).is_some_and(|stay| stay.left_seq.is_none())
        };
        if users().filter(is_open_then).count() > most_members {
            continue;
        }
        for user in users() {
            let last_stay = of_chat().flat_map(|event| &event.memberships).rfind(|stay| stay.user_id == user);
            let is_member = last_stay.is_some_and(|stay| stay.left_seq.is_none() && stay.joined_seq < sent.seq);
            let reached = cursors
                .iter()
                .filter(|cursor| cursor.chat_id == sent.chat_id && cursor.user_id == user)
                .map(|cursor| cursor.delivered_seq)
                .max();
            if is_member && sent.actor_id != user && reached.unwrap_or(0) < sent.seq {
                rows.insert((sent.chat_id.clone(), sent.seq, user, is_deleted));
            }
        }
    }
    rows
}

fn shown(tables: &Tables) -> BTreeSet<(String, i64, String, bool)> {
    let row = |((chat, seq, user), (row, _)): (&(String, i64, String), &(PendingRow, bool))| {
        (chat.clone(), *seq, user.clone(), row.is_deleted)
    };
    tables.inbox.iter().map(row).collect()
}

fn cursors() -> impl Strategy<Value = Vec<Cursor>> {
    let cursor = (0..2_u8, 0..4_u8, 0..40_i64).prop_map(|(chat, user, delivered_seq)| Cursor {
        chat_id: format!("chat{chat}"),
        user_id: format!("u{user}"),
        delivered_seq,
        read_seq: 0,
        updated_at: 0,
    });
    prop::collection::vec(cursor, 0..12)
}

proptest! {
    #[test]
    fn at_rest_the_order_of_events_and_cursors_does_not_matter(
        actions in actions(100), cursors in cursors(), cuts in cuts(), turns in prop::collection::vec(0..3_u8, 1..40),
        most_members in 1..5_usize,
    ) {
        let events = history(&actions);
        let mut one_way = Tables::new(most_members);
        one_way.events(&events);
        one_way.cursors(&cursors);
        let one_way = one_way.rest();
        prop_assert_eq!(shown(&one_way), meaning(&events, &cursors, most_members));

        let mut other_way = Tables::new(most_members);
        other_way.cursors(&cursors);
        other_way.events(&events);
        prop_assert_eq!(&other_way.rest(), &one_way);

        let mut mixed = Tables::new(most_members);
        let (mut parts, mut marks) = (batches(&events, &cuts).into_iter(), batches(&cursors, &cuts).into_iter());
        for turn in turns {
            match turn {
                0 => mixed.events(parts.next().unwrap_or_default()),
                1 => mixed.cursors(marks.next().unwrap_or_default()),
                _ => mixed.both(parts.next().unwrap_or_default(), marks.next().unwrap_or_default()),
            }
        }
        parts.for_each(|part| mixed.events(part));
        marks.for_each(|part| mixed.cursors(part));
        prop_assert_eq!(&mixed.rest(), &one_way);
    }

    #[test]
    fn a_repeated_beginning_changes_nothing(
        actions in actions(100), cursors in cursors(), cuts in cuts(), again in 0..100_usize,
    ) {
        let events = history(&actions);
        let mut tables = Tables::new(usize::MAX);
        for events in batches(&events, &cuts) {
            tables.events(events);
        }
        tables.cursors(&cursors);
        let before = tables.clone();
        tables.events(&events[..again.min(events.len())]);
        tables.cursors(&cursors);
        prop_assert_eq!(shown(&tables.rest()), shown(&before.rest()));
    }
}
