//! Who is in which chat, who sends when, and what: all of it known before the first message, and the same for the same
//! seed.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::{Builder, Uuid};

/// The sizes of a bench.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) people: usize,
    pub(crate) chats: usize,
    /// People in each chat.
    pub(crate) members: usize,
    pub(crate) content_bytes: usize,
    /// Messages of one run, the warm-up's included.
    pub(crate) messages_per_run: usize,
    pub(crate) runs: usize,
}

/// People, chats and messages.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sizes: Sizes,
    pub(crate) people: Vec<String>,
    pub(crate) chat_ids: Vec<Arc<str>>,
    /// Which people are in each chat.
    pub(crate) members: Vec<Vec<u32>>,
    /// Chat and person of each message, over all runs.
    pub(crate) sends: Vec<(u32, u32)>,
    tag: u32,
    filler: String,
}

impl Plan {
    /// `tag` keeps benches against the same installation apart; `seed` decides who sends.
    pub(crate) fn new(sizes: Sizes, tag: u32, seed: u64) -> Self {
        let tag = tag & 0x00FF_FFFF;
        let mut random = StdRng::seed_from_u64(seed);
        let members: Vec<Vec<u32>> = (0..sizes.chats)
            .map(|chat| {
                (0..sizes.members).map(|place| ((chat * sizes.members + place) % sizes.people) as u32).collect()
            })
            .collect();
        let sends = (0..sizes.messages_per_run * sizes.runs)
            .map(|_| {
                let chat = random.random_range(0..sizes.chats);
                (chat as u32, members[chat][random.random_range(0..sizes.members)])
            })
            .collect();
        let words = "the quick brown fox jumps over the lazy dog and tells its friends about it ";
        Self {
            people: (0..sizes.people).map(|person| format!("bench-{tag:06x}-{person:04}")).collect(),
            chat_ids: (0..sizes.chats).map(|chat| format!("bench-{tag:06x}-chat-{chat:04}").into()).collect(),
            members,
            sends,
            tag,
            filler: words.chars().cycle().take(sizes.content_bytes).collect(),
            sizes,
        }
    }

    /// The message id of a message: a UUIDv7 as clients make them, which carries the message's number.
    pub(crate) fn message_id(&self, number: usize) -> Uuid {
        let (tag, low) = (self.tag.to_be_bytes(), (number as u32).to_be_bytes());
        let scattered = low[3].wrapping_mul(167);
        let tail = [scattered, low[3], 0, tag[1], tag[2], tag[3], low[0], low[1], low[2], low[3]];
        Builder::from_unix_timestamp_millis(runtime::clock::now_ms() as u64, &tail).into_uuid()
    }

    /// The number of a message of this plan.
    pub(crate) fn number_of(&self, message_id: Uuid) -> Option<usize> {
        let low = message_id.as_u128() as u64;
        let is_ours = (low >> 32) as u32 & 0x00FF_FFFF == self.tag;
        let number = low as u32 as usize;
        (is_ours && number < self.sends.len()).then_some(number)
    }

    /// What a message says.
    pub(crate) fn content(&self, number: usize) -> String {
        let mut content = format!("{number} ");
        let rest = self.sizes.content_bytes.saturating_sub(content.len());
        content.push_str(&self.filler[..rest]);
        content
    }

    /// Whether a message says what was sent.
    pub(crate) fn is_content(&self, number: usize, content: &str) -> bool {
        content.split_once(' ').is_some_and(|(head, rest)| {
            head.parse() == Ok(number) && self.filler.starts_with(rest) && content.len() >= self.sizes.content_bytes
        })
    }

    /// The run that a message belongs to.
    pub(crate) fn run_of(&self, number: usize) -> usize {
        number / self.sizes.messages_per_run.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sizes() -> Sizes {
        Sizes { people: 30, chats: 5, members: 10, content_bytes: 192, messages_per_run: 100, runs: 2 }
    }

    #[test]
    fn ids_carry_numbers_and_contents_are_known() {
        let plan = Plan::new(sizes(), 0xABC_DEF, 1);
        for number in [0, 1, 99, 199] {
            let id = plan.message_id(number);
            assert_eq!((id.get_version_num(), plan.number_of(id)), (7, Some(number)));
            let content = plan.content(number);
            assert_eq!(content.len(), 192);
            assert!(plan.is_content(number, &content) && !plan.is_content(number + 1, &content));
        }
        assert_eq!(plan.number_of(Uuid::now_v7()), None);
        assert_eq!((plan.run_of(99), plan.run_of(100)), (0, 1));
    }

    #[test]
    fn each_chat_has_its_people_and_senders_are_among_them() {
        let plan = Plan::new(sizes(), 1, 7);
        for members in &plan.members {
            let distinct: std::collections::HashSet<_> = members.iter().collect();
            assert_eq!(distinct.len(), 10);
        }
        assert!(plan.sends.iter().all(|(chat, person)| plan.members[*chat as usize].contains(person)));
        assert_eq!(plan.sends, Plan::new(sizes(), 1, 7).sends);
    }
}
