//! The key of one direction of a flow, as the kernel tables hold it.

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
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const DCCP: u8 = 33;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const SCTP: u8 = 132;
    pub const MOBILITY: u8 = 135;
    pub const UDP_LITE: u8 = 136;
    pub const HIP: u8 = 139;
    pub const SHIM6: u8 = 140;
}

/// One direction of a flow: what all its packets at one observation point share.
///
/// 44 octets without padding, so that two keys are equal exactly when their
/// octets are. IPv4 addresses are IPv4-mapped IPv6 addresses (RFC 4291
/// section 2.5.5.2). ICMP packets carry `type * 256 + code` in `dst_port`, as
/// NetFlow does, and 0 in `src_port`; rows split them again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Source port, 0 where the protocol has none or it was not captured.
    pub src_port: u16,
    /// Destination port, or ICMP type and code.
    pub dst_port: u16,
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

const _: () = assert!(size_of::<FlowKey>() == 44 && align_of::<FlowKey>() == 2);

impl FlowKey {
    /// True for ICMP and ICMPv6.
    #[inline(always)]
    pub const fn is_icmp(&self) -> bool {
        self.protocol == protocol::ICMP || self.protocol == protocol::ICMPV6
    }
}

/// The IPv4-mapped IPv6 address of an IPv4 address.
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}
