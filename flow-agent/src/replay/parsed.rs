//! Parsing a block: packets enter, and leave as [`Metered`] ones, sorted by the lane of their flow.
//!
//! Blocks are parsed by any thread and in any order. It holds that a lane's packets stay in the
//! order of the capture, and that both directions of a flow are in one lane.

use std::sync::Arc;

use flow_common::frame::Captured;
use flow_common::parse::{FragmentRole, read};
use flow_common::{
    Count, Direction, FlowKey, FragmentKey, FragmentPorts, Link, NotMetered, Options, Packet,
    Tunnel,
};

use super::capture::Block;
use super::fragments::Fragments;
use super::metered::Metered;
use crate::cache::{FlowHasher, prefetch};

/// Flows are expired each time the capture's clock has moved this far.
const EXPIRY_STEP_NS: u64 = 500_000_000;

/// Packets between the fetch of a frame and its parsing.
const AHEAD: usize = 6;

/// What was found in a block; its memory is used again.
#[derive(Default)]
pub struct Parsed {
    /// The numbers and links of the capture's interfaces, by their index in it.
    pub links: Arc<Vec<(u16, Link)>>,
    /// Names of the interfaces that are known by then; a number is the position plus one.
    pub interfaces: Arc<Vec<Arc<str>>>,
    /// Octets of the file read by then.
    pub octets_read: u64,
    /// By lane, the packets of its flows, but for fragments until these are tied.
    pub lanes: Vec<Vec<Metered>>,
    /// When flows are to be looked at for whether they are over.
    pub expiries: Vec<Expiry>,
    /// Of all metered packets, ns.
    times: Vec<u64>,
    /// Tunnels of packets, taken off.
    pub tunnels: Vec<Tunnel>,
    /// What was counted, by interface number minus one.
    pub counts: Vec<Counts>,
    fragments: Vec<Fragment>,
}

/// When the capture's clock had moved on.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// Before this metered packet of its block.
    pub position: u32,
    /// The capture's clock then, ns.
    pub now_ns: u64,
}

/// A packet that is a part of a datagram.
struct Fragment {
    packet: Metered,
    /// As it was sent; of a later one, still without ports.
    key: FlowKey,
    datagram: FragmentKey,
    /// What it tells the others, if it is the first.
    ports: Option<FragmentPorts>,
}

/// The books of one interface.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// All packets.
    pub seen: Count,
    /// Those that belong to a flow.
    pub metered: Count,
    /// Those that do not, by reason.
    pub not_metered: [Count; NotMetered::COUNT],
}

impl Counts {
    /// Adds those of another block.
    pub fn merge(&mut self, other: &Self) {
        let sums = self.not_metered.iter_mut().zip(&other.not_metered);
        let all = sums.chain([(&mut self.seen, &other.seen), (&mut self.metered, &other.metered)]);
        for (sum, more) in all {
            sum.add(more.packets, more.octets);
        }
    }
}

/// What is the same for all blocks.
#[derive(Clone)]
pub struct Parser {
    /// How far packets are looked into.
    pub options: Options,
    /// The hash of flows in all lanes.
    pub hasher: FlowHasher,
    /// How many lanes, a power of two.
    pub lanes: usize,
}

impl Parser {
    /// The lane of a flow with this hash: by the lowest bits, since an index goes by the highest.
    #[inline(always)]
    fn lane(&self, hash: u32) -> usize {
        hash as usize & (self.lanes - 1)
    }
}

impl Parsed {
    /// Parses the packets of a block that was read.
    pub fn parse(&mut self, block: &Block, parser: &Parser) {
        let Self { links, lanes, times, tunnels, counts, fragments, expiries, .. } = self;
        expiries.clear();
        lanes.resize_with(parser.lanes, Vec::new);
        lanes.iter_mut().for_each(Vec::clear);
        times.clear();
        tunnels.clear();
        fragments.clear();
        counts.clear();
        let numbers = links.iter().map(|(number, _)| usize::from(*number)).max();
        counts.resize(numbers.unwrap_or_default(), Counts::default());
        let mut parsed = Packet::default();
        for (at, packet) in block.packets().enumerate() {
            block.prefetch(at + AHEAD);
            let (number, link) = links[packet.interface as usize];
            let counts = &mut counts[usize::from(number) - 1];
            let frame = Captured { octets: packet.data, wire_octets: packet.wire_octets };
            match read(&frame, link, None, parser.options, &mut parsed) {
                Ok(()) => {
                    parsed.key.observe(number, Direction::Unknown as u8);
                    let octets = u64::from(parsed.octets);
                    counts.seen.add(1, octets);
                    counts.metered.add(1, octets);
                    let mut metered = Metered::new(&parsed, packet.time_ns, times.len() as u32);
                    times.push(packet.time_ns);
                    if !parsed.tunnel.is_none() {
                        tunnels.push(parsed.tunnel);
                        metered.tunnel = tunnels.len() as u32;
                    }
                    if parsed.fragment == FragmentRole::Whole {
                        let tunnel = tunnels_of(tunnels, &metered);
                        metered.set_key(&parsed.key, tunnel, &parser.hasher);
                        let lane = &mut lanes[parser.lane(metered.hash)];
                        lane.push(metered);
                        prefetch_end(lane);
                    } else {
                        let first = parsed.fragment == FragmentRole::First;
                        fragments.push(Fragment {
                            packet: metered,
                            key: parsed.key,
                            datagram: parsed.fragment_key(),
                            ports: first.then(|| parsed.fragment_ports(packet.time_ns)),
                        });
                    }
                }
                Err((reason, octets)) => {
                    counts.seen.add(1, u64::from(octets));
                    counts.not_metered[reason as usize].add(1, u64::from(octets));
                }
            }
        }
    }

    /// Puts the fragments into the lanes of their flows; blocks come in the order of the capture.
    pub fn tie_fragments(&mut self, parser: &Parser, known: &mut Fragments) {
        for Fragment { mut packet, mut key, datagram, ports } in self.fragments.drain(..) {
            match ports {
                Some(ports) => known.remember(datagram, ports),
                None => known.complete(&datagram, &mut key, packet.time_ns),
            }
            packet.set_key(&key, tunnels_of(&self.tunnels, &packet), &parser.hasher);
            let lane = &mut self.lanes[parser.lane(packet.hash)];
            let at = lane.partition_point(|before| before.position < packet.position);
            lane.insert(at, packet);
        }
    }

    /// Notes where the capture's clock has moved so far since `expired_at_ns`, or back, that flows
    /// are to be expired; blocks come in the order of the capture.
    pub fn note_expiries(&mut self, expired_at_ns: &mut u64) {
        for (position, now_ns) in self.times.iter().enumerate() {
            // Back before it, the difference is huge.
            if now_ns.wrapping_sub(*expired_at_ns) >= EXPIRY_STEP_NS {
                *expired_at_ns = *now_ns;
                self.expiries.push(Expiry { position: position as u32, now_ns: *now_ns });
            }
        }
    }

    /// What a packet of this block came in.
    #[inline(always)]
    pub fn tunnel(&self, packet: &Metered) -> Option<&Tunnel> {
        tunnels_of(&self.tunnels, packet)
    }
}

#[inline(always)]
fn tunnels_of<'a>(tunnels: &'a [Tunnel], packet: &Metered) -> Option<&'a Tunnel> {
    if packet.tunnel == 0 { None } else { tunnels.get(packet.tunnel as usize - 1) }
}

/// Has the processor fetch where the next packet of a lane will be written, by both its ends.
#[inline(always)]
fn prefetch_end(lane: &mut Vec<Metered>) {
    for free in lane.spare_capacity_mut().iter().take(2) {
        prefetch(free);
    }
}
