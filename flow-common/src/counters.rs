//! The counters of one interface in one generation on one CPU.

use bytemuck::{Pod, Zeroable};

use crate::key::protocol;
use crate::{Lost, NotMetered, Packet};

/// Packets and octets, always counted together.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
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

/// Flows that had to leave a full set when the list of evicted flows was full, too:
/// their counts go on without addresses and ports, so that totals still agree.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Overflow {
    /// By [`Direction`](crate::Direction) (the last is not used), then by
    /// [`Overflow::protocol_class`].
    pub counts: [[Count; 4]; 4],
}

impl Overflow {
    /// Nothing.
    pub const ZERO: Self = Self { counts: [[Count { packets: 0, octets: 0 }; 4]; 4] };

    /// IP protocols that are told apart: TCP, UDP, both ICMPs, and 255 (reserved
    /// by IANA) for every other.
    pub const PROTOCOLS: [u8; 4] = [protocol::TCP, protocol::UDP, protocol::ICMP, 255];

    /// Position of a protocol's counts.
    #[inline(always)]
    pub const fn protocol_class(protocol: u8) -> usize {
        match protocol {
            protocol::TCP => 0,
            protocol::UDP => 1,
            protocol::ICMP | protocol::ICMPV6 => 2,
            _ => 3,
        }
    }
}

/// What the kernel counts for one interface besides the flows themselves.
///
/// There is no `metered` counter on purpose: the agent sums the rows it really
/// drained, so that `seen = metered + not_metered + lost` is a test and not a
/// tautology. One writer (the CPU), no atomics.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct InterfaceCounters {
    /// Every packet a hook was given.
    pub seen: Count,
    /// Later fragments whose first fragment was not seen: metered with ports 0.
    pub fragments_without_ports: u64,
    /// Memory of no meaning that the kernel side may write and read back.
    pub scratch: u64,
    /// Memory of no meaning, where the kernel side works on a packet.
    pub packet: [u64; PACKET_WORDS],
    /// Packets without a flow, by [`NotMetered`].
    pub not_metered: [Count; 16],
    /// Packets whose interface the agent did not configure.
    pub no_interface: Count,
    /// Packets of flows that were lost for lack of memory.
    pub overflow: Overflow,
    /// [`Filter::flags`](crate::filter::Filter::flags) of the generation: here they cost
    /// a packet no look-up. Written by the agent.
    pub rules: u32,
    reserved: [u32; 5],
}

/// Size of [`InterfaceCounters::packet`], in words.
pub const PACKET_WORDS: usize = 15;

impl InterfaceCounters {
    /// All counters at zero; without a rule everything is metered.
    pub const ZERO: Self = Self {
        seen: Count { packets: 0, octets: 0 },
        fragments_without_ports: 0,
        scratch: 0,
        packet: [0; PACKET_WORDS],
        not_metered: [Count { packets: 0, octets: 0 }; 16],
        no_interface: Count { packets: 0, octets: 0 },
        overflow: Overflow::ZERO,
        rules: 0,
        reserved: [0; 5],
    };
}

const _: () = assert!(size_of::<InterfaceCounters>() == 704);
const _: () = assert!(size_of::<Packet>() <= PACKET_WORDS * 8);
const _: () = assert!(NotMetered::COUNT <= 16 && Lost::COUNT <= 8);
