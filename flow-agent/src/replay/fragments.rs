//! Fragments of a capture: later ones take the ports of their first.

use std::num::NonZeroUsize;

use flow_common::{FlowKey, FragmentKey, FragmentPorts};
use foldhash::fast::FixedState;
use lru::LruCache;

/// Datagrams whose fragments are remembered at one time.
const DATAGRAMS: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// The first fragments seen lately.
pub struct Fragments {
    firsts: LruCache<FragmentKey, FragmentPorts, FixedState>,
    /// Later fragments whose first was not seen.
    pub without_ports: u64,
}

impl Default for Fragments {
    fn default() -> Self {
        // The seed is fixed: a replay gives the same rows each time.
        let firsts = LruCache::with_hasher(DATAGRAMS, FixedState::with_seed(0));
        Self { firsts, without_ports: 0 }
    }
}

impl Fragments {
    /// Remembers a first fragment.
    pub fn remember(&mut self, datagram: FragmentKey, ports: FragmentPorts) {
        self.firsts.put(datagram, ports);
    }

    /// Completes the key of a later fragment.
    pub fn complete(&mut self, datagram: &FragmentKey, key: &mut FlowKey, time_ns: u64) {
        match self.firsts.get(datagram) {
            Some(first) if time_ns.abs_diff(first.time) <= FragmentPorts::LIFETIME_NS => {
                key.src_port = first.src_port;
                key.dst_port = first.dst_port;
                key.protocol = first.protocol;
            }
            _ => self.without_ports += 1,
        }
    }
}
