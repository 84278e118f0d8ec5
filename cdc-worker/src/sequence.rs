//! Whether each chat's rows come one after the other, `seq` by `seq`.
//!
//! Pure. A stream that left rows out looks like any other once the publication is whole again, but for the next row of a
//! chat that lacks some. So the last published `seq` of chats is kept: of as many as there is room for, so that memory is
//! bounded. A chat that isn't known, since nothing of it was published yet or another took its place, isn't compared.

use std::hash::{BuildHasher, RandomState};

use crate::checks::LastEvent;

/// Chats that there is room for; a power of two. 256 KiB.
const ENTRIES: usize = 1 << 14;

/// The last `seq` of some chats.
pub(crate) struct Sequence {
    /// Each chat has one place, by the lowest bits of its hash.
    entries: Box<[Entry]>,
    /// Keyed, since applications choose the ids: nobody can make two that are taken for one.
    hasher: RandomState,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    hash: u64,
    /// 0 where the place is empty.
    seq: i64,
}

impl Sequence {
    /// Goes on after the last events of the partitions.
    pub(crate) fn after(last: &[LastEvent]) -> Self {
        let mut sequence = Self::empty();
        for LastEvent { chat_id, head, .. } in last {
            let hash = sequence.hasher.hash_one(chat_id.as_str());
            sequence.entries[hash as usize % ENTRIES] = Entry { hash, seq: head.seq };
        }
        sequence
    }

    fn empty() -> Self {
        Self { entries: vec![Entry::default(); ENTRIES].into_boxed_slice(), hasher: RandomState::new() }
    }

    /// A row is about to be published. An error is the `seq` of its chat that it should have followed and doesn't.
    pub(crate) fn follow(&mut self, chat_id: &str, seq: i64) -> Result<(), i64> {
        let hash = self.hasher.hash_one(chat_id);
        let entry = &mut self.entries[hash as usize % ENTRIES];
        if entry.seq != 0 && entry.hash == hash && seq.checked_sub(1) != Some(entry.seq) {
            return Err(entry.seq);
        }
        *entry = Entry { hash, seq };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_and_a_repeat_are_told_from_what_follows() {
        let mut sequence = Sequence::empty();
        // Whatever comes first: nothing is known of the chat.
        assert_eq!(sequence.follow("a", 7), Ok(()));
        assert_eq!(sequence.follow("b", 1), Ok(()));
        assert_eq!(sequence.follow("a", 8), Ok(()));
        assert_eq!(sequence.follow("b", 3), Err(1), "2 was left out");
        assert_eq!(sequence.follow("a", 8), Err(8));
        assert_eq!(sequence.follow("a", 1), Err(8));
        assert_eq!(sequence.follow("a", 9), Ok(()));
        assert_eq!(sequence.follow("far", i64::MAX), Ok(()));
        assert_eq!(sequence.follow("far", i64::MIN), Err(i64::MAX));
    }

    #[test]
    fn more_chats_than_there_is_room_for_are_never_an_alarm() {
        let mut sequence = Sequence::empty();
        let chats: Vec<String> = (0..3 * ENTRIES).map(|number| format!("chat-{number}")).collect();
        for seq in 1..=3 {
            for chat in &chats {
                assert_eq!(sequence.follow(chat, seq), Ok(()));
            }
        }
        // The last ones first: asking takes places too.
        let known = chats.iter().rev().filter(|chat| sequence.follow(chat, 9).is_err()).count();
        assert!((ENTRIES * 9 / 10..=ENTRIES).contains(&known), "{known} chats are known");
    }
}
