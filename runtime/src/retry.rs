//! Waiting between attempts: exponential, with full jitter, up to a limit.

use std::time::Duration;

use rand::Rng;

/// The pauses between attempts of one loop; [`Backoff::reset`] after a success.
#[derive(Debug, Clone)]
pub struct Backoff {
    first_ms: u64,
    most_ms: u64,
    attempt: u32,
}

impl Backoff {
    /// Pauses of up to `first_ms`, doubling, never over `most_ms`.
    pub const fn new(first_ms: u64, most_ms: u64) -> Self {
        Self { first_ms, most_ms, attempt: 0 }
    }

    /// The next pause.
    pub fn next_pause(&mut self) -> Duration {
        let ceiling_ms = self.first_ms.saturating_mul(1 << self.attempt.min(20)).min(self.most_ms).max(1);
        self.attempt = self.attempt.saturating_add(1);
        Duration::from_millis(rand::rng().random_range(ceiling_ms / 2..=ceiling_ms))
    }

    /// Starts over.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(50, 2_000)
    }
}
