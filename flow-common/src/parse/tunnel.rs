//! Tunnels: from an outer IP packet to the one it carries.
//!
//! Enters: the outer packet, read. Leaves: where the inner one is and what tunnel carries it, or
//! nothing, when the outer one is a fragment or carries nothing that can be metered: then it counts
//! itself, so that each packet counts once. One tunnel is entered, not the next one in it.

use super::link::Payload;
use super::{FragmentRole, Packet, ip, link};
use crate::key::protocol;
use crate::{FlowKey, Frame, NotMetered, Tunnel, TunnelKind};

const VXLAN_PORT: u16 = 4789; // RFC 7348 section 8
const VXLAN_PORT_LINUX: u16 = 8472; // the kernel's default, older than the RFC
const GENEVE_PORT: u16 = 6081; // RFC 8926 section 3.3
const GTP_U_PORT: u16 = 2152; // 3GPP TS 29.281 section 4.4.2

/// Ethernet in GRE and GENEVE (RFC 7637 section 3.2, RFC 8926 section 3.4).
const ETHERNET: u16 = 0x6558;

/// What a tunnel header says of what follows.
#[derive(Clone, Copy)]
enum Carries {
    /// IP; the version nibble tells which.
    Ip = 0,
    Ipv4 = 1,
    Ipv6 = 2,
    Ethernet = 3,
}

/// What a tunnel carries begins before this offset in the frame, or is not looked for: a power
/// of two that leaves room for all headers behind it.
const MAX_TUNNEL_OCTETS: usize = 1 << 13;
/// And so the inner IP header before this one.
const MAX_INNER_OCTETS: usize = 1 << 14;

const MAX_GTP_U_EXTENSIONS: usize = 4;
const MAX_SEGMENTED_EXTENSIONS: usize = 4;

/// A tunnel header that was read.
struct Header {
    kind: TunnelKind,
    id: u32,
    /// Where it ends.
    offset: usize,
    carries: Carries,
}

/// The packet in a tunnel: there, whole enough to be metered, and not read yet.
#[derive(Clone, Copy)]
pub(super) struct Inner {
    /// Where its IP header is.
    offset: usize,
    /// Where the outer packet ends: behind that, Ethernet pads.
    end: usize,
    /// The first and the second.
    vlan_ids: [u16; 2],
    /// A [`TunnelKind`].
    kind: u32,
    id: u32,
}

impl Inner {
    /// Octets on the wire from its IP header.
    #[inline(always)]
    pub const fn octets(&self) -> u32 {
        (self.end - self.offset) as u32
    }

    /// Reads it into `packet`, which is the outer one.
    #[inline(always)]
    pub fn read<F: Frame + ?Sized>(
        &self,
        frame: &F,
        packet: &mut Packet,
    ) -> Result<(), NotMetered> {
        packet.tunnel =
            Tunnel { kind: self.kind, id: self.id, src: packet.key.src, dst: packet.key.dst };
        [packet.key.vlan_id, packet.key.inner_vlan_id] = self.vlan_ids;
        // The version was checked; so the verifier need not follow three ways through what comes.
        let payload = Payload { offset: self.offset, version: 0 };
        ip::read(&Part { frame, end: self.end }, payload, false, packet)
    }

    /// Where the headers of a super-packet's inner packet end: all its segments get them.
    #[inline(always)]
    pub fn end_of_headers<F: Frame + ?Sized>(&self, frame: &F) -> Option<usize> {
        let mut offset = self.offset;
        let [first, second, third] = frame.words(offset)?.map(u32::from_be);
        let mut next;
        if first >> 28 == 4 {
            next = third >> 16 & 0xff;
            offset += (first >> 24 & 0x0f) as usize * 4;
        } else {
            next = second >> 8 & 0xff;
            offset += 40;
            // Only those that leave a packet segmentable (net/ipv6/ip6_offload.c, `ipv6_gso_pull_exthdrs`).
            for _ in 0..MAX_SEGMENTED_EXTENSIONS {
                if !matches!(
                    next as u8,
                    protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS
                ) {
                    break;
                }
                let header = frame.u16(offset)?;
                next = u32::from(header >> 8);
                offset = frame.merge_paths(
                    offset + (usize::from(header & 0xff) + 1) * 8,
                    ip::MAX_HEADER_OCTETS,
                );
            }
        }
        offset += match next as u8 {
            protocol::TCP => usize::from(frame.u16(offset + 12)? >> 12) * 4,
            protocol::UDP => 8,
            _ => return None,
        };
        Some(offset)
    }
}

/// A frame that ends where the outer IP packet does.
struct Part<'a, F: ?Sized> {
    frame: &'a F,
    end: usize,
}

impl<F: Frame + ?Sized> Frame for Part<'_, F> {
    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        self.frame.words(offset)
    }

    #[inline(always)]
    fn wire_octets(&self) -> u32 {
        self.end as u32
    }

    #[inline(always)]
    fn captured_octets(&self) -> usize {
        // Which of them were captured, each read finds out.
        self.end
    }

    #[inline(always)]
    fn u16(&self, offset: usize) -> Option<u16> {
        self.frame.u16(offset)
    }

    #[inline(always)]
    fn merge_paths(&self, offset: usize, limit: usize) -> usize {
        self.frame.merge_paths(offset, limit)
    }
}

/// What the tunnel `packet` carries, if it is one; its IP header is at `offset`.
#[inline(always)]
pub(super) fn find<F: Frame + ?Sized>(frame: &F, offset: usize, packet: &Packet) -> Option<Inner> {
    let FragmentRole::Whole = packet.fragment else { return None };
    let end = offset + packet.octets as usize;
    let header_at = offset + usize::from(packet.header_octets);
    if header_at >= MAX_TUNNEL_OCTETS {
        return None;
    }
    // All ways through the outer headers meet here.
    let header_at = frame.merge_paths(header_at, MAX_TUNNEL_OCTETS);
    let header = header(frame, header_at, packet.key.protocol, packet.key.dst_port)?;
    if header.offset >= MAX_TUNNEL_OCTETS {
        return None;
    }
    // And those through the tunnel headers here.
    let inner_at = frame.merge_paths(header.offset, MAX_TUNNEL_OCTETS);
    let said = frame.merge_paths((header.kind as usize) << 2 | header.carries as usize, 1 << 5);
    let mut tags = FlowKey::default();
    let payload = payload(frame, inner_at, said & 3, &mut tags)?;
    let offset = frame.merge_paths(payload.offset, MAX_INNER_OCTETS);
    is_metered(frame, Payload { offset, ..payload }, end)?;
    Some(Inner {
        offset,
        end,
        vlan_ids: [tags.vlan_id, tags.inner_vlan_id],
        kind: (said >> 2) as u32,
        id: header.id,
    })
}

/// The tunnel header at `offset`, behind the headers of a packet with this protocol and port.
#[inline(always)]
fn header<F: Frame + ?Sized>(
    frame: &F,
    offset: usize,
    protocol: u8,
    dst_port: u16,
) -> Option<Header> {
    let ip_in_ip = |carries| Some(Header { kind: TunnelKind::IpIp, id: 0, offset, carries });
    match protocol {
        protocol::UDP => match dst_port {
            VXLAN_PORT | VXLAN_PORT_LINUX => vxlan(frame, offset),
            GENEVE_PORT => geneve(frame, offset),
            GTP_U_PORT => gtp_u(frame, offset),
            _ => None,
        },
        protocol::GRE => gre(frame, offset),
        protocol::IPV4 => ip_in_ip(Carries::Ipv4),
        protocol::IPV6 => ip_in_ip(Carries::Ipv6),
        _ => None,
    }
}

/// Where the IP header is in what begins at `offset`; `carries` is a [`Carries`]. VLAN ids are
/// left in `tags`.
#[inline(always)]
fn payload<F: Frame + ?Sized>(
    frame: &F,
    offset: usize,
    carries: usize,
    tags: &mut FlowKey,
) -> Option<Payload> {
    if carries == Carries::Ethernet as usize {
        let ethertype = frame.u16(offset + 12)?;
        return link::tagged(frame, offset + 14, ethertype, None, tags).ok();
    }
    let version = match carries {
        1 => 4,
        2 => 6,
        _ => 0,
    };
    Some(Payload { offset, version })
}

/// `None` for what `ip::read` would refuse, or what does not lie before `end`. Asked before that
/// is called, because it overwrites the outer packet.
#[inline(always)]
fn is_metered<F: Frame + ?Sized>(frame: &F, payload: Payload, end: usize) -> Option<()> {
    let first = frame.u32(payload.offset)?;
    let version = (first >> 28) as u8;
    if payload.version != 0 && payload.version != version {
        return None;
    }
    let header_octets = match version {
        4 => {
            let header_octets = (first >> 24 & 0x0f) * 4;
            let total = first & 0xffff;
            if header_octets < 20 || total != 0 && total < header_octets {
                return None;
            }
            header_octets
        }
        6 => 40,
        _ => return None,
    };
    let header_end = payload.offset + header_octets as usize;
    // The whole header must have been captured.
    frame.u16(frame.merge_paths(header_end - 2, ip::MAX_HEADER_OCTETS))?;
    (header_end <= end).then_some(())
}

/// RFC 7348 section 5.
#[inline(always)]
fn vxlan<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<Header> {
    let [flags, id] = frame.words(offset)?.map(u32::from_be);
    if flags & 0x0800_0000 == 0 {
        return None;
    }
    Some(Header {
        kind: TunnelKind::Vxlan,
        id: id >> 8,
        offset: offset + 8,
        carries: Carries::Ethernet,
    })
}

/// RFC 8926 section 3.4: version, length of the options in words, flags, what follows; the VNI.
#[inline(always)]
fn geneve<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<Header> {
    let [first, id] = frame.words(offset)?.map(u32::from_be);
    if first >> 30 != 0 {
        return None;
    }
    let options = (first >> 24 & 0x3f) as usize * 4;
    Some(Header {
        kind: TunnelKind::Geneve,
        id: id >> 8,
        offset: offset + 8 + options,
        carries: carries(first as u16)?,
    })
}

/// RFC 2784 section 2 and RFC 2890 section 2: checksum, key and sequence number are there if
/// their flags say so. Source routes (RFC 1701) and other versions (PPTP) are not entered.
#[inline(always)]
fn gre<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<Header> {
    let first = frame.u32(offset)?;
    let flags = (first >> 16) as u16;
    if flags & 0x4007 != 0 {
        return None;
    }
    let mut end = offset + 4;
    if flags & 0x8000 != 0 {
        end += 4;
    }
    let mut id = 0;
    if flags & 0x2000 != 0 {
        id = frame.u32(end)?;
        end += 4;
    }
    if flags & 0x1000 != 0 {
        end += 4;
    }
    Some(Header { kind: TunnelKind::Gre, id, offset: end, carries: carries(first as u16)? })
}

/// 3GPP TS 29.281 section 5: flags, message type, length; the TEID; four more octets if one of
/// three flags is set, of which the last is the type of the first extension header.
#[inline(always)]
fn gtp_u<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<Header> {
    const EXTENDED: u32 = 0x0400_0000;
    let [first, id] = frame.words(offset)?.map(u32::from_be);
    // Version 1, not GTP', a user packet.
    if first & 0xf0ff_0000 != 0x30ff_0000 {
        return None;
    }
    let mut end = offset + 8;
    if first & 0x0700_0000 != 0 {
        let mut next = frame.u32(end)? & 0xff;
        end += 4;
        if first & EXTENDED != 0 {
            for _ in 0..MAX_GTP_U_EXTENSIONS {
                if next == 0 {
                    break;
                }
                // Its length in words, content, the type of the next one.
                let octets = usize::from(frame.u16(end)? >> 8) * 4;
                if octets == 0 {
                    return None;
                }
                // The verifier follows no offset that is calculated back from an end.
                let last = frame.merge_paths(end + octets - 2, MAX_INNER_OCTETS);
                next = u32::from(frame.u16(last)?) & 0xff;
                end = last + 2;
            }
            if next != 0 {
                return None;
            }
        }
    }
    Some(Header { kind: TunnelKind::GtpU, id, offset: end, carries: Carries::Ip })
}

/// What an ethertype announces, if it is entered.
#[inline(always)]
const fn carries(ethertype: u16) -> Option<Carries> {
    match ethertype {
        link::IPV4 => Some(Carries::Ipv4),
        link::IPV6 => Some(Carries::Ipv6),
        ETHERNET => Some(Carries::Ethernet),
        _ => None,
    }
}
