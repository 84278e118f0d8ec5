//! Waiting between connections: doubled with each failure, spread, so that the clients of a lost node don't come back in one moment.

use std::time::Duration;

use rand::Rng;

#[derive(Debug)]
pub(crate) struct Backoff {
    first_ms: u64,
    most_ms: u64,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first_ms: u64, most_ms: u64) -> Self {
        Self { first_ms, most_ms, failures: 0 }
    }

    /// Between half of the pause and all of it.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let full_ms = self.first_ms.saturating_mul(1 << self.failures.min(20)).clamp(1, self.most_ms.max(1));
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(rand::rng().random_range(full_ms / 2..=full_ms))
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}
