use std::collections::BTreeMap;

use proptest::prelude::*;
use schemas::ChatEvent;

use super::{MembershipProjection, Stay, StayKey};
use crate::projection::Input;
use crate::rows::Rows;
use crate::samples::{actions, batches, cuts, history};

type Table = BTreeMap<StayKey, Stay>;

fn batch(table: &mut Table, events: &[ChatEvent]) {
    let mut state = Rows::default();
    for event in events {
        for stay in &event.memberships {
            let key = (event.chat_id.clone(), stay.user_id.clone(), stay.joined_seq);
            if let Some(stay) = table.get(&key) {
                state.loaded(key, stay.clone());
            }
        }
    }
    for event in events {
        MembershipProjection::apply(&mut state, event).expect("usable");
    }
    table.extend(state.changed().into_iter().map(|(key, stay)| (key.clone(), stay.clone())));
}

proptest! {
    #[test]
    fn batches_do_not_matter_and_neither_does_a_repeated_beginning(
        actions in actions(80), cuts in cuts(), again in 0..80_usize,
    ) {
        let events = history(&actions);
        let mut whole = Table::new();
        batch(&mut whole, &events);

        let mut split = Table::new();
        for events in batches(&events, &cuts) {
            batch(&mut split, events);
        }
        prop_assert_eq!(&split, &whole);

        let mut repeated = Table::new();
        batch(&mut repeated, &events[..again.min(events.len())]);
        for events in batches(&events, &cuts) {
            batch(&mut repeated, events);
        }
        prop_assert_eq!(&repeated, &whole);
    }

    #[test]
    fn one_stay_at_most_is_open(actions in actions(80)) {
        let mut table = Table::new();
        batch(&mut table, &history(&actions));
        let mut open = BTreeMap::new();
        for ((chat, user, _), stay) in &table {
            *open.entry((chat, user)).or_insert(0) += i32::from(stay.left_seq.is_none());
        }
        prop_assert!(open.values().all(|&count| count <= 1));
    }
}
