use std::collections::BTreeMap;

use proptest::prelude::*;
use schemas::{ChatEvent, event_type};

use super::{ChatHead, Head};
use crate::projection::{Applied, Input};
use crate::rows::Rows;
use crate::samples::{actions, batches, cuts, history};

type Table = BTreeMap<String, Head>;

fn batch(table: &mut Table, events: &[ChatEvent]) {
    let mut state = Rows::default();
    for event in events {
        if let Some(head) = table.get(&event.chat_id) {
            state.loaded(event.chat_id.clone(), Head { message: None, ..head.clone() });
        }
    }
    for event in events {
        ChatHead::apply(&mut state, event).expect("usable");
    }
    for (chat, head) in state.changed() {
        let kept = table.get(chat).and_then(|head| head.message.clone());
        let message = head.message.clone().or(kept);
        table.insert(chat.clone(), Head { message, ..head.clone() });
    }
}

/// What the rows mean, said without any state.
fn meaning(events: &[ChatEvent]) -> Table {
    let mut table = Table::new();
    for event in events {
        let newest_send = events
            .iter()
            .filter(|other| other.chat_id == event.chat_id && other.event_type == event_type::MESSAGE_PERSISTED)
            .map(|other| other.seq)
            .max();
        let message = events
            .iter()
            .filter(|other| other.chat_id == event.chat_id)
            .filter_map(|other| other.message.clone())
            .rfind(|message| Some(message.message_seq) == newest_send);
        let (head_seq, last_activity_at) = (event.seq, event.occurred_at);
        table.insert(event.chat_id.clone(), Head { head_seq, last_activity_at, message_seq: newest_send, message });
    }
    table
}

proptest! {
    #[test]
    fn rows_mean_what_they_say_however_the_batches_are_cut(
        actions in actions(80), cuts in cuts(), again in 0..80_usize,
    ) {
        let events = history(&actions);
        let mut table = Table::new();
        for events in batches(&events, &cuts) {
            batch(&mut table, events);
        }
        prop_assert_eq!(&table, &meaning(&events));

        // Old events never win: the beginning once more changes nothing.
        let before = table.clone();
        batch(&mut table, &events[..again.min(events.len())]);
        prop_assert_eq!(table, before);
    }
}

#[test]
fn a_send_without_a_message_is_refused_and_an_unknown_type_is_not() {
    let mut event = ChatEvent {
        event_id: "c/1".into(),
        event_type: event_type::MESSAGE_PERSISTED.into(),
        chat_id: "c".into(),
        seq: 1,
        actor_id: "u".into(),
        occurred_at: 1,
        origin: schemas::Origin::default(),
        message: None,
        memberships: vec![],
        chat: None,
    };
    assert!(ChatHead::apply(&mut Rows::default(), &event).is_err());
    event.event_type = "poll.closed".into();
    let mut state = Rows::default();
    assert_eq!(ChatHead::apply(&mut state, &event), Ok(Applied::UnknownType));
    assert_eq!(state.get("c").map(|head| head.head_seq), Some(1));
}
