//! The ports at which this host's sockets listen, kept over restarts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::services::KnownPorts;

/// Listening ports that are remembered, at most.
pub const MOST: usize = 4096;

/// A listening port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// What stands before the names of its namespace's interfaces: nothing, `blue/`, `pid:7/`.
    pub namespace: String,
    /// TCP or UDP.
    pub protocol: u8,
    /// The port.
    pub port: u16,
}

/// What is known of a listening port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The unit or container that listens, if it is known.
    pub unit: Option<String>,
    /// When it was last seen, Unix seconds.
    pub at_s: u64,
}

/// The listening ports of this host, now and some time ago; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Listeners {
    ports: Arc<Mutex<BTreeMap<Listener, Seen>>>,
    /// They and the configuration's own are known here.
    known_ports: KnownPorts,
    own: Arc<[(u8, u16)]>,
}

impl Listeners {
    /// None yet. From now on `known_ports` has them, and these `own` ones.
    pub fn new(known_ports: KnownPorts, own: Vec<(u8, u16)>) -> Self {
        let listeners = Self { ports: Arc::default(), known_ports, own: own.into() };
        listeners.known_ports.set(listeners.own.iter().copied());
        listeners
    }

    /// Every port, in order.
    pub fn all(&self) -> Vec<(Listener, Seen)> {
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.iter().map(|(listener, seen)| (listener.clone(), seen.clone())).collect()
    }

    /// Adds what was seen, or remembered of before; the later sight counts. Forgets what was last
    /// seen `ttl` before `now_s`, and the oldest if there are more than `MOST`.
    pub fn add(&self, seen: impl IntoIterator<Item = (Listener, Seen)>, now_s: u64, ttl: Duration) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        for (listener, seen) in seen {
            let known = ports.entry(listener).or_insert_with(|| seen.clone());
            if known.at_s <= seen.at_s {
                let unit = seen.unit.or_else(|| known.unit.take());
                *known = Seen { unit, ..seen };
            }
        }
        ports.retain(|_, seen| seen.at_s.saturating_add(ttl.as_secs()) > now_s);
        if let Some(excess) = ports.len().checked_sub(MOST) {
            let mut oldest: Vec<_> =
                ports.iter().map(|(key, seen)| (seen.at_s, key.clone())).collect();
            oldest.sort();
            for (_, listener) in &oldest[..excess] {
                ports.remove(listener);
            }
        }
        let learned = ports.keys().map(|listener| (listener.protocol, listener.port));
        self.known_ports.set(self.own.iter().copied().chain(learned));
    }
}

/// What flows to the port of a unit are called: a container's name changes too often.
pub fn service_of_unit(unit: &str) -> Option<&str> {
    let name = unit.strip_suffix(".service")?;
    let name = name.split_once('@').map_or(name, |(template, _)| template);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(100);

    fn listener(port: u16) -> Listener {
        Listener { namespace: String::new(), protocol: 6, port }
    }

    fn seen(unit: Option<&str>, at_s: u64) -> Seen {
        Seen { unit: unit.map(Into::into), at_s }
    }

    #[test]
    fn the_later_sight_counts_and_a_known_unit_stays() {
        let listeners = Listeners::default();
        listeners.add([(listener(80), seen(Some("a.service"), 10))], 10, TTL);
        listeners.add([(listener(80), seen(None, 20))], 20, TTL);
        assert_eq!(listeners.all(), [(listener(80), seen(Some("a.service"), 20))]);
        listeners.clone().add([(listener(80), seen(Some("old.service"), 5))], 20, TTL);
        assert_eq!(listeners.all(), [(listener(80), seen(Some("a.service"), 20))]);
        listeners.add([(listener(81), seen(None, 119))], 119, TTL);
        assert_eq!(listeners.all().len(), 2);
        listeners.add([], 120, TTL);
        assert_eq!(listeners.all(), [(listener(81), seen(None, 119))]);
    }

    #[test]
    fn they_are_known_ports_as_long_as_they_are_remembered() {
        let known = KnownPorts::default();
        let listeners = Listeners::new(known.clone(), vec![(17, 9998)]);
        assert!(known.contains(17, 9998) && !known.contains(6, 9999));
        listeners.add([(listener(9999), seen(None, 10))], 10, TTL);
        assert!(known.contains(17, 9998) && known.contains(6, 9999) && known.contains(6, 443));
        listeners.add([], 110, TTL);
        assert!(known.contains(17, 9998) && !known.contains(6, 9999));
    }

    #[test]
    fn there_are_never_more_than_the_limit() {
        let listeners = Listeners::default();
        let ports = |from: u16, count: usize, at_s| {
            (from..).take(count).map(move |port| (listener(port), seen(None, at_s)))
        };
        listeners.add(ports(0, MOST, 1), 1, TTL);
        listeners.add(ports(10_000, 10, 2), 2, TTL);
        assert!(listeners.all().len() <= MOST);
        assert_eq!(listeners.all().iter().filter(|(_, seen)| seen.at_s == 2).count(), 10);
        listeners.add(ports(20_000, 2 * MOST, 3), 3, TTL);
        assert_eq!(listeners.all().len(), MOST);
    }

    #[test]
    fn services_are_called_as_their_units() {
        for (unit, name) in [
            ("nginx.service", Some("nginx")),
            ("getty@tty1.service", Some("getty")),
            ("session-3.scope", None),
            ("docker:0123456789ab", None),
            ("@.service", None),
        ] {
            assert_eq!(service_of_unit(unit), name);
        }
    }
}
