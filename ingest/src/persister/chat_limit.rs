//! How many sends a chat takes: held here, where all nodes' sends to it meet.
//!
//! *Time* of a chat goes on with the commands' own (`issued_at`), and with this persister's clock where that stands still: what
//! waited in Kafka while this persister was away isn't a flood, and a gateway whose clock is slow, stands still or was set back
//! isn't refused for it. One whose clock is fast is believed up to this persister's. Each chat is a leaky bucket.
//!
//! *Order.* After a refused send, those of the same session to the same chat are refused as well until the time that the
//! refusal named: they were on their way, and must not overtake the one that is sent again.

use std::collections::HashMap;

use runtime::config::LimitsConfig;
use schemas::wire::{Code, Rejection};
use schemas::{ChatCommand, command_type};

/// Chats that are remembered before those with an empty bucket are forgotten.
const MOST_CHATS: usize = 100_000;

/// The buckets of all chats.
pub(super) struct ChatLimit {
    /// What one send puts into the bucket: the time that it takes to run out again.
    send_ms: f64,
    /// What a bucket holds.
    burst_ms: f64,
    chats: HashMap<String, Bucket>,
}

struct Bucket {
    /// The latest that was believed.
    issued_at_ms: i64,
    arrived_at_ms: i64,
    level_ms: f64,
    /// Sessions with a refused send, and for how long still.
    refused: HashMap<String, i64>,
}

impl Bucket {
    fn empty(issued_at_ms: i64, arrived_at_ms: i64) -> Self {
        Self { issued_at_ms, arrived_at_ms, level_ms: 0.0, refused: HashMap::new() }
    }

    /// Lets out what has run out since the command before.
    fn go_on(&mut self, issued_at_ms: i64, arrived_at_ms: i64) {
        // By arrival only where the gateways' time stands still: both would be counted otherwise, in a batch one after the other.
        let passed_ms = match issued_at_ms - self.issued_at_ms {
            by_gateways_ms if by_gateways_ms > 0 => by_gateways_ms,
            _ => (arrived_at_ms - self.arrived_at_ms).max(0),
        };
        self.issued_at_ms = self.issued_at_ms.max(issued_at_ms);
        self.arrived_at_ms = arrived_at_ms;
        self.level_ms = (self.level_ms - passed_ms as f64).max(0.0);
        self.refused.retain(|_, rest_ms| {
            *rest_ms -= passed_ms;
            *rest_ms > 0
        });
    }
}

impl ChatLimit {
    pub(super) fn new(limits: &LimitsConfig) -> Self {
        let send_ms = 1_000.0 / f64::from(limits.chat_sends_per_s.max(1));
        Self { send_ms, burst_ms: send_ms * f64::from(limits.chat_sends_burst.max(1)), chats: HashMap::new() }
    }

    /// Takes one command, in the order of the log and at a time of this persister; says why it is refused, if it is.
    pub(super) fn take(&mut self, command: &ChatCommand, arrived_at_ms: i64) -> Option<Rejection> {
        if command.command_type != command_type::MESSAGE_SEND {
            return None;
        }
        if self.chats.len() >= MOST_CHATS {
            self.chats.retain(|_, bucket| bucket.arrived_at_ms as f64 + bucket.level_ms > arrived_at_ms as f64);
        }
        let issued_at_ms = command.issued_at.min(arrived_at_ms);
        let bucket = self.chats.entry(command.chat_id.clone());
        let bucket = bucket.or_insert_with(|| Bucket::empty(issued_at_ms, arrived_at_ms));
        bucket.go_on(issued_at_ms, arrived_at_ms);
        if let Some(rest_ms) = bucket.refused.get(&command.session_id) {
            return Some(refusal(*rest_ms));
        }
        let over_ms = bucket.level_ms + self.send_ms - self.burst_ms;
        // Fractions don't add up exactly.
        if over_ms > self.send_ms / 2.0 {
            let wait_ms = over_ms.ceil() as i64;
            bucket.refused.insert(command.session_id.clone(), wait_ms);
            return Some(refusal(wait_ms));
        }
        bucket.level_ms += self.send_ms;
        None
    }
}

fn refusal(wait_ms: i64) -> Rejection {
    Rejection::new(Code::RateLimited, "This chat takes no more for now: wait, then send this one again first.")
        .at("chat_id")
        .retry_after(wait_ms.max(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> ChatLimit {
        ChatLimit::new(&LimitsConfig { chat_sends_per_s: 10, chat_sends_burst: 3, ..LimitsConfig::default() })
    }

    fn send(chat_id: &str, session_id: &str, at_ms: i64) -> ChatCommand {
        ChatCommand {
            command_type: command_type::MESSAGE_SEND.into(),
            chat_id: chat_id.into(),
            session_id: session_id.into(),
            issued_at: at_ms,
            ..ChatCommand::default()
        }
    }

    /// At the time at which it was issued.
    fn take(limit: &mut ChatLimit, command: &ChatCommand) -> Option<Rejection> {
        limit.take(command, command.issued_at)
    }

    #[test]
    fn a_flood_is_refused_until_the_bucket_has_room() {
        let mut limit = limit();
        for _ in 0..3 {
            assert_eq!(take(&mut limit, &send("a", "s", 1_000)), None);
        }
        let refused = take(&mut limit, &send("a", "s", 1_000)).expect("the fourth at once");
        assert_eq!((refused.code, refused.retry_after_ms), (Code::RateLimited, Some(100)));
        assert_eq!(take(&mut limit, &send("b", "s", 1_000)), None, "another chat has a bucket of its own");
        assert_eq!(take(&mut limit, &send("a", "s", 1_100)), None);
        assert!(take(&mut limit, &send("a", "s", 1_100)).is_some());
    }

    #[test]
    fn later_sends_of_a_session_dont_overtake_the_refused_one() {
        let mut limit = limit();
        for _ in 0..3 {
            assert_eq!(take(&mut limit, &send("a", "other", 1_000)), None);
        }
        assert!(take(&mut limit, &send("a", "s", 1_040)).is_some());
        assert!(take(&mut limit, &send("a", "s", 1_099)).is_some(), "before the time that was named");
        assert_eq!(take(&mut limit, &send("a", "s", 1_100)), None);
    }

    #[test]
    fn what_waited_in_the_log_is_no_flood() {
        let mut limit = limit();
        let refused = (0..1_000).filter(|n| limit.take(&send("a", "s", 1_000 + n * 100), 200_000).is_some()).count();
        assert_eq!(refused, 0);
    }

    #[test]
    fn other_commands_are_not_counted() {
        let mut limit = limit();
        let edit = ChatCommand { command_type: command_type::MESSAGE_EDIT.into(), ..send("a", "s", 1_000) };
        assert!((0..100).all(|_| take(&mut limit, &edit).is_none()));
    }

    #[test]
    fn gateways_with_wrong_clocks_are_neither_refused_nor_refuse_others() {
        const HOUR_MS: i64 = 3_600_000;
        let now_ms = 10 * HOUR_MS;
        // Ten sends a second, as many as the chat takes: of three gateways in turn, and of one whose clock is set.
        let in_turn = |number: i64| [0, -HOUR_MS, HOUR_MS][number as usize % 3];
        let set_back = |number: i64| if number < 100 { 0 } else { -HOUR_MS };
        let set_on = |number: i64| if number < 100 { 0 } else { HOUR_MS };
        let stands_still = |number: i64| -number * 100;
        let clocks: [&dyn Fn(i64) -> i64; 4] = [&in_turn, &set_back, &set_on, &stands_still];
        for (place, wrong_ms) in clocks.into_iter().enumerate() {
            let mut limit = limit();
            let refused = (0..300)
                .map(|number| (now_ms + number * 100, wrong_ms(number)))
                .filter(|(at_ms, wrong_ms)| limit.take(&send("a", "s", at_ms + wrong_ms), *at_ms).is_some())
                .count();
            assert_eq!(refused, 0, "clock {place}");
            // It can't be flooded for that.
            let at_ms = now_ms + 300 * 100 + 1_000;
            let flood = send("a", "s", at_ms + wrong_ms(299));
            assert_eq!((0..10).filter(|_| limit.take(&flood, at_ms).is_none()).count(), 3, "clock {place}");
        }
    }

    #[test]
    fn batches_are_no_way_around_it() {
        let mut limit = limit();
        // Twenty sends a second, twice as many as the chat takes, read ten at a time.
        let taken = (0..1_000_i64)
            .map(|number| (10_000 + number * 50, 10_000 + (number / 10 + 1) * 500))
            .filter(|(issued_at_ms, arrived_at_ms)| {
                limit.take(&send("a", &issued_at_ms.to_string(), *issued_at_ms), *arrived_at_ms).is_none()
            })
            .count();
        assert!((495..=505).contains(&taken), "{taken} of 1,000");
    }

    #[test]
    fn the_persisters_own_clock_may_be_set_back() {
        let mut limit = limit();
        for number in 0..300 {
            let at_ms = if number < 100 { 9_000_000 } else { 1_000 } + number * 100;
            assert_eq!(take(&mut limit, &send("a", "s", at_ms)), None, "{number}");
        }
    }
}
