//! The systemd unit or container of the local end of a flow.
//!
//! Enter: sockets with their units, from the thread that lists them. A flow finds its socket by
//! both ends, else the one that takes everything at its address and port, else at its port.

use std::sync::Arc;

use crossbeam::channel::Receiver;

use super::EnrichmentCache;
use super::memo::{Lifetime, Memo};
use super::stats::Counts;

/// What tells sockets apart. Addresses are as in [`LocalSocket`](super::LocalSocket).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// This end.
    pub local: u128,
    /// The other end.
    pub remote: u128,
    /// The network namespace, a number of its own; 0 for the agent's.
    pub namespace: u32,
    /// This end's port.
    pub local_port: u16,
    /// The other end's port.
    pub remote_port: u16,
    /// TCP or UDP.
    pub protocol: u8,
}

/// Sockets with their units.
pub type UnitNews = Vec<(SocketKey, Arc<str>)>;

/// Units by socket.
pub struct Units {
    memo: Memo<SocketKey, Arc<str>>,
    news: Receiver<UnitNews>,
    hits: u64,
    misses: u64,
}

impl Units {
    /// With what comes by `news`.
    pub fn new(lifetime: Lifetime, news: Receiver<UnitNews>) -> Self {
        Self { memo: Memo::new(lifetime), news, hits: 0, misses: 0 }
    }
}

impl EnrichmentCache for Units {
    type Key = SocketKey;
    type Value = Arc<str>;

    fn name(&self) -> &'static str {
        "units"
    }

    fn settle(&mut self, now_s: u32) {
        while let Ok(sockets) = self.news.try_recv() {
            for (key, unit) in sockets {
                self.memo.put(key, unit, now_s);
            }
        }
    }

    fn look_up(&mut self, key: &SocketKey, now_s: u32) -> Option<&Arc<str>> {
        let bound = SocketKey { remote: 0, remote_port: 0, ..*key };
        let keys = [*key, bound, SocketKey { local: 0, ..bound }];
        let found = keys.iter().find(|key| self.memo.touch(key, now_s));
        *(if found.is_some() { &mut self.hits } else { &mut self.misses }) += 1;
        self.memo.peek(found?)
    }

    fn counts(&self) -> Counts {
        Counts { hits: self.hits, misses: self.misses, ..self.memo.counts() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam::channel::bounded;

    use super::*;
    use crate::enrich::interfaces::namespace_number;

    #[test]
    fn the_socket_that_fits_best_says_the_unit() {
        let (sender, news) = bounded(2);
        let lifetime = Lifetime { entries: 9, ttl: Duration::from_secs(10) };
        let mut units = Units::new(lifetime, news);
        let exact = SocketKey {
            local: 1,
            remote: 2,
            namespace: 0,
            local_port: 80,
            remote_port: 4000,
            protocol: 6,
        };
        let bound = SocketKey { remote: 0, remote_port: 0, ..exact };
        let any = SocketKey { local: 0, ..bound };
        let elsewhere = namespace_number("blue/");
        let news = [
            (exact, "connection"),
            (bound, "address"),
            (any, "port"),
            (SocketKey { namespace: elsewhere, ..any }, "blue"),
        ];
        sender.send(news.map(|(key, unit)| (key, unit.into())).to_vec()).expect("room");
        assert_eq!(units.look_up(&exact, 0), None, "not taken in yet");
        units.settle(0);
        for (key, unit) in [
            (exact, Some("connection")),
            (SocketKey { remote_port: 4001, ..exact }, Some("address")),
            (SocketKey { local: 3, ..exact }, Some("port")),
            (SocketKey { namespace: elsewhere, ..exact }, Some("blue")),
            (SocketKey { protocol: 17, ..exact }, None),
            (SocketKey { local_port: 81, ..exact }, None),
        ] {
            assert_eq!(units.look_up(&key, 9).map(|unit| &**unit), unit, "{key:?}");
        }
        assert_eq!(units.look_up(&exact, 10), None, "too old");
        let counts = units.counts();
        assert_eq!((counts.hits, counts.misses, counts.entries), (4, 4, 4));
    }
}
