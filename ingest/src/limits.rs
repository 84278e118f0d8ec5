//! Limits of this node: per person and for all together for commands, per address for requests and handshakes, per service
//! for its requests.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use runtime::config::LimitsConfig;
use schemas::wire::{Code, Rejection};

use crate::metrics;

/// Keys that are remembered before idle ones are forgotten.
const MOST_KEYS: usize = 100_000;

/// The limits.
pub struct Limits {
    people: DefaultKeyedRateLimiter<String>,
    node: DefaultDirectRateLimiter,
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    services: DefaultKeyedRateLimiter<String>,
    clock: DefaultClock,
}

impl Limits {
    /// From `[limits]`.
    pub fn new(config: &LimitsConfig) -> Self {
        Self {
            people: RateLimiter::keyed(quota(config.commands_per_s, config.commands_burst)),
            node: RateLimiter::direct(quota(config.node_commands_per_s, config.node_commands_burst)),
            addresses: RateLimiter::keyed(quota(config.requests_per_s, config.requests_burst)),
            services: RateLimiter::keyed(quota(config.service_requests_per_s, config.service_requests_burst)),
            clock: DefaultClock::default(),
        }
    }

    /// One more command of a person. A person's own limit is asked first, so that one who floods takes nothing of the
    /// node's from the others.
    pub fn command(&self, user_id: &str) -> Result<(), Rejection> {
        if self.people.len() > MOST_KEYS {
            self.people.retain_recent();
        }
        self.people
            .check_key(&user_id.to_owned())
            .map_err(|until| self.refuse(until.wait_time_from(self.clock.now())))?;
        self.node.check().map_err(|until| self.refuse(until.wait_time_from(self.clock.now())))
    }

    /// One more request or handshake of an address.
    pub fn request(&self, address: IpAddr) -> Result<(), Rejection> {
        if self.addresses.len() > MOST_KEYS {
            self.addresses.retain_recent();
        }
        self.addresses.check_key(&address).map_err(|until| self.refuse(until.wait_time_from(self.clock.now())))
    }

    /// One more request of a service. Only valid tokens name one, so there are few.
    pub fn service(&self, name: &str) -> Result<(), Rejection> {
        self.services.check_key(&name.to_owned()).map_err(|until| self.refuse(until.wait_time_from(self.clock.now())))
    }

    #[allow(clippy::unused_self, reason = "reads like its callers")]
    fn refuse(&self, wait: std::time::Duration) -> Rejection {
        metrics::refused(Code::RateLimited);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        Rejection::new(Code::RateLimited, "Too many at once: wait, then go on.").retry_after(wait_ms)
    }
}

fn quota(per_s: u32, burst: u32) -> Quota {
    let at_least_one = |count: u32| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(at_least_one(per_s)).allow_burst(at_least_one(burst.max(per_s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_when_to_go_on() {
        let limits = Limits::new(&LimitsConfig { commands_per_s: 2, commands_burst: 3, ..LimitsConfig::default() });
        for _ in 0..3 {
            limits.command("alice").unwrap();
        }
        let refusal = limits.command("alice").unwrap_err();
        assert_eq!(refusal.code, Code::RateLimited);
        assert!(refusal.retry_after_ms.is_some_and(|wait_ms| wait_ms <= 500));
        limits.command("bob").unwrap();
    }

    #[test]
    fn a_node_takes_so_much_from_all_together() {
        let config = LimitsConfig { node_commands_per_s: 1, node_commands_burst: 3, ..LimitsConfig::default() };
        let limits = Limits::new(&config);
        for person in ["alice", "bob", "carol"] {
            limits.command(person).unwrap();
        }
        assert_eq!(limits.command("dave").unwrap_err().code, Code::RateLimited);
    }

    #[test]
    fn who_floods_takes_nothing_from_the_others() {
        let config = LimitsConfig {
            commands_per_s: 1,
            commands_burst: 2,
            node_commands_per_s: 1,
            node_commands_burst: 4,
            ..LimitsConfig::default()
        };
        let limits = Limits::new(&config);
        let taken = (0..100).filter(|_| limits.command("alice").is_ok()).count();
        assert_eq!(taken, 2);
        assert!(limits.command("bob").is_ok() && limits.command("bob").is_ok());
    }
}
