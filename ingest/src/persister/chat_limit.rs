//! How many sends a chat takes: held here, where all nodes' sends to it meet.
//!
//! *Time* is that of the commands (`issued_at`), not of their arrival: what waited in Kafka while this persister was away
//! isn't a flood. Clocks may be wrong: a chat's time never runs ahead of this persister's, and not back for a gateway whose
//! clock is slow. Each chat is a leaky bucket in the form of the generic cell rate algorithm (ITU-T I.371): one number, the
//! time at which its bucket would be empty.
//!
//! *Order.* After a refused send, those of the same session to the same chat are refused as well until the time that the
//! refusal named: they were on their way, and must not overtake the one that is sent again.

use std::collections::HashMap;

use runtime::config::LimitsConfig;
use schemas::wire::{Code, Rejection};
use schemas::{ChatCommand, command_type};

/// A chat's time that is so far ahead of the persister's is one before the persister's clock was set back.
const SET_BACK_MS: i64 = 60_000;

/// Chats that are remembered before those with an empty bucket are forgotten.
const MOST_CHATS: usize = 100_000;

/// The buckets of all chats.
pub(super) struct ChatLimit {
    /// Milliseconds that one send takes out of the bucket's time.
    send_ms: f64,
    /// How far a chat may be ahead.
    burst_ms: f64,
    chats: HashMap<String, Bucket>,
}

#[derive(Default)]
struct Bucket {
    last_ms: i64,
    empty_at_ms: f64,
    /// Sessions with a refused send, until when.
    refused: HashMap<String, i64>,
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
            self.chats.retain(|_, bucket| bucket.empty_at_ms > arrived_at_ms as f64);
        }
        let bucket = self.chats.entry(command.chat_id.clone()).or_default();
        if bucket.last_ms > arrived_at_ms + SET_BACK_MS {
            *bucket = Bucket::default();
        }
        let now_ms = command.issued_at.min(arrived_at_ms).max(bucket.last_ms);
        bucket.last_ms = now_ms;
        bucket.refused.retain(|_, until_ms| *until_ms > now_ms);
        if let Some(until_ms) = bucket.refused.get(&command.session_id) {
            return Some(refusal(until_ms - now_ms));
        }
        let empty_at_ms = bucket.empty_at_ms.max(now_ms as f64) + self.send_ms;
        let ahead_ms = empty_at_ms - now_ms as f64 - self.burst_ms;
        // A send takes its time as a fraction, whose sums aren't exact.
        if ahead_ms > self.send_ms / 2.0 {
            let wait_ms = ahead_ms.ceil() as i64;
            bucket.refused.insert(command.session_id.clone(), now_ms + wait_ms);
            return Some(refusal(wait_ms));
        }
        bucket.empty_at_ms = empty_at_ms;
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
        let mut limit = limit();
        let now_ms = 10 * HOUR_MS;
        // Ten sends a second, as many as the chat takes, of three gateways in turn.
        let refused = (0..300)
            .map(|number| (now_ms + number * 100, [0, -HOUR_MS, HOUR_MS][number as usize % 3]))
            .filter(|(at_ms, wrong_ms)| limit.take(&send("a", "s", at_ms + wrong_ms), *at_ms).is_some())
            .count();
        assert_eq!(refused, 0);
        // Each of them can still flood.
        for wrong_ms in [-HOUR_MS, HOUR_MS] {
            let flood = send("b", "s", now_ms + wrong_ms);
            assert_eq!((0..10).filter(|_| limit.take(&flood, now_ms).is_none()).count(), 3);
        }
    }

    #[test]
    fn the_persisters_own_clock_may_be_set_back() {
        let mut limit = limit();
        assert_eq!(take(&mut limit, &send("a", "s", 9_000_000)), None);
        assert_eq!((0..10).filter(|_| take(&mut limit, &send("a", "s", 1_000)).is_none()).count(), 3);
    }
}
