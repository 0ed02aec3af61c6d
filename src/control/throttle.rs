//! Who guessed wrong too often.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// How secret guessing is slowed down.
#[derive(Debug, Clone, Copy)]
pub(super) struct ThrottleLimits {
    /// Wrong secrets of one address that are answered at once, within [`ThrottleLimits::window`].
    pub(super) failures: u32,
    /// How long failures count, from an address's first.
    pub(super) window: Duration,
    /// How late further answers are.
    pub(super) delay: Duration,
    /// Addresses that are remembered. At the bound the oldest is forgotten.
    pub(super) addresses: usize,
}

impl Default for ThrottleLimits {
    fn default() -> Self {
        Self {
            failures: 10,
            window: Duration::from_secs(60),
            delay: Duration::from_secs(2),
            addresses: 10_000,
        }
    }
}

/// Counts wrong secrets by address. A network of IPv6 counts as one address: its holder has
/// all of them.
#[derive(Debug)]
pub(super) struct Throttle {
    limits: ThrottleLimits,
    addresses: HashMap<IpAddr, Failures>,
    /// The addresses by the time of their first failure.
    oldest: VecDeque<(Instant, IpAddr)>,
}

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Throttle {
    pub(super) fn new(limits: ThrottleLimits) -> Self {
        Self { limits, addresses: HashMap::new(), oldest: VecDeque::new() }
    }

    /// Whether the address has used up its failures.
    pub(super) fn is_over(&self, now: Instant, address: IpAddr) -> bool {
        self.addresses.get(&network(address)).is_some_and(|failures| {
            failures.count >= self.limits.failures && now < failures.since + self.limits.window
        })
    }

    /// Counts a failure. Returns whether it is one too many.
    pub(super) fn failed(&mut self, now: Instant, address: IpAddr) -> bool {
        self.forget_expired(now);
        let address = network(address);
        if let Some(failures) = self.addresses.get_mut(&address) {
            failures.count = failures.count.saturating_add(1);
            return failures.count > self.limits.failures;
        }
        while self.addresses.len() >= self.limits.addresses {
            let (_, oldest) = self.oldest.pop_front().expect("each address is in the queue");
            self.addresses.remove(&oldest);
        }
        self.addresses.insert(address, Failures { since: now, count: 1 });
        self.oldest.push_back((now, address));
        self.limits.failures == 0
    }

    fn forget_expired(&mut self, now: Instant) {
        while let Some(&(since, address)) = self.oldest.front() {
            if now < since + self.limits.window {
                break;
            }
            self.oldest.pop_front();
            self.addresses.remove(&address);
        }
    }
}

/// What an attacker cannot change cheaply: an IPv4 address, or the /64 of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ten_failures_a_minute_are_free() {
        let mut throttle = Throttle::new(ThrottleLimits::default());
        let start = Instant::now();
        let peer = address("10.0.0.1");
        for second in 0..10 {
            assert!(!throttle.is_over(start, peer));
            assert!(!throttle.failed(start + Duration::from_secs(second), peer));
        }
        assert!(throttle.is_over(start + Duration::from_secs(59), peer));
        assert!(throttle.failed(start + Duration::from_secs(59), peer));
        assert!(!throttle.is_over(start, address("10.0.0.2")));
        assert!(!throttle.is_over(start + Duration::from_secs(60), peer), "the minute is over");
        assert!(!throttle.failed(start + Duration::from_secs(60), peer));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let mut throttle = Throttle::new(ThrottleLimits { failures: 1, ..ThrottleLimits::default() });
        let now = Instant::now();
        throttle.failed(now, address("2001:db8:1:2:3::4"));
        assert!(throttle.is_over(now, address("2001:db8:1:2:ffff::1")));
        assert!(!throttle.is_over(now, address("2001:db8:1:3::1")));
        throttle.failed(now, address("::ffff:10.0.0.1"));
        assert!(throttle.is_over(now, address("10.0.0.1")));
        assert!(!throttle.is_over(now, address("::ffff:10.0.0.2")));
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes_first() {
        let mut throttle =
            Throttle::new(ThrottleLimits { failures: 1, addresses: 2, ..ThrottleLimits::default() });
        let now = Instant::now();
        for peer in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            throttle.failed(now, address(peer));
        }
        assert!(!throttle.is_over(now, address("10.0.0.1")));
        assert!(throttle.is_over(now, address("10.0.0.2")));
        assert!(throttle.is_over(now, address("10.0.0.3")));
        assert_eq!((throttle.addresses.len(), throttle.oldest.len()), (2, 2));
    }
}
