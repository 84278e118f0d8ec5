//! When to try again: exponential with full jitter, never before the provider allows it.
//!
//! Full jitter (a uniform choice between nothing and the ceiling) spreads those who failed together widest; see the AWS
//! Architecture Blog, "Exponential Backoff And Jitter". Pure: the attempt's number is the caller's, so that it survives a
//! restart, and so is the random number.

use std::time::Duration;

/// How often and how patiently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Ceiling of the first pause; each next one is twice as high.
    pub first: Duration,
    /// Highest ceiling.
    pub most: Duration,
    /// Longest wait that a provider may ask for.
    pub most_asked: Duration,
    /// Tries in all, the first one included.
    pub tries: u32,
}

impl Default for Backoff {
    /// Ten tries within 17 minutes at the most, where the provider asks for nothing.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(2),
            most: Duration::from_mins(15),
            most_asked: Duration::from_hours(6),
            tries: 10,
        }
    }
}

impl Backoff {
    /// The pause after the try `tried` (1 is the first), or `None` after the last one.
    ///
    /// `asked` is the provider's `Retry-After`: the pause is never shorter, and jitter comes on top, so that those who were
    /// told the same don't come back together. `random` is from 0 up to, but without, 1.
    pub fn pause(&self, tried: u32, asked: Option<Duration>, random: f64) -> Option<Duration> {
        if tried >= self.tries {
            return None;
        }
        let doubled = self.first.saturating_mul(1_u32.checked_shl(tried.saturating_sub(1)).unwrap_or(u32::MAX));
        let jittered = doubled.min(self.most).mul_f64(random.clamp(0.0, 1.0));
        Some(asked.unwrap_or_default().min(self.most_asked).saturating_add(jittered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ceilings_double_up_to_the_highest() {
        let backoff = Backoff::default();
        let ceilings: Vec<u64> = (1..10).map(|tried| backoff.pause(tried, None, 1.0).unwrap().as_secs()).collect();
        assert_eq!(ceilings, [2, 4, 8, 16, 32, 64, 128, 256, 512]);
        assert_eq!(backoff.pause(10, None, 0.5), None);
        assert_eq!(backoff.pause(11, Some(Duration::from_secs(1)), 0.5), None);
        assert_eq!(Backoff { tries: 100, ..backoff }.pause(60, None, 1.0), Some(Duration::from_mins(15)));
    }

    proptest! {
        #[test]
        fn a_pause_is_between_what_was_asked_and_the_ceiling_above_it(
            tried in 1..200_u32, asked_s in prop::option::of(0..u64::MAX), random in 0.0..1.0_f64,
        ) {
            let backoff = Backoff { tries: 200, ..Backoff::default() };
            let asked = asked_s.map(Duration::from_secs);
            let pause = backoff.pause(tried, asked, random).unwrap();
            let least = asked.unwrap_or_default().min(backoff.most_asked);
            prop_assert!(pause >= least && pause <= least + backoff.most);
        }
    }
}
