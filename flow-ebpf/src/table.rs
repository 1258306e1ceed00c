//! The flow table of one CPU: finds or makes the way of a packet's flow.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use flow_common::hash::flow_hash;
use flow_common::table::{ColdLine, Evicted, HotLine, InterfaceEntry, Set, WAYS};
use flow_common::{FlowKey, Lost, Packet};

use crate::{maps, meter};

const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// Adds a packet to its flow. When another flow had to leave for it, says how
/// many have left this region so far.
#[inline(always)]
pub fn update(region: u32, packet: &Packet, packets: u64, octets: u64) -> Option<u64> {
    let hash = flow_hash(&packet.key, maps::hash_key);
    let tag = (hash >> 48) as u16 | 1; // 0 marks a free way
    let index = hash as u32 & (maps::sets_per_region() - 1);
    // SAFETY: this CPU alone writes the region (see `meter::counters`).
    let set = unsafe { &mut *maps::SETS.get_ptr_mut(region * maps::sets_per_region() + index)? };

    let mut free = WAYS;
    let mut smallest = 0;
    let mut fewest = u32::MAX;
    for way in 0..WAYS {
        if set.tags[way] == 0 {
            free = way;
            break;
        }
        let hot = &mut set.hot[way];
        if set.tags[way] == tag && same(&hot.key, &packet.key) {
            add(hot, &mut set.cold[way], packet, packets, octets);
            return None;
        }
        if hot.packets < fewest {
            fewest = hot.packets;
            smallest = way;
        }
    }
    let evicted = if free < WAYS {
        if free == 0 {
            mark_dirty(region, index);
        }
        None
    } else {
        free = smallest;
        evict(region, set, free)
    };
    insert(set, free & (WAYS - 1), tag, packet, packets, octets);
    evicted
}

/// Compares in words: the keys have no padding.
#[inline(always)]
fn same(a: &FlowKey, b: &FlowKey) -> bool {
    // SAFETY: a key is eleven u32 without padding, here aligned to four octets in
    // map memory and on the stack.
    let (a, b) =
        unsafe { (&*(&raw const *a).cast::<[u32; 11]>(), &*(&raw const *b).cast::<[u32; 11]>()) };
    let mut difference = 0;
    for i in 0..11 {
        difference |= a[i] ^ b[i];
    }
    difference == 0
}

#[inline(always)]
fn add(hot: &mut HotLine, cold: &mut ColdLine, packet: &Packet, packets: u64, octets: u64) {
    hot.octets += octets;
    hot.packets += packets as u32;
    hot.last_jiffies = maps::jiffies() as u32;
    hot.tcp_flags |= packet.tcp_flags;
    if packet.ttl < hot.min_ttl {
        hot.min_ttl = packet.ttl;
    }
    if packet.ttl > hot.max_ttl {
        hot.max_ttl = packet.ttl;
    }
    if packet.tcp_flags & TCP_SYN != 0 {
        if cold.syn_ns == 0 {
            cold.syn_ns = maps::boot_ns();
        }
        if packet.tcp_flags & TCP_ACK == 0 {
            cold.syn_packets += 1;
        } else {
            cold.syn_ack_packets += 1;
        }
    }
}

#[inline(always)]
fn insert(set: &mut Set, way: usize, tag: u16, packet: &Packet, packets: u64, octets: u64) {
    let now = maps::boot_ns();
    let syn = packet.tcp_flags & TCP_SYN != 0;
    let ack = packet.tcp_flags & TCP_ACK != 0;
    set.tags[way] = tag;
    set.hot[way] = HotLine {
        octets,
        packets: packets as u32,
        last_jiffies: maps::jiffies() as u32,
        key: packet.key,
        tcp_flags: packet.tcp_flags,
        dscp: packet.dscp,
        min_ttl: packet.ttl,
        max_ttl: packet.ttl,
    };
    set.cold[way] = ColdLine {
        first_ns: now,
        syn_ns: if syn { now } else { 0 },
        syn_packets: u32::from(syn && !ack),
        syn_ack_packets: u32::from(syn && ack),
        reserved: 0,
    };
}

/// Puts a set that has got its first flow on the dirty list.
#[inline(always)]
fn mark_dirty(region: u32, set: u32) {
    let Some(entry) = maps::REGIONS.get_ptr_mut(region) else { return };
    // SAFETY: this CPU alone writes the region.
    let entry = unsafe { &mut *entry };
    if let Some(slot) = maps::DIRTY.get_ptr_mut(region * maps::sets_per_region() + entry.dirty) {
        // SAFETY: as above.
        unsafe { *slot = u64::from(set) };
        entry.dirty += 1;
    }
}

/// Hands a way's flow to the ring, or counts it as lost when the ring is full.
#[inline(always)]
fn evict(region: u32, set: &mut Set, way: usize) -> Option<u64> {
    let way = way & (WAYS - 1);
    let hot = &set.hot[way];
    if let Some(mut record) = maps::EVICTED.reserve::<Evicted>(0) {
        let evicted = record.as_mut_ptr();
        // SAFETY: the reserved memory of the record; written field by field
        // because the BPF stack is too small for a copy.
        unsafe {
            (*evicted).hot = *hot;
            (*evicted).cold = set.cold[way];
            (*evicted).generation = u32::from(region >= maps::cpus());
        }
        record.submit(u64::from(BPF_RB_NO_WAKEUP));
    } else {
        let interface = InterfaceEntry { number: hot.key.interface, ..InterfaceEntry::default() };
        if let Some(counters) = meter::counters(region, interface) {
            counters.lost[Lost::RingFull as usize].add(u64::from(hot.packets), hot.octets);
        }
    }
    // SAFETY: this CPU alone writes the region.
    let entry = unsafe { &mut *maps::REGIONS.get_ptr_mut(region)? };
    entry.evicted += 1;
    Some(entry.evicted)
}
