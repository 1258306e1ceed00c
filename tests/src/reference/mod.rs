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
mod tunnel;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

pub use capture::{Frame, NoCapture, read_frames};
pub use ip::{Fragment, Marks};
pub use tunnel::Tunnel;

use fragments::Fragments;
use ip::Packet;

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
    /// Those of the metered ones that came in a tunnel, when tunnels are opened.
    pub tunnelled: BTreeMap<(Tunnel, Direction), Sum>,
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
    /// What it came in, when tunnels are opened.
    pub tunnel: Option<Tunnel>,
    /// What is not in the key.
    pub marks: Marks,
    /// Its place in a fragmented datagram.
    pub fragment: Option<Fragment>,
}

/// Reads one frame of Ethernet: `wire` octets, of which `data` can be seen. With `decapsulate`,
/// what is in a tunnel.
pub fn reading(data: &[u8], wire: usize, decapsulate: bool) -> Result<Reading, Reason> {
    let frame = Frame { time_ns: 0, interface: 0, link: 1, wire, data: data.to_vec() };
    let network = link::strip(&frame).unwrap_or(Err(Reason::Other))?;
    let packet = ip::read(&network)?;
    let inside = decapsulate.then(|| tunnel::open(&frame, &network, &packet)).flatten();
    let (vlans, packet, tunnel) = match inside {
        Some(inside) => (inside.vlans, inside.packet, Some(inside.tunnel)),
        None => (network.vlans, packet, None),
    };
    let Packet { direction, octets, fragment, marks } = packet;
    Ok(Reading { direction, octets, vlans, tunnel, marks, fragment })
}

/// The totals of the capture at `path`; with `decapsulate`, of what is in tunnels.
pub fn totals(path: &Path, decapsulate: bool) -> Result<Totals, Refusal> {
    let frames = read_frames(path).map_err(Refusal::NoCapture)?;
    let mut totals = Totals::default();
    let mut fragments = Fragments::default();
    for frame in &frames {
        totals.seen += 1;
        let metered = link::strip(frame)
            .map_err(Refusal::LinkType)?
            .and_then(|network| ip::read(&network).map(|packet| (network, packet)));
        let (network, mut packet) = match metered {
            Ok(metered) => metered,
            Err(reason) => {
                *totals.not_metered.entry(reason.name()).or_default() += 1;
                continue;
            }
        };
        let inside = decapsulate.then(|| tunnel::open(frame, &network, &packet)).flatten();
        let (mut vlans, mut tunnel) = (network.vlans, None);
        if let Some(inside) = inside {
            (vlans, packet, tunnel) = (inside.vlans, inside.packet, Some(inside.tunnel));
        }
        if let Some(fragment) = packet.fragment {
            totals.fragments_later += u64::from(!fragment.first);
            let found = fragments.direction(frame, &vlans, tunnel, &packet.direction, fragment);
            totals.fragments_unmatched += u64::from(found.is_none());
            packet.direction = found.unwrap_or(packet.direction);
        }
        let tunnelled = tunnel.map(|tunnel| (tunnel, packet.direction));
        let tunnelled = tunnelled.map(|key| totals.tunnelled.entry(key).or_default());
        for sum in
            tunnelled.into_iter().chain([totals.directions.entry(packet.direction).or_default()])
        {
            sum.packets += 1;
            sum.octets += packet.octets;
        }
    }
    Ok(totals)
}
