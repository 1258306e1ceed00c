//! How often a client may ask: an address and a time enter, a permission or a wait leaves.
//!
//! Each client has a bucket of permissions that fills at the configured rate. It holds that
//! the table of clients is bounded: who has not asked for longest is forgotten first.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

/// Clients that are told apart.
const MOST_CLIENTS: usize = 4096;
/// A bucket holds what comes in so many seconds: a page asks for several things at once.
const BURST_SECONDS: f64 = 5.0;

struct Bucket {
    permissions: f64,
    at: Instant,
}

/// The buckets of all clients.
pub struct RateLimit {
    per_second: u32,
    clients: Mutex<LruCache<IpAddr, Bucket>>,
}

impl RateLimit {
    /// Each client may ask `per_second` times a second, in the long run.
    pub fn new(per_second: u32) -> Self {
        let most = NonZeroUsize::new(MOST_CLIENTS).unwrap_or(NonZeroUsize::MIN);
        Self { per_second, clients: Mutex::new(LruCache::new(most)) }
    }

    /// Requests a second.
    pub fn per_second(&self) -> u32 {
        self.per_second
    }

    /// Takes a permission.
    ///
    /// # Errors
    /// There is none; how long until there is.
    pub fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let rate = f64::from(self.per_second);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let full = || Bucket { permissions: rate * BURST_SECONDS, at: now };
        let bucket = clients.get_or_insert_mut(network(client), full);
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.permissions = (bucket.permissions + since * rate).min(rate * BURST_SECONDS);
        bucket.at = bucket.at.max(now);
        if bucket.permissions >= 1.0 {
            bucket.permissions -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.permissions) / rate))
    }
}

/// A host has a whole /64 of IPv6 for itself.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_its_burst_and_then_its_rate_whatever_others_do() {
        let (limit, start) = (RateLimit::new(10), Instant::now());
        let [one, other]: [IpAddr; 2] =
            ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().expect("valid"));
        assert_eq!((0..1000).filter(|_| limit.take(one, start).is_ok()).count(), 50);
        let wait = limit.take(one, start).expect_err("empty");
        assert!(wait <= Duration::from_millis(100) && wait > Duration::ZERO, "{wait:?}");
        assert!(limit.take(other, start).is_ok());
        let taken = |second| {
            let now = start + Duration::from_secs(second);
            (0..1000).filter(|_| limit.take(one, now).is_ok()).count()
        };
        assert_eq!([taken(1), taken(2), taken(4), taken(3600)], [10, 10, 20, 50]);
    }

    #[test]
    fn the_table_is_bounded_and_a_prefix_is_one_client() {
        let (limit, now) = (RateLimit::new(1), Instant::now());
        for n in 0..3 * MOST_CLIENTS as u32 {
            assert!(limit.take(IpAddr::V4(n.into()), now).is_ok());
        }
        assert_eq!(limit.clients.lock().expect("no panic").len(), MOST_CLIENTS);
        let of = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 9, 9, 9, n]);
        assert_eq!((0..100).filter(|n| limit.take(of(*n), now).is_ok()).count(), 5);
    }
}
