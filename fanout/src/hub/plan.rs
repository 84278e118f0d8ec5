//! What a resume reads and says of one chat: a state machine between what the client has and what it may see. Pure.
//!
//! *Guarantee.* What is said covers `from+1 ..= reached` once each and in order, as events or as `skipped`, whatever reads
//! bring; of what is hidden from the person nothing is even read.

/// A range of events that exist and aren't shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skipped {
    pub(super) from: i64,
    pub(super) to: i64,
}

#[derive(Debug)]
pub(super) struct Plan {
    /// Ranges that the person may see, in order; the last may be open.
    visible: Vec<(i64, Option<i64>)>,
    next: i64,
    to: i64,
    skipping: Option<i64>,
    /// Events that may still be read.
    budget: i64,
}

impl Plan {
    /// After `from` up to `to`, with at most `budget` events read.
    pub(super) fn new(visible: Vec<(i64, Option<i64>)>, from: i64, to: i64, budget: i64) -> Self {
        Self { visible, next: from + 1, to, skipping: None, budget }
    }

    /// The range to read now, at most `most` events; none when nothing is left, or nothing more may be read.
    pub(super) fn read(&mut self, most: i64) -> Option<(i64, i64)> {
        while self.next <= self.to {
            let range = self.visible.iter().find(|(_, end)| end.is_none_or(|end| end >= self.next));
            let start = range.map_or(self.to + 1, |(start, _)| (*start).min(self.to + 1));
            if start <= self.next {
                let end = range.and_then(|(_, end)| *end).map_or(self.to, |end| end.min(self.to));
                let most = most.min(self.budget);
                return (most > 0).then(|| (self.next, end.min(self.next + most - 1)));
            }
            self.skipping.get_or_insert(self.next);
            self.next = start;
        }
        None
    }

    /// Takes the next event that was read. For one that is shown, what has to be said before it; an error if it isn't the
    /// next one, and nothing more is taken of that read.
    pub(super) fn take(&mut self, seq: i64, is_shown: bool) -> Result<Option<Skipped>, Hole> {
        if seq != self.next {
            return Err(Hole);
        }
        let skipped = if is_shown {
            self.end()
        } else {
            self.skipping.get_or_insert(seq);
            None
        };
        self.next += 1;
        self.budget -= 1;
        Ok(skipped)
    }

    /// What is left to be said once nothing more is read.
    pub(super) fn end(&mut self) -> Option<Skipped> {
        let to = self.reached();
        self.skipping.take().map(|from| Skipped { from, to })
    }

    /// How far it came.
    pub(super) const fn reached(&self) -> i64 {
        self.next - 1
    }
}

/// A read didn't bring what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hub::entitlement::{Stay, Stays};

    const HEAD: i64 = 60;

    /// Somebody who joins and leaves and joins again, with or without the history before.
    fn stays() -> impl Strategy<Value = Stays> {
        proptest::collection::vec((1..12_i64, 0..12_i64, any::<bool>()), 1..5).prop_map(|visits| {
            let mut stays = Stays::default();
            let mut at = 0;
            let last = visits.len() - 1;
            for (number, (away, there, shows_history)) in visits.into_iter().enumerate() {
                let joined_seq = at + away;
                at = joined_seq + there;
                // The last stay is open if its length is odd.
                let left_seq = (number < last || there % 2 == 0).then_some(at);
                stays.push(Stay::new(joined_seq, left_seq, if shows_history { 1 } else { joined_seq }));
            }
            stays
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_resume_says_each_event_once_in_order_and_nothing_that_is_hidden(
            stays in stays(),
            from in 0..=HEAD,
            budget in 1..80_i64,
            most in 1..20_i64,
            // Edits of messages that came so long before.
            edits in proptest::collection::vec(proptest::option::of(1..20_i64), HEAD as usize),
            // How many events each read brings, and whether it begins late.
            reads in proptest::collection::vec((0..25_usize, proptest::bool::weighted(0.1)), 0..80),
        ) {
            let to = stays.ended_at().map_or(HEAD, |end| end.min(HEAD));
            let from = from.min(to);
            let is_shown = |seq: i64| {
                let original = edits[seq as usize - 1].map_or(seq, |back| (seq - back).max(1));
                stays.shows(seq) && stays.shows(original)
            };
            let mut plan = Plan::new(stays.visible(), from, to, budget);
            let mut said = Vec::new();
            let mut taken = 0;
            let mut brought = reads.into_iter();
            let mut is_cut = false;
            while let Some((first, last)) = plan.read(most) {
                prop_assert!(first <= last && last - first < most);
                prop_assert!((first..=last).all(|seq| stays.shows(seq)), "reads what is hidden");
                let (count, is_late) = brought.next().unwrap_or((25, false));
                let before = plan.reached();
                for seq in (first..=last).skip(usize::from(is_late)).take(count) {
                    match plan.take(seq, is_shown(seq)) {
                        Err(Hole) => break,
                        Ok(skipped) => {
                            taken += 1;
                            said.extend(skipped.map(|skipped| (skipped.from, skipped.to, false)));
                            if is_shown(seq) {
                                said.push((seq, seq, true));
                            }
                        }
                    }
                }
                if plan.reached() == before {
                    is_cut = true;
                    break;
                }
            }
            said.extend(plan.end().map(|skipped| (skipped.from, skipped.to, false)));
            let mut next = from + 1;
            for (first, last, is_event) in said {
                prop_assert_eq!(first, next);
                prop_assert!((first..=last).all(|seq| is_shown(seq) == is_event));
                next = last + 1;
            }
            prop_assert_eq!(next - 1, plan.reached());
            prop_assert!(plan.reached() <= to && taken <= budget);
            // It ends early only for a read that brought nothing, or because enough was read.
            prop_assert!(plan.reached() == to || is_cut || taken == budget);
        }
    }
}
