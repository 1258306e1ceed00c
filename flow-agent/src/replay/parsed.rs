//! Parsing a block: packets enter, and leave as [`Metered`] ones, sorted by the lane of their flow.
//!
//! Blocks are parsed by any thread and in any order. It holds that a lane's packets stay in the
//! order of the capture, and that both directions of a flow are in one lane.

use std::sync::Arc;

use flow_common::frame::Captured;
use flow_common::parse::{FragmentRole, read_in_stages, read_usual};
use flow_common::{
    Count, Direction, FlowKey, FragmentKey, FragmentPorts, Link, NotMetered, Options, Packet,
    Tunnel,
};

use super::capture::Block;
use super::fragments::Fragments;
use super::metered::Metered;
use crate::cache::{FlowHasher, prefetch};

/// Flows are expired whenever the capture's clock is in another of these steps than before.
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
    /// Metered packets.
    metered: u32,
    /// When the step of the capture's clock began that the last metered packet is in, ns.
    step_ns: u64,
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

/// The books of one interface: all its packets.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Those that belong to a flow.
    pub metered: Count,
    /// Those that do not, by reason.
    pub not_metered: [Count; NotMetered::COUNT],
}

impl Counts {
    /// Adds those of another block.
    pub fn merge(&mut self, other: &Self) {
        let sums = self.not_metered.iter_mut().zip(&other.not_metered);
        for (sum, more) in sums.chain([(&mut self.metered, &other.metered)]) {
            sum.merge(*more);
        }
    }

    /// All packets.
    pub fn seen(&self) -> Count {
        let mut sum = self.metered;
        self.not_metered.iter().for_each(|count| sum.merge(*count));
        sum
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
        self.clear(parser.lanes);
        for run in block.runs() {
            let (number, link) = self.links[run.interface as usize];
            let interface = usize::from(number) - 1;
            let mut counts = std::mem::take(&mut self.counts[interface]);
            for (at, packet) in run.packets.enumerate() {
                block.prefetch(run.first + at + AHEAD);
                let frame = Captured { octets: packet.data, wire_octets: packet.wire_octets };
                // Its parts stay in registers, since nobody else is told where it is.
                let mut usual = Packet::default();
                if read_usual(&frame, link, None, parser.options, &mut usual) {
                    usual.key.observe(number, Direction::Unknown as u8);
                    counts.metered.add(1, u64::from(usual.octets));
                    let metered = self.next(&usual, packet.time_ns);
                    self.add_whole(metered, &usual.key, parser);
                } else {
                    self.add_any(&frame, (number, link), packet.time_ns, parser, &mut counts);
                }
            }
            self.counts[interface] = counts;
        }
    }

    fn clear(&mut self, lanes: usize) {
        self.expiries.clear();
        self.lanes.resize_with(lanes, Vec::new);
        self.lanes.iter_mut().for_each(Vec::clear);
        (self.metered, self.step_ns) = (0, u64::MAX);
        self.tunnels.clear();
        self.fragments.clear();
        self.counts.clear();
        let numbers = self.links.iter().map(|(number, _)| usize::from(*number)).max();
        self.counts.resize(numbers.unwrap_or_default(), Counts::default());
    }

    /// The next metered packet, still without its key.
    #[inline(always)]
    fn next(&mut self, packet: &Packet, time_ns: u64) -> Metered {
        let position = self.metered;
        self.metered += 1;
        // Back before it, the difference is huge.
        if time_ns.wrapping_sub(self.step_ns) >= EXPIRY_STEP_NS {
            self.step_ns = time_ns - time_ns % EXPIRY_STEP_NS;
            self.expiries.push(Expiry { position, now_ns: time_ns });
        }
        Metered::new(packet, time_ns, position)
    }

    #[inline(always)]
    fn add_whole(&mut self, mut metered: Metered, key: &FlowKey, parser: &Parser) {
        metered.set_key(key, tunnels_of(&self.tunnels, &metered), &parser.hasher);
        let lane = &mut self.lanes[parser.lane(metered.hash)];
        lane.push(metered);
        prefetch_end(lane);
    }

    /// Any packet, which may be none to be metered.
    #[inline(never)]
    fn add_any(
        &mut self,
        frame: &Captured<'_>,
        (number, link): (u16, Link),
        time_ns: u64,
        parser: &Parser,
        counts: &mut Counts,
    ) {
        let mut parsed = Packet::default();
        if let Err((reason, octets)) =
            read_in_stages(frame, link, None, parser.options, &mut parsed)
        {
            counts.not_metered[reason as usize].add(1, u64::from(octets));
            return;
        }
        parsed.key.observe(number, Direction::Unknown as u8);
        counts.metered.add(1, u64::from(parsed.octets));
        let mut metered = self.next(&parsed, time_ns);
        if !parsed.tunnel.is_none() {
            self.tunnels.push(parsed.tunnel);
            metered.tunnel = self.tunnels.len() as u32;
        }
        if parsed.fragment == FragmentRole::Whole {
            self.add_whole(metered, &parsed.key, parser);
            return;
        }
        let first = parsed.fragment == FragmentRole::First;
        self.fragments.push(Fragment {
            packet: metered,
            key: parsed.key,
            datagram: parsed.fragment_key(),
            ports: first.then(|| parsed.fragment_ports(time_ns)),
        });
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

    /// Forgets the first expiry if the packet before, in the block before, was in the same step, of
    /// which `step_ns` is told; blocks come in the order of the capture.
    pub fn tie_expiries(&mut self, step_ns: &mut Option<u64>) {
        let Some(first) = self.expiries.first() else { return };
        if *step_ns == Some(first.now_ns - first.now_ns % EXPIRY_STEP_NS) {
            self.expiries.remove(0);
        }
        *step_ns = Some(self.step_ns);
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
