//! The flow table of one CPU: finds or makes the way of a packet's flow.

use core::mem::offset_of;

use flow_common::hash::{flow_hash, tunnel_hash};
use flow_common::key::protocol;
use flow_common::table::{
    Entry, Head, HotLine, InterfaceEntry, Region, Set, TcpLine, TcpSet, TunnelSet, WAYS,
};
use flow_common::tcp::Segment;
use flow_common::tcp::flags::{ACK, SYN};
use flow_common::{Overflow, Packet, Tunnel};

use crate::{maps, meter};

/// Adds a packet to its flow. When another flow had to leave for it, says how
/// many have left this region so far.
#[inline(always)]
pub fn update(
    region: u32,
    packet: &Packet,
    packets: u64,
    octets: u64,
    decapsulate: bool,
) -> Option<u64> {
    let ipv4 = packet.is_ipv4();
    let mut hash = flow_hash(&packet.key, ipv4, maps::hash_key);
    if decapsulate {
        hash ^= tunnel_hash(&packet.tunnel, maps::hash_key);
    }
    let sets = maps::sets_per_region();
    let index = hash as u32 & (sets - 1);
    let mut place = Place::new(region * sets + index, decapsulate)?;
    // Nearly all flows have one of the two ways that their hash prefers, which are neighbours
    // in memory: of most, one line is touched.
    let first = (hash >> 32) as usize & (WAYS - 1);
    if place.holds(first, packet, ipv4) {
        add(&mut place, first, packet, packets, octets);
        return None;
    }
    let second = first ^ 1;
    if place.holds(second, packet, ipv4) {
        add(&mut place, second, packet, packets, octets);
        return None;
    }
    let head = head(place.index)?;
    let tag = (hash >> 48) as u16 | 1; // 0 marks a free way
    let free = if place.set[first].packets == 0 {
        Some(first)
    } else if place.set[second].packets == 0 {
        Some(second)
    } else {
        for way in 0..WAYS {
            if head.tags[way] == tag && place.holds(way, packet, ipv4) {
                add(&mut place, way, packet, packets, octets);
                return None;
            }
        }
        (0..WAYS).find(|way| head.tags[*way] == 0)
    };
    let (way, evicted) = match free {
        Some(way) => {
            open(region, index);
            (way, None)
        }
        None => {
            let way = smallest(place.set);
            (way, evict(region, &place, head, way))
        }
    };
    insert(&mut place, head, way, tag, packet, packets, octets);
    evicted
}

/// Where a packet's flow is, or will be.
struct Place {
    /// In all regions.
    index: u32,
    set: &'static mut Set,
    /// The tunnels of its flows, where tunnels are looked into.
    tunnels: Option<&'static mut TunnelSet>,
}

impl Place {
    #[inline(always)]
    fn new(index: u32, decapsulate: bool) -> Option<Self> {
        // SAFETY: this CPU alone writes the region (see `meter::counters`).
        let set = unsafe { &mut *maps::SETS.get_ptr_mut(index)? };
        let tunnels = if decapsulate {
            // SAFETY: as above.
            Some(unsafe { &mut *maps::TUNNELS.get_ptr_mut(index)? })
        } else {
            None
        };
        Some(Self { index, set, tunnels })
    }

    /// True when a way's flow is the packet's.
    #[inline(always)]
    fn holds(&self, way: usize, packet: &Packet, ipv4: bool) -> bool {
        let hot = &self.set[way];
        if !same(hot, packet, ipv4) || hot.packets == 0 {
            return false;
        }
        match &self.tunnels {
            Some(tunnels) => same_tunnel(&tunnels[way], &packet.tunnel),
            None => true,
        }
    }
}

/// The head of the set with this index in all regions.
#[inline(always)]
fn head(index: u32) -> Option<&'static mut Head> {
    // SAFETY: this CPU alone writes the region (see `meter::counters`).
    maps::HEADS.get_ptr_mut(index).map(|head| unsafe { &mut *head })
}

/// The TCP lines of the set with this index in all regions.
#[inline(always)]
fn tcp_set(index: u32) -> Option<&'static mut TcpSet> {
    // SAFETY: as above.
    maps::TCP.get_ptr_mut(index).map(|lines| unsafe { &mut *lines })
}

/// Compares by words of four octets.
#[inline(always)]
fn same_tunnel(a: &Tunnel, b: &Tunnel) -> bool {
    let (a, b) = ((&raw const *a).cast::<u32>(), (&raw const *b).cast::<u32>());
    let mut difference = 0;
    for word in 0..size_of::<Tunnel>() / 4 {
        // SAFETY: tunnels are whole words in map memory, without padding.
        difference |= unsafe { *a.add(word) ^ *b.add(word) };
    }
    difference == 0
}

/// True when the line has the packet's key. Addresses are compared in words of eight octets; of an
/// IPv4 packet most of both is known. The rest is compared in the words that the packet's key was
/// written in (see [`flow_common::FlowKey::observe`]).
#[inline(always)]
fn same(hot: &HotLine, packet: &Packet, ipv4: bool) -> bool {
    const { assert!(offset_of!(HotLine, key) == 16 && offset_of!(Packet, key) == 0) };
    let line: &[u64; 8] = bytemuck::must_cast_ref(hot);
    let [_, _, src_high, src_low, dst_high, dst_low, _, _] = line;
    let wide = (&raw const packet.key).cast::<u64>();
    // SAFETY: a packet is aligned to eight octets and begins with its key, which is integers.
    let word = |at: usize| unsafe { *wide.add(at) };
    let (words, others) = (packet.key.words(), hot.key.words());
    if words[8] != others[8] || words[10] != others[10] || words[9] != others[9] {
        return false;
    }
    if ipv4 {
        let mapped = |address: u32| u64::from(address) << 32 | MAPPED_PREFIX;
        *src_low == mapped(words[3])
            && *dst_low == mapped(words[7])
            && *src_high == 0
            && *dst_high == 0
    } else {
        *src_low == word(1) && *dst_low == word(3) && *src_high == word(0) && *dst_high == word(2)
    }
}

/// The third word of a mapped IPv4 address, as the lower half of eight octets.
const MAPPED_PREFIX: u64 = 0xffff_0000;

#[inline(always)]
fn add(place: &mut Place, way: usize, packet: &Packet, packets: u64, octets: u64) {
    let hot = &mut place.set[way];
    hot.octets += octets;
    hot.packets += packets as u32;
    hot.last_jiffies = maps::jiffies() as u32;
    if packet.ttl < hot.min_ttl {
        hot.min_ttl = packet.ttl;
    }
    if packet.ttl > hot.max_ttl {
        hot.max_ttl = packet.ttl;
    }
    // Later fragments have no flags.
    if packet.key.protocol == protocol::TCP && packet.tcp_flags != 0 {
        let before = hot.tcp_flags;
        hot.tcp_flags = before | packet.tcp_flags;
        tcp(place, way, before, packet, packets);
    }
}

/// What is kept of a TCP connection; `before` are the flags so far.
#[inline(always)]
fn tcp(place: &mut Place, way: usize, before: u8, packet: &Packet, packets: u64) {
    let flags = packet.tcp_flags;
    let Some(head) = head(place.index) else { return };
    let next = &mut head.next_seq[way];
    let segment = segment(packet);
    let repeats;
    (*next, repeats) = segment.follow(before, *next);
    // The end of a handshake: what came before it were SYNs.
    let acks = flags & (SYN | ACK) == ACK && before & ACK == 0;
    if flags & SYN == 0 && !acks && !repeats {
        return;
    }
    let Some(lines) = tcp_set(place.index) else { return };
    let line = &mut lines[way];
    if flags & SYN != 0 {
        if line.syn_ns == 0 {
            line.syn_ns = maps::boot_ns();
        }
        let count =
            if flags & ACK == 0 { &mut line.syn_packets } else { &mut line.syn_ack_packets };
        if *count < u16::MAX {
            *count += 1;
        }
    } else if acks {
        line.ack_ns = maps::boot_ns();
    }
    if repeats {
        line.retransmits += packets as u32;
    }
}

#[inline(always)]
fn segment(packet: &Packet) -> Segment {
    Segment { seq: packet.tcp_seq, payload: packet.payload_octets, flags: packet.tcp_flags }
}

#[inline(always)]
fn insert(
    place: &mut Place,
    head: &mut Head,
    way: usize,
    tag: u16,
    packet: &Packet,
    packets: u64,
    octets: u64,
) {
    let way = way & (WAYS - 1);
    let now = maps::boot_ns();
    if packet.key.protocol == protocol::TCP {
        let Some(lines) = tcp_set(place.index) else { return };
        let (syn, ack) = (packet.tcp_flags & SYN != 0, packet.tcp_flags & ACK != 0);
        let line = &mut lines[way];
        line.syn_ns = if syn { now } else { 0 };
        line.ack_ns = if ack && !syn { now } else { 0 };
        line.retransmits = 0;
        line.syn_packets = u16::from(syn && !ack);
        line.syn_ack_packets = u16::from(syn && ack);
        head.next_seq[way] = segment(packet).end();
    }
    head.tags[way] = tag;
    head.used |= 1 << way;
    head.first_ns[way] = now;
    let hot = &mut place.set[way];
    hot.octets = octets;
    hot.packets = packets as u32;
    hot.last_jiffies = maps::jiffies() as u32;
    words(&packet.key, &mut hot.key);
    hot.tcp_flags = packet.tcp_flags;
    hot.dscp = packet.dscp();
    hot.min_ttl = packet.ttl;
    hot.max_ttl = packet.ttl;
    if let Some(tunnels) = &mut place.tunnels {
        words(&packet.tunnel, &mut tunnels[way]);
    }
}

#[inline(always)]
fn region_entry(region: u32) -> Option<&'static mut Region> {
    // SAFETY: this CPU alone writes the region (see `meter::counters`).
    maps::REGIONS.get_ptr_mut(region).map(|entry| unsafe { &mut *entry })
}

/// Counts a way that is no longer free, and marks its set.
#[inline(always)]
fn open(region: u32, set: u32) {
    let Some(entry) = region_entry(region) else { return };
    entry.flows += 1;
    let words = maps::sets_per_region() / 64;
    if let Some(word) = maps::DIRTY.get_ptr_mut(region * words + set / 64) {
        // SAFETY: this CPU alone writes the region.
        unsafe { *word |= 1 << (set & 63) };
    }
}

/// The way of a full set that has the fewest packets.
#[inline(always)]
fn smallest(set: &Set) -> usize {
    let mut smallest = 0;
    let mut fewest = set[0].packets;
    for way in 1..WAYS {
        let packets = set[way].packets;
        if packets < fewest {
            fewest = packets;
            smallest = way;
        }
    }
    smallest
}

/// Puts a way's flow on the region's list of evicted flows, or among the overflow
/// counts when that is full.
#[inline(always)]
fn evict(region: u32, from: &Place, head: &Head, way: usize) -> Option<u64> {
    let way = way & (WAYS - 1);
    let hot = &from.set[way];
    let entry = region_entry(region)?;
    let place = entry.evicted;
    if place < maps::evicted_per_region() {
        let index = region * maps::evicted_per_region() + place;
        let kept: *mut Entry = maps::EVICTED.get_ptr_mut(index)?;
        // SAFETY: this CPU alone writes the region.
        let kept = unsafe { &mut *kept };
        words(hot, &mut kept.hot);
        kept.first_ns = head.first_ns[way];
        if hot.key.protocol == protocol::TCP {
            words(&tcp_set(from.index)?[way], &mut kept.tcp);
        } else {
            words(&TcpLine::NONE, &mut kept.tcp);
        }
        if let Some(tunnels) = &from.tunnels {
            // SAFETY: as above.
            let kept = unsafe { &mut *maps::EVICTED_TUNNELS.get_ptr_mut(index)? };
            words(&tunnels[way], kept);
        }
        entry.evicted = place + 1;
    } else {
        overflow(region, hot);
    }
    Some(u64::from(place) + 1)
}

/// Counts a flow that no longer has a place.
#[inline(always)]
fn overflow(region: u32, hot: &HotLine) {
    let interface = InterfaceEntry { number: hot.key.interface, ..InterfaceEntry::default() };
    let Some(counters) = meter::counters(region, interface) else { return };
    let class = Overflow::protocol_class(hot.key.protocol) & 3;
    // Masks tell the verifier what it cannot know of memory.
    let direction = usize::from(hot.key.direction & 3);
    counters.overflow.counts[direction][class].add(u64::from(hot.packets), hot.octets);
}

/// Copies by words of four octets: the BPF stack is too small for a value of its own.
#[inline(always)]
fn words<T>(from: &T, to: &mut T) {
    const { assert!(size_of::<T>().is_multiple_of(4)) };
    let (from, to) = ((&raw const *from).cast::<u32>(), (&raw mut *to).cast::<u32>());
    for word in 0..size_of::<T>() / 4 {
        // SAFETY: lines and tunnels are whole words in map memory, without padding.
        unsafe { *to.add(word) = *from.add(word) };
    }
}
