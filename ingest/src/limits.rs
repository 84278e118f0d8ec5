//! Limits of this node: per person and for all together for commands, per address for requests and handshakes, per service
//! for its requests. A chat's is the persister's.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{DefaultDirectRateLimiter, NotUntil, Quota, RateLimiter};
use runtime::config::LimitsConfig;
use schemas::wire::{Code, Rejection};

use crate::{metrics, rates};

/// Keys that are remembered before idle ones are forgotten.
const MOST_KEYS: usize = 100_000;

type Keyed<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// The limits.
pub struct Limits {
    people: Keyed<String>,
    node: DefaultDirectRateLimiter,
    addresses: Keyed<IpAddr>,
    services: Keyed<String>,
    clock: DefaultClock,
}

impl Limits {
    /// From `[limits]`.
    pub fn new(config: &LimitsConfig) -> Self {
        Self {
            people: keyed(config.commands_per_s, config.commands_burst),
            node: RateLimiter::direct(quota(config.node_commands_per_s, config.node_commands_burst)),
            addresses: keyed(config.requests_per_s, config.requests_burst),
            services: keyed(config.service_requests_per_s, config.service_requests_burst),
            clock: DefaultClock::default(),
        }
    }

    /// One more command of a person. A person's own limit is asked first, so that one who floods takes nothing of the
    /// node's from the others.
    pub fn command(&self, user_id: &str) -> Result<(), Rejection> {
        self.ask("person", &self.people, &user_id.to_owned())?;
        self.node.check().map_err(|until| self.refuse("node", &until))
    }

    /// Waits until one more command of a person is allowed.
    pub async fn further_command(&self, user_id: &str) {
        self.people.until_key_ready(&user_id.to_owned()).await;
        self.node.until_ready().await;
    }

    /// One more request or handshake of an address.
    pub fn request(&self, address: IpAddr) -> Result<(), Rejection> {
        self.ask("address", &self.addresses, &address)
    }

    /// One more request of a service. Only valid tokens name one, so there are few.
    pub fn service(&self, name: &str) -> Result<(), Rejection> {
        self.ask("service", &self.services, &name.to_owned())
    }

    fn ask<K: Hash + Eq + Clone>(&self, limit: &'static str, keyed: &Keyed<K>, key: &K) -> Result<(), Rejection> {
        if keyed.len() > MOST_KEYS {
            keyed.retain_recent();
        }
        let state = keyed.check_key(key).map_err(|until| self.refuse(limit, &until))?;
        rates::note(limit, &state);
        Ok(())
    }

    fn refuse(&self, limit: &'static str, until: &NotUntil<<DefaultClock as Clock>::Instant>) -> Rejection {
        metrics::refused(Code::RateLimited);
        metrics::limited(limit);
        rates::note_used_up(limit, until.quota());
        let wait = until.wait_time_from(self.clock.now());
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        Rejection::new(Code::RateLimited, format!("Over the limit of this {limit}: wait, then go on."))
            .retry_after(wait_ms)
    }
}

fn keyed<K: Hash + Eq + Clone>(per_s: u32, burst: u32) -> Keyed<K> {
    RateLimiter::keyed(quota(per_s, burst)).with_middleware()
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

    #[tokio::test]
    async fn a_further_command_waits_where_a_first_is_refused() {
        let limits = Limits::new(&LimitsConfig { commands_per_s: 50, commands_burst: 1, ..LimitsConfig::default() });
        while limits.command("alice").is_ok() {}
        limits.further_command("alice").await;
        assert_eq!(limits.command("alice").unwrap_err().code, Code::RateLimited, "what was waited for is taken");
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
