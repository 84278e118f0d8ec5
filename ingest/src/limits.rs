//! Limits of this node: per person and for all together for commands, per address for requests and handshakes, per service
//! for its requests. A chat's is the persister's.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{DefaultDirectRateLimiter, NotUntil, Quota, RateLimiter};
use runtime::config::LimitsConfig;
use schemas::wire::{Code, Rejection};

use crate::{metrics, rates};

/// Keys that are remembered before idle ones are forgotten.
const MOST_KEYS: usize = 100_000;

/// The limits.
pub struct Limits {
    people: Keyed<String>,
    node: DefaultDirectRateLimiter,
    addresses: Keyed<IpAddr>,
    services: Keyed<String>,
    /// Held by the persister, told here.
    chat: Quota,
    clock: DefaultClock,
}

/// A limit for each key.
struct Keyed<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>,
    /// Keys past which idle ones are forgotten: twice as many as were busy last time, so that a crowd isn't looked through for
    /// each of its members.
    most_keys: AtomicUsize,
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    fn new(quota: Quota) -> Self {
        let limiter = RateLimiter::keyed(quota).with_middleware();
        Self { limiter, most_keys: AtomicUsize::new(MOST_KEYS) }
    }

    fn forget_idle(&self, least: usize) {
        if self.limiter.len() > self.most_keys.load(Ordering::Relaxed) {
            self.limiter.retain_recent();
            self.most_keys.store(least.max(2 * self.limiter.len()), Ordering::Relaxed);
        }
    }
}

impl Limits {
    /// From `[limits]`.
    pub fn new(config: &LimitsConfig) -> Self {
        Self {
            people: Keyed::new(quota(config.commands_per_s, config.commands_burst)),
            node: RateLimiter::direct(quota(config.node_commands_per_s, config.node_commands_burst)),
            addresses: Keyed::new(quota(config.requests_per_s, config.requests_burst)),
            services: Keyed::new(quota(config.service_requests_per_s, config.service_requests_burst)),
            chat: quota_of(config.chat_sends_per_s, config.chat_sends_burst),
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
        self.people.limiter.until_key_ready(&user_id.to_owned()).await;
        self.node.until_ready().await;
    }

    /// One more request or handshake of an address.
    pub fn request(&self, address: IpAddr) -> Result<(), Rejection> {
        self.ask("address", &self.addresses, &site_of(address))
    }

    /// The persister refused a send for its chat's limit: counted, and told in the answer's headers, like the others.
    pub(crate) fn chat_is_full(&self) {
        metrics::limited("chat");
        rates::note_used_up("chat", self.chat);
    }

    /// One more request of a service. Only valid tokens name one, so there are few.
    pub fn service(&self, name: &str) -> Result<(), Rejection> {
        self.ask("service", &self.services, &name.to_owned())
    }

    fn ask<K: Hash + Eq + Clone>(&self, limit: &'static str, keyed: &Keyed<K>, key: &K) -> Result<(), Rejection> {
        keyed.forget_idle(MOST_KEYS);
        let state = keyed.limiter.check_key(key).map_err(|until| self.refuse(limit, &until))?;
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

fn quota(per_s: u32, burst: u32) -> Quota {
    quota_of(per_s, burst.max(per_s))
}

fn quota_of(per_s: u32, burst: u32) -> Quota {
    let at_least_one = |count: u32| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(at_least_one(per_s)).allow_burst(at_least_one(burst))
}

/// Whose an address is: a customer has a whole /64 of IPv6 (RFC 6177), and could come from another address each time.
fn site_of(address: IpAddr) -> IpAddr {
    const SITE: u128 = !(u64::MAX as u128);
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & SITE).into(),
        address @ IpAddr::V4(_) => address,
    }
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
    fn whoever_has_many_addresses_has_one_limit() {
        let limits = Limits::new(&LimitsConfig { requests_per_s: 1, requests_burst: 3, ..LimitsConfig::default() });
        let asked = |text: &str| limits.request(text.parse().unwrap()).is_ok();
        let taken = (0..100).filter(|number| asked(&format!("2001:db8:1:2::{number:x}"))).count();
        assert_eq!(taken, 3);
        assert!(!asked("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert!(asked("2001:db8:1:3::1"), "a neighbour has a limit of its own");
        // IPv4 on a listener for both stays single addresses.
        assert!((0..10).all(|number| asked(&format!("::ffff:192.0.2.{number}"))));
        assert!(asked("192.0.2.1") && asked("192.0.2.1") && !asked("::ffff:192.0.2.1"));
    }

    #[test]
    fn a_crowd_isnt_looked_through_for_each_of_its_members() {
        let an_hour = Quota::with_period(std::time::Duration::from_secs(3_600)).unwrap();
        let keyed = Keyed { most_keys: AtomicUsize::new(10), ..Keyed::new(an_hour) };
        let most = |keyed: &Keyed<u32>| keyed.most_keys.load(Ordering::Relaxed);
        for key in 0..100 {
            keyed.forget_idle(10);
            keyed.limiter.check_key(&key).unwrap();
        }
        assert!((100..200).contains(&most(&keyed)), "{} for 100 busy ones", most(&keyed));
        assert_eq!(keyed.limiter.len(), 100);
        // The idle go, and with them the room for them.
        let keyed = Keyed { most_keys: AtomicUsize::new(10), ..Keyed::new(quota(1_000_000_000, 1_000_000_000)) };
        for key in 0..100 {
            keyed.forget_idle(10);
            keyed.limiter.check_key(&key).unwrap();
        }
        assert!(keyed.limiter.len() < 50 && most(&keyed) < 50, "{} kept", keyed.limiter.len());
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
