//! Fragments of a capture: later ones take the ports of their first.

use std::num::NonZeroUsize;

use flow_common::parse::FragmentRole;
use flow_common::{FragmentKey, FragmentPorts, Packet};
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
    /// Remembers a first fragment, or completes the key of a later one.
    pub fn tie(&mut self, packet: &mut Packet, time_ns: u64) {
        match packet.fragment {
            FragmentRole::Whole => {}
            FragmentRole::First => {
                self.firsts.put(packet.fragment_key(), packet.fragment_ports(time_ns));
            }
            FragmentRole::Later => match self.firsts.get(&packet.fragment_key()) {
                Some(first) if time_ns.abs_diff(first.time) <= FragmentPorts::LIFETIME_NS => {
                    packet.adopt(first);
                }
                _ => self.without_ports += 1,
            },
        }
    }
}
