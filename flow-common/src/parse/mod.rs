//! The packet parser: from the octets of a frame to a flow key and its counts.
//!
//! Enters: a [`Frame`] and what its first octets are. Leaves: a [`Packet`], or the
//! reason why there is none. The stages follow the packet: `link` finds the IP
//! header, `ip` reads it, `transport` reads the ports; `tunnel` finds the packet
//! inside, if it is asked to. No stage allocates, loops without a bound, or reads
//! twice. They fill a packet that the caller owns: the
//! kernel side keeps it in map memory, since BPF has few registers.

mod ip;
mod link;
mod transport;
mod tunnel;
mod usual;

use crate::frame::Captured;
use crate::{Address, FlowKey, Frame, NotMetered, Tunnel};

pub use link::Link;

/// What one metered packet adds to its flow; its key can be read in words of eight octets.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Its flow; the caller sets `interface` and `direction`.
    pub key: FlowKey,
    /// IP octets (IPFIX octetDeltaCount) of the packet as it stands in the frame.
    pub octets: u32,
    /// Identification of the fragmented datagram; of a whole one it means nothing.
    pub fragment_id: u32,
    /// TCP sequence number; of other protocols it means nothing.
    pub tcp_seq: u32,
    /// Octets behind the TCP header, 0 for other protocols.
    pub payload_octets: u32,
    /// First word of the IP header: its version and traffic class.
    pub ip_word: u32,
    /// Octets from the IP header to the transport payload; as far as they were captured. Of a
    /// super-packet that is a tunnel's, to the inner transport payload.
    pub header_octets: u16,
    /// TCP flags, 0 for other protocols.
    pub tcp_flags: u8,
    /// IPv4 time to live or IPv6 hop limit.
    pub ttl: u8,
    /// Whether it is a fragment, and which.
    pub fragment: FragmentRole,
    /// The protocol that all fragments state: the IPv4 protocol, or the next
    /// header of the IPv6 fragment header. `key.protocol` may have reached further.
    pub fragment_protocol: u8,
    /// What it was carried in; without [`Options::decapsulate`] left as it was.
    pub tunnel: Tunnel,
}

/// How far the parser looks into a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Of a packet in a tunnel, read the inner one, if that can be metered.
    pub decapsulate: bool,
    /// The frame is a super-packet: its segments have the headers inside a tunnel, too.
    pub super_packet: bool,
}

/// A packet's place among the fragments of its datagram.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FragmentRole {
    /// Not fragmented.
    #[default]
    Whole = 0,
    /// The first fragment: it has the ports.
    First = 1,
    /// A later fragment: it has the identification only.
    Later = 2,
}

/// What all fragments of one datagram share (RFC 791 section 3.2, RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Source address.
    pub src: Address,
    /// Destination address.
    pub dst: Address,
    /// Identification: 16 bits for IPv4, 32 for IPv6.
    pub id: u32,
    /// [`Tunnel::mark`]: tunnels may use the same addresses for different hosts.
    pub tunnel: u32,
    /// Outer VLAN id.
    pub vlan_id: u16,
    /// Next VLAN id.
    pub inner_vlan_id: u16,
    /// The agent's number for the interface.
    pub interface: u16,
    /// IPv4 protocol, or the next header in the IPv6 fragment header.
    pub protocol: u8,
    /// The hook's direction.
    pub direction: u8,
}

/// What later fragments take from the first: the end of its key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentPorts {
    /// When the first fragment passed: ns in the caller's clock.
    pub time: u64,
    /// Source port.
    pub src_port: u16,
    /// Destination port, or ICMP type and code.
    pub dst_port: u16,
    /// The protocol that the first fragment reached.
    pub protocol: u8,
    /// Pads to the alignment.
    pub reserved: [u8; 3],
}

impl FragmentPorts {
    /// How long a later fragment may follow its first, in ns (RFC 8200 section 4.5: 60 s;
    /// half of that is IPv4 practice and frees identifications sooner).
    pub const LIFETIME_NS: u64 = 30_000_000_000;
}

impl Packet {
    /// The key that ties this fragment to the others of its datagram.
    #[inline(always)]
    pub fn fragment_key(&self) -> FragmentKey {
        FragmentKey {
            src: self.key.src,
            dst: self.key.dst,
            id: self.fragment_id,
            tunnel: self.tunnel.mark(),
            vlan_id: self.key.vlan_id,
            inner_vlan_id: self.key.inner_vlan_id,
            interface: self.key.interface,
            protocol: self.fragment_protocol,
            direction: self.key.direction,
        }
    }

    /// What a first fragment leaves for the later ones.
    #[inline(always)]
    pub fn fragment_ports(&self, time: u64) -> FragmentPorts {
        FragmentPorts {
            time,
            src_port: self.key.src_port,
            dst_port: self.key.dst_port,
            protocol: self.key.protocol,
            reserved: [0; 3],
        }
    }

    /// True for IPv4, false for IPv6.
    #[inline(always)]
    pub const fn is_ipv4(&self) -> bool {
        self.ip_word >> 28 == 4
    }

    /// Differentiated services code point (RFC 2474).
    #[inline(always)]
    pub const fn dscp(&self) -> u8 {
        let traffic_class = if self.is_ipv4() { self.ip_word >> 16 } else { self.ip_word >> 20 };
        (traffic_class >> 2) as u8 & 0x3f
    }

    /// Makes a later fragment part of its first fragment's flow.
    #[inline(always)]
    pub fn adopt(&mut self, ports: &FragmentPorts) {
        self.key.src_port = ports.src_port;
        self.key.dst_port = ports.dst_port;
        self.key.protocol = ports.protocol;
    }

    /// Packets and IP octets on the wire, when the frame is a super-packet of
    /// `segments` segments (0: not told) of `segment_size` payload octets
    /// (0: not a super-packet) that share this packet's headers.
    #[inline(always)]
    pub fn on_the_wire(&self, segment_size: u32, segments: u32) -> (u64, u64) {
        let octets = u64::from(self.octets);
        let headers = u64::from(self.header_octets);
        if segment_size == 0 || octets <= headers {
            return (1, octets);
        }
        let segments = if segments > 0 {
            u64::from(segments)
        } else {
            (octets - headers).div_ceil(u64::from(segment_size))
        };
        (segments, octets + (segments - 1) * headers)
    }
}

/// A power of two above every link header: 20 + 4 tags + 8 labels are 68 octets.
const MAX_LINK_OCTETS: usize = 128;

/// Reads one packet of a capture.
///
/// `wire_octets` is the length of the whole frame on the wire, which the capture
/// may have cut; `stripped_vlan` is a tag that was already taken out of the frame.
///
/// # Errors
/// As [`read`].
pub fn parse(
    octets: &[u8],
    link: Link,
    wire_octets: u32,
    stripped_vlan: Option<u16>,
    options: Options,
) -> Result<Packet, (NotMetered, u32)> {
    let mut packet = Packet::default();
    read(&Captured { octets, wire_octets }, link, stripped_vlan, options, &mut packet)?;
    Ok(packet)
}

/// Reads one packet into `packet`, whatever was in it before.
///
/// # Errors
/// The reason why the packet belongs to no flow, and its octets after the link header.
#[inline(always)]
pub fn read<F: Frame + ?Sized>(
    frame: &F,
    link: Link,
    stripped_vlan: Option<u16>,
    options: Options,
    packet: &mut Packet,
) -> Result<(), (NotMetered, u32)> {
    if read_usual(frame, link, stripped_vlan, options, packet) {
        return Ok(());
    }
    read_in_stages(frame, link, stripped_vlan, options, packet)
}

/// Reads a packet of the usual kind as [`read`] does; false for any other, and then `packet` is in
/// any state.
#[inline(always)]
pub fn read_usual<F: Frame + ?Sized>(
    frame: &F,
    link: Link,
    stripped_vlan: Option<u16>,
    options: Options,
    packet: &mut Packet,
) -> bool {
    link == Link::Ethernet && usual::read(frame, stripped_vlan, options, packet)
}

/// Reads any packet as [`read`] does.
///
/// # Errors
/// As [`read`].
#[inline(always)]
pub fn read_in_stages<F: Frame + ?Sized>(
    frame: &F,
    link: Link,
    stripped_vlan: Option<u16>,
    options: Options,
    packet: &mut Packet,
) -> Result<(), (NotMetered, u32)> {
    let after_link = |offset: usize| frame.wire_octets().saturating_sub(offset as u32);
    let mut payload = link::read(frame, link, stripped_vlan, &mut packet.key)
        .map_err(|(reason, offset)| (reason, after_link(offset)))?;
    // Without this the verifier would follow each way through the link headers to the end.
    payload.offset = frame.merge_paths(payload.offset, MAX_LINK_OCTETS);
    ip::read(frame, payload, options.super_packet, packet)
        .map_err(|reason| (reason, after_link(payload.offset)))?;
    if options.decapsulate {
        packet.tunnel = Tunnel::default();
    } else if !options.super_packet {
        return Ok(());
    }
    let Some(inner) = tunnel::find(frame, payload.offset, packet) else { return Ok(()) };
    if !options.decapsulate {
        if let Some(end) = inner.end_of_headers(frame) {
            packet.header_octets = (end - payload.offset) as u16;
        }
        return Ok(());
    }
    inner.read(frame, packet).map_err(|reason| (reason, inner.octets()))
}
