//! The flow table of one CPU: finds or makes the way of a packet's flow.

use flow_common::hash::{flow_hash, tunnel_hash};
use flow_common::key::protocol;
use flow_common::table::{ColdLine, Entry, HotLine, InterfaceEntry, Region, Set, TunnelSet, WAYS};
use flow_common::{FlowKey, Overflow, Packet, Tunnel};

use crate::{maps, meter};

const TCP_FIN: u8 = 0x01;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// Adds a packet to its flow. When another flow had to leave for it, says how
/// many have left this region so far.
#[inline(always)]
pub fn update(region: u32, packet: &Packet, packets: u64, octets: u64) -> Option<u64> {
    let mut hash = flow_hash(&packet.key, packet.ip_version == 4, maps::hash_key);
    if maps::decapsulate() {
        hash ^= tunnel_hash(&packet.tunnel, maps::hash_key);
    }
    let tag = (hash >> 48) as u16 | 1; // 0 marks a free way
    let index = hash as u32 & (maps::sets_per_region() - 1);
    let (set, tunnels) = place(region, index)?;
    // Most flows have the way that their hash prefers: its line is fetched together
    // with the tags. The others' lines, which may not be cached, only if a tag agrees.
    let preferred = (hash >> 32) as usize & (WAYS - 1);
    if holds(set, &tunnels, preferred, tag, packet) {
        add(set, preferred, packet, packets, octets);
        return None;
    }
    for way in 0..WAYS {
        if holds(set, &tunnels, way, tag, packet) {
            add(set, way, packet, packets, octets);
            return None;
        }
    }
    let (way, evicted) = match free(set, preferred) {
        Some(way) => {
            open(region, index);
            (way, None)
        }
        None => {
            let way = smallest(set);
            (way, evict(region, set, &tunnels, way))
        }
    };
    insert(set, way, tag, packet, packets, octets);
    if let Some(tunnels) = tunnels {
        words(&packet.tunnel, &mut tunnels[way & (WAYS - 1)]);
    }
    evicted
}

/// A set, and the tunnels of its flows where tunnels are looked into.
#[inline(always)]
fn place(region: u32, index: u32) -> Option<(&'static mut Set, Option<&'static mut TunnelSet>)> {
    let index = region * maps::sets_per_region() + index;
    // SAFETY: this CPU alone writes the region (see `meter::counters`).
    let set = unsafe { &mut *maps::SETS.get_ptr_mut(index)? };
    let tunnels = if maps::decapsulate() {
        // SAFETY: as above.
        Some(unsafe { &mut *maps::TUNNELS.get_ptr_mut(index)? })
    } else {
        None
    };
    Some((set, tunnels))
}

/// True when a way's flow is the packet's.
#[inline(always)]
fn holds(
    set: &Set,
    tunnels: &Option<&'static mut TunnelSet>,
    way: usize,
    tag: u16,
    packet: &Packet,
) -> bool {
    if set.tags[way] != tag || !same(&set.hot[way].key, &packet.key) {
        return false;
    }
    match tunnels {
        Some(tunnels) => same_tunnel(&tunnels[way], &packet.tunnel),
        None => true,
    }
}

/// A way without a flow, the preferred one if it is.
#[inline(always)]
fn free(set: &Set, preferred: usize) -> Option<usize> {
    if set.tags[preferred] == 0 {
        return Some(preferred);
    }
    (0..WAYS).find(|way| set.tags[*way] == 0)
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

/// Compares in words of eight octets, which are aligned so in both places.
#[inline(always)]
fn same(a: &FlowKey, b: &FlowKey) -> bool {
    let (a, b) = ((&raw const *a).cast::<u64>(), (&raw const *b).cast::<u64>());
    // SAFETY: a key is five words of eight octets and one of four, without padding,
    // in map memory.
    unsafe {
        *a == *b
            && *a.add(1) == *b.add(1)
            && *a.add(2) == *b.add(2)
            && *a.add(3) == *b.add(3)
            && *a.add(4) == *b.add(4)
            && *a.add(5).cast::<u32>() == *b.add(5).cast::<u32>()
    }
}

#[inline(always)]
fn add(set: &mut Set, way: usize, packet: &Packet, packets: u64, octets: u64) {
    let hot = &mut set.hot[way];
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
        tcp(&mut set.next_seq[way], &mut set.cold[way], before, packet, packets);
    }
}

/// What the cold line keeps of a TCP connection; `before` are the flags so far.
#[inline(always)]
fn tcp(next_seq: &mut u32, cold: &mut ColdLine, before: u8, packet: &Packet, packets: u64) {
    let flags = packet.tcp_flags;
    if flags & TCP_SYN != 0 {
        if cold.syn_ns == 0 {
            cold.syn_ns = maps::boot_ns();
        }
        let count =
            if flags & TCP_ACK == 0 { &mut cold.syn_packets } else { &mut cold.syn_ack_packets };
        if *count < u16::MAX {
            *count += 1;
        }
    } else if flags & TCP_ACK != 0 && before & TCP_ACK == 0 {
        // The end of a handshake: what came before it were SYNs.
        cold.ack_ns = maps::boot_ns();
    }
    let end = end_of(packet);
    let ahead = end.wrapping_sub(*next_seq) as i32;
    if before == 0 || ahead > 0 {
        *next_seq = end;
    } else if packet.payload_octets > 1 && flags & TCP_SYN == 0 {
        // One octet may be a keep-alive probe.
        cold.retransmits += packets as u32;
    }
}

/// The sequence number after a segment's last.
#[inline(always)]
fn end_of(packet: &Packet) -> u32 {
    let marks =
        u32::from(packet.tcp_flags & TCP_SYN != 0) + u32::from(packet.tcp_flags & TCP_FIN != 0);
    packet.tcp_seq.wrapping_add(packet.payload_octets).wrapping_add(marks)
}

#[inline(always)]
fn insert(set: &mut Set, way: usize, tag: u16, packet: &Packet, packets: u64, octets: u64) {
    let way = way & (WAYS - 1);
    let now = maps::boot_ns();
    let syn = packet.tcp_flags & TCP_SYN != 0;
    let ack = packet.tcp_flags & TCP_ACK != 0;
    set.tags[way] = tag;
    set.next_seq[way] = end_of(packet);
    let hot = &mut set.hot[way];
    hot.octets = octets;
    hot.packets = packets as u32;
    hot.last_jiffies = maps::jiffies() as u32;
    copy(&packet.key, &mut hot.key);
    hot.tcp_flags = packet.tcp_flags;
    hot.dscp = packet.dscp;
    hot.min_ttl = packet.ttl;
    hot.max_ttl = packet.ttl;
    let cold = &mut set.cold[way];
    cold.first_ns = now;
    cold.syn_ns = if syn { now } else { 0 };
    cold.ack_ns = if ack && !syn { now } else { 0 };
    cold.retransmits = 0;
    cold.syn_packets = u16::from(syn && !ack);
    cold.syn_ack_packets = u16::from(syn && ack);
}

/// Copies in words, as [`same`] compares.
#[inline(always)]
fn copy(from: &FlowKey, to: &mut FlowKey) {
    let (from, to) = ((&raw const *from).cast::<u64>(), (&raw mut *to).cast::<u64>());
    // SAFETY: as in `same`.
    unsafe {
        for word in 0..5 {
            *to.add(word) = *from.add(word);
        }
        *to.add(5).cast::<u32>() = *from.add(5).cast::<u32>();
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
    let mut fewest = set.hot[0].packets;
    for way in 1..WAYS {
        let packets = set.hot[way].packets;
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
fn evict(
    region: u32,
    set: &Set,
    tunnels: &Option<&'static mut TunnelSet>,
    way: usize,
) -> Option<u64> {
    let way = way & (WAYS - 1);
    let hot = &set.hot[way];
    let entry = region_entry(region)?;
    let place = entry.evicted;
    if place < maps::evicted_per_region() {
        let index = region * maps::evicted_per_region() + place;
        let kept: *mut Entry = maps::EVICTED.get_ptr_mut(index)?;
        // SAFETY: this CPU alone writes the region.
        let kept = unsafe { &mut *kept };
        words(hot, &mut kept.hot);
        words(&set.cold[way], &mut kept.cold);
        if let Some(tunnels) = tunnels {
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
