//! Fragments enter in capture order, the direction of their datagram leaves.

use std::collections::HashMap;
use std::net::IpAddr;

use super::capture::Frame;
use super::ip::Fragment;
use super::{Direction, Tunnel};

/// How long after a first fragment a later one belongs to it, in nanoseconds.
const LIFETIME_NS: i128 = 30_000_000_000;

/// Interface, tunnel, outer and inner VLAN id (0: none), addresses, protocol, id.
type Datagram = (usize, Option<Tunnel>, u16, u16, IpAddr, IpAddr, u8, u32);

/// First fragments, and when they were seen.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    seen: HashMap<Datagram, (i128, Direction)>,
}

impl Fragments {
    /// The direction that a fragment counts in; `None` for a later one without its first.
    pub(super) fn direction(
        &mut self,
        frame: &Frame,
        vlans: &[u16],
        tunnel: Option<Tunnel>,
        direction: &Direction,
        fragment: Fragment,
    ) -> Option<Direction> {
        let Direction { src, dst, .. } = *direction;
        let vlan = |nth: usize| vlans.get(nth).copied().unwrap_or(0);
        let datagram =
            (frame.interface, tunnel, vlan(0), vlan(1), src, dst, fragment.protocol, fragment.id);
        if fragment.first {
            self.seen.insert(datagram, (frame.time_ns, *direction));
            return Some(*direction);
        }
        let (seen_ns, first) = self.seen.get(&datagram)?;
        (frame.time_ns - seen_ns <= LIFETIME_NS).then_some(*first)
    }
}
