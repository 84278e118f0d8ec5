//! Admission: new sends are refused early when what is under way has grown too much, instead of waiting ever longer.
//!
//! What is looked at is this node's own: records that wait for Kafka, commands that nobody has decided yet, and how long the
//! oldest of them has been waiting, which is the persister's lag as senders feel it.

use std::time::Duration;

use runtime::config::LimitsConfig;
use schemas::wire::{Code, Rejection};

use crate::metrics;

/// What is under way on this node.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UnderWay {
    /// Records that Kafka hasn't acknowledged.
    pub(crate) queued: usize,
    /// Commands without an answer.
    pub(crate) undecided: usize,
    /// How long the oldest of them waits.
    pub(crate) oldest: Duration,
}

/// Marks past which nothing new is let in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    queued: usize,
    undecided: usize,
    lag: Duration,
}

impl Admission {
    pub(crate) const fn new(limits: &LimitsConfig) -> Self {
        Self {
            queued: limits.queued_commands,
            undecided: limits.undecided_commands,
            lag: Duration::from_millis(limits.lag_ms),
        }
    }

    /// Whether one more send may begin its way.
    pub(crate) fn admit(self, now: UnderWay) -> Result<(), Rejection> {
        let (reason, wait_ms) = if now.queued >= self.queued {
            ("Kafka takes messages more slowly than they come", 1_000)
        } else if now.undecided >= self.undecided {
            ("too many messages wait to be persisted", 1_000)
        } else if now.oldest >= self.lag {
            ("messages wait too long to be persisted", 2_000)
        } else {
            return Ok(());
        };
        metrics::refused(Code::Overloaded);
        let text = format!("Nothing new is taken just now, {reason}; what was accepted before is safe.");
        Err(Rejection::new(Code::Overloaded, text).retry_after(wait_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_refuses_by_itself() {
        let limits =
            LimitsConfig { queued_commands: 10, undecided_commands: 20, lag_ms: 1_000, ..LimitsConfig::default() };
        let admission = Admission::new(&limits);
        let below = UnderWay { queued: 9, undecided: 19, oldest: Duration::from_millis(999) };
        assert_eq!(admission.admit(below), Ok(()));
        for past in [
            UnderWay { queued: 10, ..below },
            UnderWay { undecided: 20, ..below },
            UnderWay { oldest: Duration::from_secs(1), ..below },
        ] {
            let refusal = admission.admit(past).expect_err("past a mark");
            assert_eq!(refusal.code, Code::Overloaded);
            assert!(refusal.retry_after_ms.is_some());
        }
    }
}
