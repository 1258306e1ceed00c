//! Sequence numbers of a capture's TCP directions: which segments were sent before.

use std::num::NonZeroUsize;

use flow_common::key::protocol;
use flow_common::parse::FragmentRole;
use flow_common::tcp::Segment;
use flow_common::{FlowKey, Packet, Tunnel};
use foldhash::fast::FixedState;
use lru::LruCache;

/// Directions that are remembered at one time; one that was forgotten begins anew.
const DIRECTIONS: NonZeroUsize = NonZeroUsize::new(1 << 18).expect("not zero");

/// Where each direction seen lately is.
pub struct Sequences {
    directions: LruCache<(FlowKey, Tunnel), Sent, FixedState>,
}

/// What one direction has sent so far.
#[derive(Default)]
struct Sent {
    /// Flags of all segments.
    flags: u8,
    /// The next sequence number.
    next: u32,
}

impl Default for Sequences {
    fn default() -> Self {
        // The seed is fixed: a replay gives the same rows each time.
        Self { directions: LruCache::with_hasher(DIRECTIONS, FixedState::with_seed(0)) }
    }
}

impl Sequences {
    /// True when the packet is a TCP segment that was sent before.
    pub fn repeats(&mut self, packet: &Packet) -> bool {
        // A later fragment has no header to tell.
        if packet.key.protocol != protocol::TCP || packet.fragment == FragmentRole::Later {
            return false;
        }
        let segment = Segment {
            seq: packet.tcp_seq,
            payload: packet.payload_octets,
            flags: packet.tcp_flags,
        };
        let sent = self.directions.get_or_insert_mut((packet.key, packet.tunnel), Sent::default);
        let repeats;
        (sent.next, repeats) = segment.follow(sent.flags, sent.next);
        sent.flags |= segment.flags;
        repeats
    }
}
