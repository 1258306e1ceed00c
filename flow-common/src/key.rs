//! The key of one direction of a flow, as the kernel tables hold it.

use bytemuck::{Pod, Zeroable};

/// Where the packets of a flow were observed, relative to the host.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Not known: replayed captures, and `lo`, where both ends are this host.
    #[default]
    Unknown = 0,
    /// Entering the host.
    Ingress = 1,
    /// Leaving the host.
    Egress = 2,
}

impl Direction {
    /// The direction with this number; anything else is `Unknown`.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Ingress,
            2 => Self::Egress,
            _ => Self::Unknown,
        }
    }

    /// The direction of the answers.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

/// IP protocol numbers that the parser and the cache treat on their own (IANA registry).
pub mod protocol {
    #![allow(missing_docs, reason = "each name is its protocol")]
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const DCCP: u8 = 33;
    pub const IPV6: u8 = 41;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const SCTP: u8 = 132;
    pub const MOBILITY: u8 = 135;
    pub const UDP_LITE: u8 = 136;
    pub const HIP: u8 = 139;
    pub const SHIM6: u8 = 140;
}

/// An IPv6 address, or an IPv4 address mapped into one (RFC 4291 section 2.5.5.2):
/// four words in memory order, as they stand in a packet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// An IPv4 address given as the word that stands in the packet.
    #[inline(always)]
    pub const fn mapped(word: u32) -> Self {
        Self([0, 0, MAPPED_PREFIX, word])
    }

    /// True for a mapped IPv4 address.
    #[inline(always)]
    pub const fn is_mapped(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED_PREFIX
    }

    /// The octets, as they stand in a packet.
    pub fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (chunk, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            *chunk = word.to_ne_bytes();
        }
        octets
    }
}

impl From<[u8; 16]> for Address {
    fn from(octets: [u8; 16]) -> Self {
        let (words, _) = octets.as_chunks::<4>();
        Self([0, 1, 2, 3].map(|i| u32::from_ne_bytes(words[i])))
    }
}

impl From<[u8; 4]> for Address {
    fn from(octets: [u8; 4]) -> Self {
        Self::mapped(u32::from_ne_bytes(octets))
    }
}

/// The third word of a mapped IPv4 address.
const MAPPED_PREFIX: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// One direction of a flow: what all its packets at one observation point share.
///
/// 44 octets without padding, so that two keys are equal exactly when their
/// octets are. ICMP packets carry `type * 256 + code` in `dst_port`, as NetFlow
/// does, and 0 in `src_port`; rows split them again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct FlowKey {
    /// Source address.
    pub src: Address,
    /// Destination address.
    pub dst: Address,
    /// Destination port, or ICMP type and code; 0 where the protocol has none or it was not
    /// captured.
    pub dst_port: u16,
    /// Source port, likewise. On little-endian machines both are so one word of a header.
    pub src_port: u16,
    /// Outer VLAN id, 0 when untagged.
    pub vlan_id: u16,
    /// The next VLAN id, 0 when there is none.
    pub inner_vlan_id: u16,
    /// The agent's number for the interface (not the kernel's ifindex).
    pub interface: u16,
    /// IP protocol, or the last IPv6 next header reached.
    pub protocol: u8,
    /// A [`Direction`].
    pub direction: u8,
}

const _: () = assert!(size_of::<FlowKey>() == 44 && align_of::<FlowKey>() == 4);

/// A [`FlowKey`] as machines compare and hash it, in memory order: source and
/// destination address, ports, VLAN ids, the rest.
pub type KeyWords = [u32; 11];

impl FlowKey {
    /// The same memory in words.
    #[inline(always)]
    pub fn words(&self) -> &KeyWords {
        bytemuck::must_cast_ref(self)
    }

    /// The same in words of 64 bits, the last one half empty.
    #[inline(always)]
    pub fn wide_words(&self) -> [u64; 6] {
        let (wide, _) = bytemuck::bytes_of(self).as_chunks();
        let word = |at: usize| u64::from_ne_bytes(wide[at]);
        [word(0), word(1), word(2), word(3), word(4), u64::from(self.words()[10])]
    }

    // Whole words in one store each, because that is how they are read again at once: a
    // processor hands on what one store has written, but what several have it must first see
    // in its cache, and a store there waits for every cache miss before it.

    /// Sets the ports, in one store.
    #[inline(always)]
    pub fn set_ports(&mut self, src_port: u16, dst_port: u16) {
        self.set_word(8, [dst_port, src_port]);
    }

    /// Sets the VLAN ids, in one store.
    #[inline(always)]
    pub fn set_vlan_ids(&mut self, outer: u16, inner: u16) {
        self.set_word(9, [outer, inner]);
    }

    /// Sets where the packet was observed, in one store.
    #[inline(always)]
    pub fn observe(&mut self, interface: u16, direction: u8) {
        let rest = u16::from_ne_bytes([self.protocol, direction]);
        self.set_word(10, [interface, rest]);
    }

    #[inline(always)]
    fn set_word(&mut self, position: usize, halves: [u16; 2]) {
        let words: &mut KeyWords = bytemuck::must_cast_mut(self);
        words[position] = bytemuck::must_cast(halves);
    }

    /// True for ICMP and ICMPv6.
    #[inline(always)]
    pub const fn is_icmp(&self) -> bool {
        self.protocol == protocol::ICMP || self.protocol == protocol::ICMPV6
    }
}
