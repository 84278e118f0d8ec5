//! What time brings to a connection: pings, silence, the end of its token, the end of the node. Pure but for the clock of
//! the runtime, which tests can stop.

use std::time::Duration;

use runtime::clock;
use tokio::time::Instant;

use crate::writer::Close;

/// How long before its end a token is said to expire; shorter ones at half of what is left.
const EXPIRY_NOTICE_MS: i64 = 60_000;
/// Heartbeats that may be missed.
const MISSED_HEARTBEATS: u32 = 3;
/// Far enough to be looked at again.
const FAR: Duration = Duration::from_hours(24);

/// Something to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    TokenExpiring(i64),
    Reconnect,
    Close(Close),
}

#[derive(Debug)]
pub(super) struct Timers {
    heartbeat: Duration,
    last_heard: Instant,
    last_pinged: Instant,
    expires_at_ms: i64,
    expiry: Instant,
    notice: Option<Instant>,
    reconnect: Option<Instant>,
    /// Set while draining: when to close at the latest.
    leave: Option<Instant>,
    is_told_to_leave: bool,
}

impl Timers {
    pub(super) fn new(heartbeat_ms: u64, expires_at_ms: i64) -> Self {
        let now = Instant::now();
        let heartbeat = Duration::from_millis(heartbeat_ms);
        let mut timers = Self {
            heartbeat,
            last_heard: now,
            last_pinged: now,
            expires_at_ms,
            expiry: now,
            notice: None,
            reconnect: None,
            leave: None,
            is_told_to_leave: false,
        };
        timers.renew(expires_at_ms);
        timers
    }

    /// The client was heard.
    pub(super) fn heard(&mut self) {
        self.last_heard = Instant::now();
    }

    /// The token was replaced.
    pub(super) fn renew(&mut self, expires_at_ms: i64) {
        let left_ms = expires_at_ms.saturating_sub(clock::now_ms()).max(0);
        let notice_ms = if left_ms > 2 * EXPIRY_NOTICE_MS { left_ms - EXPIRY_NOTICE_MS } else { left_ms / 2 };
        let after = |ms: i64| Instant::now() + Duration::from_millis(ms as u64).min(FAR * 365);
        self.expires_at_ms = expires_at_ms;
        self.expiry = after(left_ms);
        self.notice = Some(after(notice_ms));
    }

    /// The node stops: the client is told after a while of its own, and closed once its commands are answered.
    pub(super) fn drain(&mut self, after_ms: u64, most_ms: u64) {
        let now = Instant::now();
        self.reconnect = Some(now + Duration::from_millis(after_ms));
        self.leave = Some(now + Duration::from_millis(most_ms));
    }

    /// Whoever sends heartbeats in time needs no pings.
    fn next_ping(&self) -> Instant {
        self.last_heard.max(self.last_pinged) + self.heartbeat * 5 / 4
    }

    /// When to look again.
    pub(super) fn next(&self) -> Instant {
        let silence = self.last_heard + self.heartbeat * MISSED_HEARTBEATS;
        let mut next = self.next_ping().min(silence).min(self.expiry);
        for at in [self.notice, self.reconnect, self.leave].into_iter().flatten() {
            next = next.min(at);
        }
        if self.is_told_to_leave {
            // Answers are waited for; each one wakes the loop anyway, this is for when there is none.
            next = next.min(Instant::now() + Duration::from_millis(20));
        }
        next
    }

    /// The next thing that is due; to be asked until there is none.
    pub(super) fn take_due(&mut self, now: Instant, is_answered: bool) -> Option<Due> {
        if now >= self.expiry {
            return Some(Due::Close(Close::TOKEN_EXPIRED));
        }
        if now >= self.last_heard + self.heartbeat * MISSED_HEARTBEATS {
            return Some(Due::Close(Close::SILENT));
        }
        if self.leave.is_some_and(|leave| now >= leave) || (self.is_told_to_leave && is_answered) {
            return Some(Due::Close(Close::DRAINING));
        }
        if self.reconnect.is_some_and(|reconnect| now >= reconnect) {
            self.reconnect = None;
            self.is_told_to_leave = true;
            return Some(Due::Reconnect);
        }
        if self.notice.is_some_and(|notice| now >= notice) {
            self.notice = None;
            return Some(Due::TokenExpiring(self.expires_at_ms));
        }
        if now >= self.next_ping() {
            self.last_pinged = now;
            return Some(Due::Ping);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn due_after(timers: &mut Timers, ms: u64) -> Option<Due> {
        tokio::time::advance(Duration::from_millis(ms)).await;
        timers.take_due(Instant::now(), true)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_pinged_and_ends_after_three_heartbeats() {
        let mut timers = Timers::new(1_000, clock::now_ms() + 3_600_000);
        assert_eq!(due_after(&mut timers, 1_250).await, Some(Due::Ping));
        timers.heard();
        assert_eq!(due_after(&mut timers, 1_249).await, None);
        assert_eq!(due_after(&mut timers, 1).await, Some(Due::Ping));
        assert_eq!(due_after(&mut timers, 1_250).await, Some(Due::Ping));
        assert_eq!(due_after(&mut timers, 500).await, Some(Due::Close(Close::SILENT)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_heartbeats_isnt_pinged() {
        let mut timers = Timers::new(1_000, clock::now_ms() + 3_600_000);
        for _ in 0..10 {
            assert_eq!(due_after(&mut timers, 1_000).await, None);
            timers.heard();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_announced_and_then_ends() {
        let expires_at_ms = clock::now_ms() + 10_000;
        let mut timers = Timers::new(60_000, expires_at_ms);
        assert_eq!(due_after(&mut timers, 4_900).await, None);
        assert_eq!(due_after(&mut timers, 200).await, Some(Due::TokenExpiring(expires_at_ms)));
        assert_eq!(due_after(&mut timers, 5_000).await, Some(Due::Close(Close::TOKEN_EXPIRED)));
        timers.renew(clock::now_ms() + 600_000);
        assert_eq!(due_after(&mut timers, 1_000).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_answers_but_not_for_ever() {
        let mut timers = Timers::new(60_000, clock::now_ms() + 3_600_000);
        timers.drain(100, 3_000);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(timers.take_due(Instant::now(), false), Some(Due::Reconnect));
        assert_eq!(timers.take_due(Instant::now(), false), None);
        assert_eq!(timers.take_due(Instant::now(), true), Some(Due::Close(Close::DRAINING)));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(timers.take_due(Instant::now(), false), Some(Due::Close(Close::DRAINING)));
    }
}
