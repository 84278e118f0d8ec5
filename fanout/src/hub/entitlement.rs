//! Who may see what: a person's stays in one chat. Pure.

use std::num::NonZeroI64;

use schemas::{ChatEvent, Membership};
use smallvec::SmallVec;

/// One stay, in the words of the tables. A node keeps one for each connection and chat, so it is kept small.
#[allow(clippy::struct_field_names, reason = "the columns")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stay {
    joined_seq: i64,
    /// A `seq` is at least 1.
    left_seq: Option<NonZeroI64>,
    visible_from_seq: i64,
}

impl Stay {
    pub(crate) fn new(joined_seq: i64, left_seq: Option<i64>, visible_from_seq: i64) -> Self {
        Self { joined_seq, left_seq: left_seq.and_then(NonZeroI64::new), visible_from_seq }
    }

    fn left_seq(&self) -> Option<i64> {
        self.left_seq.map(NonZeroI64::get)
    }

    fn shows(&self, seq: i64) -> bool {
        seq >= self.visible_from_seq && self.left_seq().is_none_or(|left| seq <= left)
    }
}

/// What a member is given of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// The event.
    Shown,
    /// Its `seq` and no more.
    Hidden,
    /// Not even that: they aren't in the chat any more.
    Nothing,
}

/// All stays of one person in one chat, by `joined_seq`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stays(SmallVec<[Stay; 1]>);

impl Stays {
    pub(crate) fn push(&mut self, stay: Stay) {
        match self.0.binary_search_by_key(&stay.joined_seq, |known| known.joined_seq) {
            Ok(place) => self.0[place] = stay,
            Err(place) => self.0.insert(place, stay),
        }
    }

    /// Takes over what an event says of this person.
    pub(crate) fn apply(&mut self, membership: &Membership) {
        self.push(Stay::new(membership.joined_seq, membership.left_seq, membership.visible_from_seq));
    }

    /// `joined_seq` of the stay that is open.
    pub(crate) fn open_since(&self) -> Option<i64> {
        self.0.iter().find(|stay| stay.left_seq.is_none()).map(|stay| stay.joined_seq)
    }

    /// Last event that this person may see, if no stay is open.
    pub(crate) fn ended_at(&self) -> Option<i64> {
        if self.open_since().is_some() {
            return None;
        }
        self.0.iter().filter_map(Stay::left_seq).max()
    }

    pub(crate) fn shows(&self, seq: i64) -> bool {
        self.0.iter().any(|stay| stay.shows(seq))
    }

    /// What this person is given of an event. Edits and deletes of a message that they may not see are hidden, since
    /// their frame has the body.
    pub(crate) fn share(&self, event: &ChatEvent) -> Share {
        if self.shows(event.seq) {
            let is_visible = event.message.as_ref().is_none_or(|message| self.shows(message.message_seq));
            if is_visible { Share::Shown } else { Share::Hidden }
        } else if self.open_since().is_some() || self.ended_at().is_some_and(|end| event.seq <= end) {
            Share::Hidden
        } else {
            Share::Nothing
        }
    }

    /// Visible ranges, merged and in order; the last has no end while a stay is open.
    pub(crate) fn visible(&self) -> Vec<(i64, Option<i64>)> {
        let mut ranges: Vec<(i64, Option<i64>)> = self
            .0
            .iter()
            .map(|stay| (stay.visible_from_seq, stay.left_seq()))
            .filter(|(from, to)| to.is_none_or(|to| to >= *from))
            .collect();
        ranges.sort_unstable_by_key(|range| range.0);
        let mut merged: Vec<(i64, Option<i64>)> = Vec::with_capacity(ranges.len());
        for (from, to) in ranges {
            match merged.last_mut() {
                Some((_, last)) if last.is_none_or(|last| from <= last + 1) => {
                    *last = match (*last, to) {
                        (Some(last), Some(to)) => Some(last.max(to)),
                        _ => None,
                    };
                }
                _ => merged.push((from, to)),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use schemas::{MessageState, Origin, event_type};

    fn stays(list: &[(i64, Option<i64>, i64)]) -> Stays {
        let mut stays = Stays::default();
        for &(joined_seq, left_seq, visible_from_seq) in list {
            stays.push(Stay::new(joined_seq, left_seq, visible_from_seq));
        }
        stays
    }

    fn event(seq: i64, message_seq: Option<i64>) -> ChatEvent {
        ChatEvent {
            event_id: String::new(),
            event_type: event_type::MESSAGE_EDITED.into(),
            chat_id: "c".into(),
            seq,
            actor_id: "a".into(),
            occurred_at: 0,
            origin: Origin::default(),
            message: message_seq.map(|message_seq| MessageState { message_seq, ..MessageState::default() }),
            memberships: Vec::new(),
            chat: None,
        }
    }

    #[test]
    fn hidden_history_stays_hidden_in_edits() {
        let member = stays(&[(10, None, 10)]);
        assert_eq!(member.share(&event(11, Some(11))), Share::Shown);
        assert_eq!(member.share(&event(12, Some(3))), Share::Hidden);
        assert_eq!(member.share(&event(5, Some(5))), Share::Hidden);
    }

    #[test]
    fn the_leaver_gets_the_leaving_and_nothing_after() {
        let member = stays(&[(2, Some(7), 1)]);
        assert_eq!(member.share(&event(7, None)), Share::Shown);
        assert_eq!(member.share(&event(8, None)), Share::Nothing);
        assert_eq!(member.ended_at(), Some(7));
    }

    #[test]
    fn between_two_stays_seqs_are_hidden() {
        let member = stays(&[(2, Some(7), 1), (10, None, 10)]);
        assert_eq!(member.share(&event(8, Some(8))), Share::Hidden);
        assert_eq!(member.visible(), vec![(1, Some(7)), (10, None)]);
    }

    proptest! {
        #[test]
        fn ranges_say_what_stays_say(list in proptest::collection::vec((1i64..30, proptest::option::of(1i64..30), 1i64..30), 0..5), seq in 1i64..40) {
            let stays = stays(&list);
            let by_ranges = stays.visible().iter().any(|(from, to)| seq >= *from && to.is_none_or(|to| seq <= to));
            prop_assert_eq!(by_ranges, stays.shows(seq));
        }
    }
}
