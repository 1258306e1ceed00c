//! The counters of one interface in one generation on one CPU.

use crate::{Lost, NotMetered};

/// Packets and octets, always counted together.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets on the wire: a super-packet counts as its segments.
    pub packets: u64,
    /// IP octets of those packets, or octets after the link header when not IP.
    pub octets: u64,
}

impl Count {
    /// Adds packets and octets.
    #[inline(always)]
    pub fn add(&mut self, packets: u64, octets: u64) {
        self.packets = self.packets.wrapping_add(packets);
        self.octets = self.octets.wrapping_add(octets);
    }

    /// Adds another count.
    #[inline(always)]
    pub fn merge(&mut self, other: Self) {
        self.add(other.packets, other.octets);
    }
}

/// What the kernel counts for one interface besides the flows themselves.
///
/// There is no `metered` counter on purpose: the agent sums the rows it really
/// drained, so that `seen = metered + not_metered + lost` is a test and not a
/// tautology. One writer (the CPU), no atomics.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct InterfaceCounters {
    /// Every packet a hook was given.
    pub seen: Count,
    /// Packets without a flow, by [`NotMetered`].
    pub not_metered: [Count; 16],
    /// Packets whose flow was lost in the kernel, by [`Lost`].
    pub lost: [Count; 8],
    /// Later fragments whose first fragment was not seen: metered with ports 0.
    pub fragments_without_ports: u64,
    /// Memory of no meaning that the kernel side may write and read back.
    pub scratch: u64,
    reserved: [u64; 4],
}

impl InterfaceCounters {
    /// All counters at zero.
    pub const ZERO: Self = Self {
        seen: Count { packets: 0, octets: 0 },
        not_metered: [Count { packets: 0, octets: 0 }; 16],
        lost: [Count { packets: 0, octets: 0 }; 8],
        fragments_without_ports: 0,
        scratch: 0,
        reserved: [0; 4],
    };
}

const _: () = assert!(size_of::<InterfaceCounters>() == 448);
const _: () = assert!(NotMetered::COUNT <= 16 && Lost::COUNT <= 8);
