//! How often something may happen on one connection: so many at once, so many a second.

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Allowance {
    per_s: f64,
    most: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    pub(super) fn new(per_s: f64, most: f64) -> Self {
        Self { per_s, most, left: most, at: Instant::now() }
    }

    /// Takes one, if there is one left.
    pub(super) fn take(&mut self) -> bool {
        let now = Instant::now();
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * self.per_s).min(self.most);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn refills_with_time() {
        let mut allowance = Allowance::new(2.0, 3.0);
        assert_eq!((0..5).filter(|_| allowance.take()).count(), 3);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..5).filter(|_| allowance.take()).count(), 2);
    }
}
