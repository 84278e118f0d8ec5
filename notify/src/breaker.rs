//! A circuit breaker, one a provider: where it fails again and again, nobody waits for its time-outs.
//!
//! ```text
//!   closed ──failures in a row──▶ open ──time──▶ half open ──the probe works──▶ closed
//!      ▲                           ▲                 │
//!      └───── anything works       └──it fails, twice as long as before
//! ```
//!
//! What the open breaker holds back isn't a try: it stays where it is until the breaker says that it may go on.

use std::time::Duration;

use tokio::time::Instant;

use crate::provider::Outcome;

/// When to break and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that break it.
    pub failures: u32,
    /// How long it stays open at first; twice as long after each failed probe.
    pub first: Duration,
    /// At most.
    pub most: Duration,
    /// How long a probe is waited for before the next one is let through.
    pub probe: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            failures: 10,
            first: Duration::from_secs(5),
            most: Duration::from_mins(5),
            probe: Duration::from_secs(30),
        }
    }
}

/// The breaker. Its owner says what time it is.
#[derive(Debug, Clone)]
pub struct Breaker {
    policy: Policy,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        lasted: Duration,
    },
    /// One is on its way; the next may go at `until`, should it never come back.
    HalfOpen {
        until: Instant,
        lasted: Duration,
    },
}

impl Breaker {
    /// Closed.
    pub fn new(policy: Policy) -> Self {
        Self { policy, state: State::Closed { failures: 0 } }
    }

    /// Whether one may be sent now; if not, how long to wait before asking again.
    ///
    /// Whoever gets leave must [`record`](Self::record) what came of it.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until, lasted } | State::HalfOpen { until, lasted } => {
                if now < until {
                    return Err(until - now);
                }
                self.state = State::HalfOpen { until: now + self.policy.probe, lasted };
                Ok(())
            }
        }
    }

    /// How long it holds everything back from now on, if it does. Asking changes nothing.
    pub fn holds_back(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until, .. } | State::HalfOpen { until, .. } if now < until => Some(until - now),
            _ => None,
        }
    }

    /// What came of one. A provider that answers works, also where it refuses a device or asks for patience with one.
    pub fn record(&mut self, outcome: &Outcome, now: Instant) {
        if outcome.is_fault_of_provider() { self.failed(now) } else { self.worked() }
    }

    /// Whether everything goes through.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    fn worked(&mut self) {
        // Late answers to what was sent before it broke don't close it; the probe's does.
        if !matches!(self.state, State::Open { .. }) {
            self.state = State::Closed { failures: 0 };
        }
    }

    fn failed(&mut self, now: Instant) {
        let open = |lasted: Duration| State::Open { until: now + lasted, lasted };
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < self.policy.failures => {
                State::Closed { failures: failures + 1 }
            }
            State::Closed { .. } => open(self.policy.first),
            State::HalfOpen { lasted, .. } => open(lasted.saturating_mul(2).min(self.policy.most)),
            // Those that were under way when it broke say nothing new.
            state @ State::Open { .. } => state,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Fault;
    use proptest::prelude::*;

    fn failure() -> Outcome {
        Outcome::Retry { after: None, fault: Fault::Unavailable("500".into()) }
    }

    fn success() -> Outcome {
        Outcome::Sent { id: None }
    }

    fn policy() -> Policy {
        Policy { failures: 3, ..Policy::default() }
    }

    #[test]
    fn it_opens_probes_and_closes() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::new(policy());
        for _ in 0..3 {
            assert_eq!(breaker.admit(start), Ok(()));
            breaker.record(&failure(), start);
        }
        assert_eq!(breaker.admit(after(1)), Err(Duration::from_secs(4)));
        // What was under way changes nothing.
        breaker.record(&success(), after(1));
        breaker.record(&failure(), after(1));
        assert_eq!(breaker.admit(after(1)), Err(Duration::from_secs(4)));
        // One probe at a time.
        assert_eq!(breaker.admit(after(5)), Ok(()));
        assert!(breaker.admit(after(6)).is_err());
        breaker.record(&failure(), after(6));
        // Twice as long.
        assert_eq!(breaker.admit(after(6)), Err(Duration::from_secs(10)));
        assert_eq!(breaker.admit(after(16)), Ok(()));
        breaker.record(&success(), after(17));
        assert!(breaker.is_closed());
        assert_eq!(breaker.admit(after(17)), Ok(()));
    }

    #[test]
    fn a_probe_that_never_comes_back_is_followed_by_another() {
        let start = Instant::now();
        let mut breaker = Breaker::new(policy());
        (0..3).for_each(|_| breaker.record(&failure(), start));
        let probe = start + Duration::from_secs(5);
        assert_eq!(breaker.admit(probe), Ok(()));
        assert_eq!(breaker.admit(probe), Err(policy().probe));
        assert_eq!(breaker.admit(probe + policy().probe), Ok(()));
    }

    #[test]
    fn refusals_and_patience_with_one_device_break_nothing() {
        let now = Instant::now();
        let mut breaker = Breaker::new(Policy { failures: 1, ..Policy::default() });
        breaker.record(&Outcome::Gone { since_ms: None }, now);
        breaker.record(&Outcome::Refused { reason: "BadDeviceToken".into() }, now);
        breaker.record(&Outcome::Retry { after: None, fault: Fault::Limited("TooManyRequests".into()) }, now);
        assert!(breaker.is_closed());
    }

    proptest! {
        #[test]
        fn it_never_stays_shut_for_longer_than_allowed(outcomes in prop::collection::vec(any::<bool>(), 1..200)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(policy());
            for is_good in outcomes {
                if let Err(wait) = breaker.admit(now) {
                    prop_assert!(wait <= policy().most);
                    now += wait;
                    prop_assert_eq!(breaker.admit(now), Ok(()));
                }
                breaker.record(&if is_good { success() } else { failure() }, now);
            }
        }
    }
}
