//! Link headers: from the first octet of the frame to the IP header.

use crate::{FlowKey, Frame, NotMetered};

/// What the first octets of a frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Ethernet II (IEEE 802.3 clause 3).
    Ethernet,
    /// The IP header itself, version by nibble (`LINKTYPE_RAW`, tunnels).
    RawIp,
    /// Linux cooked capture v1 (`LINKTYPE_LINUX_SLL`).
    LinuxSll,
    /// Linux cooked capture v2 (`LINKTYPE_LINUX_SLL2`).
    LinuxSll2,
    /// BSD loopback: four octets of address family in either byte order (`LINKTYPE_NULL`, `LINKTYPE_LOOP`).
    BsdLoopback,
}

/// Where the IP header is.
#[derive(Clone, Copy)]
pub(super) struct Payload {
    /// Offset of the IP header.
    pub offset: usize,
    /// 4, 6, or 0 where only the version nibble can tell.
    pub version: u8,
}

const MAX_VLAN_TAGS: usize = 4;
const MAX_MPLS_LABELS: usize = 8;

pub(super) const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
pub(super) const VLAN: u16 = 0x8100; // IEEE 802.1Q
const QINQ_OLD: u16 = 0x9100;
const QINQ: u16 = 0x88a8; // IEEE 802.1ad
pub(super) const IPV6: u16 = 0x86dd;
const MPLS: u16 = 0x8847; // RFC 3032
const MPLS_MULTICAST: u16 = 0x8848;
const PPPOE_SESSION: u16 = 0x8864; // RFC 2516
const LLDP: u16 = 0x88cc;

/// Finds the IP header and leaves the VLAN ids in `key`; an error carries the
/// octets of link header read so far.
#[inline(always)]
pub(super) fn read<F: Frame + ?Sized>(
    frame: &F,
    link: Link,
    stripped_vlan: Option<u16>,
    key: &mut FlowKey,
) -> Result<Payload, (NotMetered, usize)> {
    key.vlan_id = 0;
    key.inner_vlan_id = 0;
    let truncated = (NotMetered::Truncated, 0);
    let (offset, ethertype) = match link {
        Link::Ethernet => (14, frame.u16(12).ok_or(truncated)?),
        Link::LinuxSll => (16, frame.u16(14).ok_or(truncated)?),
        Link::LinuxSll2 => {
            let _packet_type = frame.u16(18).ok_or(truncated)?;
            (20, frame.u16(0).ok_or(truncated)?)
        }
        Link::RawIp => return Ok(Payload { offset: 0, version: 0 }),
        Link::BsdLoopback => {
            // The family is in the byte order of the capturing host; all that are
            // used fit in one octet. Values: AF_INET, AF_INET6 of the BSDs,
            // macOS, Linux and Windows (Npcap's loopback adapter).
            let family = frame.u32(0).ok_or(truncated)?;
            let family = if family > 0xffff { family.swap_bytes() } else { family };
            return match family {
                2 => Ok(Payload { offset: 4, version: 4 }),
                10 | 23 | 24 | 28 | 30 => Ok(Payload { offset: 4, version: 6 }),
                _ => Err((NotMetered::Other, 4)),
            };
        }
    };
    tagged(frame, offset, ethertype, stripped_vlan, key)
}

/// Passes VLAN tags, then whatever carries IP below them.
#[inline(always)]
pub(super) fn tagged<F: Frame + ?Sized>(
    frame: &F,
    mut offset: usize,
    mut ethertype: u16,
    stripped_vlan: Option<u16>,
    key: &mut FlowKey,
) -> Result<Payload, (NotMetered, usize)> {
    let mut tags = 0;
    if let Some(id) = stripped_vlan {
        key.vlan_id = id;
        tags = 1;
    }
    for _ in 0..=MAX_VLAN_TAGS {
        if !matches!(ethertype, VLAN | QINQ | QINQ_OLD) {
            break;
        }
        if tags == MAX_VLAN_TAGS {
            return Err((NotMetered::Unsupported, offset));
        }
        let tag = frame.u32(offset).ok_or((NotMetered::Truncated, offset))?;
        let id = (tag >> 16) as u16 & 0x0fff;
        if tags == 0 {
            key.vlan_id = id;
        } else if tags == 1 {
            key.inner_vlan_id = id;
        }
        tags += 1;
        ethertype = tag as u16;
        offset += 4;
    }
    match ethertype {
        IPV4 => Ok(Payload { offset, version: 4 }),
        IPV6 => Ok(Payload { offset, version: 6 }),
        MPLS | MPLS_MULTICAST => Ok(Payload { offset: mpls(frame, offset)?, version: 0 }),
        PPPOE_SESSION => pppoe(frame, offset),
        ARP => Err((NotMetered::Arp, offset)),
        LLDP => Err((NotMetered::Lldp, offset)),
        _ => Err((NotMetered::Other, offset)),
    }
}

/// Passes a label stack (RFC 3032 section 2.1); what follows is IP if its first nibble says so.
#[inline(always)]
fn mpls<F: Frame + ?Sized>(frame: &F, mut offset: usize) -> Result<usize, (NotMetered, usize)> {
    for _ in 0..MAX_MPLS_LABELS {
        let label = frame.u32(offset).ok_or((NotMetered::Truncated, offset))?;
        offset += 4;
        if label & 0x100 != 0 {
            let first = frame.u16(offset).ok_or((NotMetered::Truncated, offset))?;
            return match first >> 12 {
                4 | 6 => Ok(offset),
                _ => Err((NotMetered::Other, offset)),
            };
        }
    }
    Err((NotMetered::Unsupported, offset))
}

/// Passes a PPPoE session header (RFC 2516 section 4) and the PPP protocol (RFC 1661 section 2).
#[inline(always)]
fn pppoe<F: Frame + ?Sized>(frame: &F, offset: usize) -> Result<Payload, (NotMetered, usize)> {
    match frame.u16(offset + 6).ok_or((NotMetered::Truncated, offset))? {
        0x0021 => Ok(Payload { offset: offset + 8, version: 4 }),
        0x0057 => Ok(Payload { offset: offset + 8, version: 6 }),
        _ => Err((NotMetered::Other, offset + 8)),
    }
}
