//! When which message is due. Pure but for [`now_us`] and [`Schedule::due`].
//!
//! Messages go round the chats: number `n` is the next one of chat `n % chats`. So whoever sees a chat's number and a
//! `seq` knows when it was due, without anything in the message, in whichever process.

use std::ops::Range;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Most messages that are handed over together: as many as the publisher puts into one pipeline.
const AT_ONCE: u64 = 500;

/// Microseconds of the machine's clock that never runs backwards: the same one in all processes.
pub(crate) fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// Messages at a steady rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Schedule {
    /// When the first one is due.
    pub(crate) start_us: u64,
    pub(crate) interval_us: f64,
    /// How many; the same of each chat.
    pub(crate) count: u64,
    /// Messages at the beginning that aren't measured.
    pub(crate) warmup: u64,
    pub(crate) chats: u64,
    /// Last `seq` of every chat before the first message.
    pub(crate) base: i64,
}

impl Schedule {
    /// So many messages a second for so long, rounded up to as many of each chat.
    pub(crate) fn new(per_s: f64, warmup_s: f64, seconds: f64, chats: usize, base: i64) -> Self {
        let chats = chats as u64;
        let count = ((per_s * (warmup_s + seconds)).ceil() as u64).max(1).next_multiple_of(chats);
        let warmup = ((per_s * warmup_s) as u64).min(count - 1);
        Self { start_us: 0, interval_us: 1_000_000.0 / per_s, count, warmup, chats, base }
    }

    /// Messages of each chat.
    pub(crate) fn each(&self) -> i64 {
        (self.count / self.chats) as i64
    }

    /// `seq` of every chat after the last message.
    pub(crate) fn end(&self) -> i64 {
        self.base + self.each()
    }

    pub(crate) fn due_us(&self, number: u64) -> u64 {
        self.start_us + (number as f64 * self.interval_us) as u64
    }

    /// When the measured part begins.
    pub(crate) fn warm_us(&self) -> u64 {
        self.due_us(self.warmup)
    }

    /// Chat and `seq` of a message.
    pub(crate) fn place(&self, number: u64) -> (usize, i64) {
        ((number % self.chats) as usize, self.base + 1 + (number / self.chats) as i64)
    }

    /// The message at a `seq` of a chat, if it is one of these.
    pub(crate) fn number(&self, chat: usize, seq: i64) -> Option<u64> {
        let round = u64::try_from(seq - self.base - 1).ok()?;
        let number = round * self.chats + chat as u64;
        ((chat as u64) < self.chats && number < self.count).then_some(number)
    }

    /// How many are due by now, from the first.
    pub(crate) fn due_by(&self, now_us: u64) -> u64 {
        let Some(since_us) = now_us.checked_sub(self.start_us) else { return 0 };
        (((since_us as f64 / self.interval_us) as u64) + 1).min(self.count)
    }

    /// Waits until the message `next` is due, and gives those that are, whatever became of earlier ones. Empty after the last.
    pub(crate) async fn due(&self, next: u64) -> Range<u64> {
        if next < self.count {
            let wait_us = self.due_us(next).saturating_sub(now_us());
            if wait_us > 0 {
                tokio::time::sleep(Duration::from_micros(wait_us)).await;
            }
        }
        // A clock that is a moment behind its timer must not make it empty.
        next..self.due_by(now_us()).max(next + 1).min(next + AT_ONCE).min(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_its_place_and_is_found_there() {
        let schedule = Schedule { start_us: 5_000, ..Schedule::new(1_000.0, 0.5, 1.0, 7, 40) };
        assert_eq!((schedule.count, schedule.warmup, schedule.end()), (1_505, 500, 40 + 215));
        for number in [0, 1, 6, 7, 1_504] {
            let (chat, seq) = schedule.place(number);
            assert_eq!(schedule.number(chat, seq), Some(number));
        }
        assert_eq!((schedule.number(0, 40), schedule.number(0, 256), schedule.number(7, 41)), (None, None, None));
        assert_eq!(schedule.warm_us(), 505_000);
    }

    #[test]
    fn what_is_due_follows_the_clock() {
        let schedule = Schedule { start_us: 1_000, ..Schedule::new(1_000.0, 0.0, 0.01, 2, 1) };
        let due: Vec<u64> = [0, 1_000, 1_999, 2_000, 99_000].map(|now_us| schedule.due_by(now_us)).into();
        assert_eq!(due, [0, 1, 1, 2, 10]);
    }

    #[tokio::test]
    async fn a_stall_is_caught_up_and_nothing_is_left_out() {
        let schedule = Schedule { start_us: now_us(), ..Schedule::new(20_000.0, 0.0, 0.1, 1, 0) };
        let mut next = 0;
        while next < schedule.count {
            let due = schedule.due(next).await;
            assert!(due.start == next && !due.is_empty() && due.end - due.start <= AT_ONCE);
            next = due.end;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(next == 2_000 && now_us() - schedule.start_us >= 99_000, "all, and not before they are due");
        assert!(schedule.due(next).await.is_empty());
    }
}
