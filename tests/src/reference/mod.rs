//! An independent reading of DESIGN's metering semantics: a capture file enters, totals per
//! direction and counts of what is not metered leave.
//!
//! What must hold: nothing here uses `flow-common`'s parser or `flow-agent`'s capture reader, so
//! that a mistake there shows as a difference. It favours plainness over speed: a capture is read
//! into memory as a whole.

mod capture;
mod fragments;
mod ip;
mod link;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

pub use capture::{Frame, NoCapture, read_frames};
pub use ip::{Fragment, Marks};

use fragments::Fragments;

/// One direction of a flow. IPv4-mapped addresses are plain IPv4, as in `jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Direction {
    /// Sender.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
    /// IP protocol, or the last next header reached.
    pub protocol: u8,
    /// Sender's port, or 0.
    pub src_port: u16,
    /// Receiver's port, or 0.
    pub dst_port: u16,
}

/// What went in a direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Packets.
    pub packets: u64,
    /// IP octets.
    pub octets: u64,
}

/// Why a packet is not metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// An ARP message.
    Arp,
    /// An LLDP message.
    Lldp,
    /// Another ethertype (or none) that is not IP.
    Other,
    /// The headers up to the flow's protocol are not all there.
    Truncated,
    /// An IP header that contradicts itself.
    Malformed,
    /// More headers than DESIGN names.
    Unsupported,
}

impl Reason {
    /// The key of the ledger's `packets_not_metered`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arp => "arp",
            Self::Lldp => "lldp",
            Self::Other => "other",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
        }
    }
}

/// What a capture holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets in the capture.
    pub seen: u64,
    /// The metered ones.
    pub directions: BTreeMap<Direction, Sum>,
    /// The others, by the ledger's names.
    pub not_metered: BTreeMap<&'static str, u64>,
    /// Later fragments whose first one was not seen.
    pub fragments_unmatched: u64,
    /// All later fragments.
    pub fragments_later: u64,
}

/// Why a capture has no totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The file is none.
    NoCapture(NoCapture),
    /// A packet has a link type that is not supported.
    LinkType(u16),
}

/// What one packet says of itself, without the packets before it.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Its direction; the ports of a later fragment are 0.
    pub direction: Direction,
    /// IP octets.
    pub octets: u64,
    /// VLAN ids, the outermost first.
    pub vlans: Vec<u16>,
    /// What is not in the key.
    pub marks: Marks,
    /// Its place in a fragmented datagram.
    pub fragment: Option<Fragment>,
}

/// Reads one frame of Ethernet: `wire` octets, of which `data` can be seen.
pub fn reading(data: &[u8], wire: usize) -> Result<Reading, Reason> {
    let frame = Frame { time_ns: 0, interface: 0, link: 1, wire, data: data.to_vec() };
    let network = link::strip(&frame).unwrap_or(Err(Reason::Other))?;
    let packet = ip::read(&network)?;
    Ok(Reading {
        direction: packet.direction,
        octets: packet.octets,
        vlans: network.vlans,
        marks: packet.marks,
        fragment: packet.fragment,
    })
}

/// The totals of the capture at `path`.
pub fn totals(path: &Path) -> Result<Totals, Refusal> {
    let frames = read_frames(path).map_err(Refusal::NoCapture)?;
    let mut totals = Totals::default();
    let mut fragments = Fragments::default();
    for frame in &frames {
        totals.seen += 1;
        let metered = link::strip(frame)
            .map_err(Refusal::LinkType)?
            .and_then(|network| ip::read(&network).map(|packet| (network.vlans, packet)));
        let (vlans, mut packet) = match metered {
            Ok(metered) => metered,
            Err(reason) => {
                *totals.not_metered.entry(reason.name()).or_default() += 1;
                continue;
            }
        };
        if let Some(fragment) = packet.fragment {
            totals.fragments_later += u64::from(!fragment.first);
            let found = fragments.direction(frame, &vlans, &packet.direction, fragment);
            totals.fragments_unmatched += u64::from(found.is_none());
            packet.direction = found.unwrap_or(packet.direction);
        }
        let sum = totals.directions.entry(packet.direction).or_default();
        sum.packets += 1;
        sum.octets += packet.octets;
    }
    Ok(totals)
}
