//! The meter: every packet that enters leaves as exactly one count.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use flow_common::parse::FragmentRole;
use flow_common::table::InterfaceEntry;
use flow_common::{
    Count, Direction, FragmentPorts, InterfaceCounters, Link, Lost, NotMetered, Packet, parse,
};

use crate::frame::PacketMemory;
use crate::hook::{Context, Observation};
use crate::{diagnose, maps, table};

/// Parses and counts one packet.
#[inline(always)]
pub fn meter(ctx: &impl Context, seen: &Observation) {
    let Some(generation) = maps::generation() else { return };
    let index = maps::index_base() + seen.ifindex;
    let interface = maps::INTERFACES.get(index).copied().unwrap_or_default();
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if cpu >= maps::cpus() {
        stray(generation, interface, seen);
        return;
    }
    let region = generation * maps::cpus() + cpu;
    let Some(counters) = counters(region, interface) else { return };
    let frame = PacketMemory::new(seen.start, seen.end, &raw mut counters.scratch);
    let link = if interface.raw_ip == 0 { Link::Ethernet } else { Link::RawIp };
    let parsed = parse(&frame, link, seen.wire_octets, seen.stripped_vlan);
    match parsed {
        Ok(mut packet) => {
            let (packets, octets) = packet.on_the_wire(seen.segment_size, seen.segments);
            counters.seen.add(packets, octets);
            if interface.number == 0 {
                counters.lost[Lost::NoInterface as usize].add(packets, octets);
                return;
            }
            packet.key.interface = interface.number;
            let direction =
                if interface.undirected == 0 { seen.direction } else { Direction::Unknown };
            packet.key.direction = direction as u8;
            if packet.fragment != FragmentRole::Whole {
                fragment(&mut packet, counters);
            }
            if let Some(times) = table::update(region, &packet, packets, octets) {
                diagnose::evicted(ctx, times);
            }
        }
        Err((reason, octets)) => {
            let octets = u64::from(octets);
            counters.seen.add(1, octets);
            let count = not_metered(counters, reason);
            count.add(1, octets);
            if matches!(reason, NotMetered::Other) {
                diagnose::not_ip(ctx, seen.ifindex, count.packets);
            }
        }
    }
}

/// The counters of an interface in a region, which this CPU alone writes.
#[inline(always)]
pub fn counters(region: u32, interface: InterfaceEntry) -> Option<&'static mut InterfaceCounters> {
    let index = region * maps::max_interfaces() + u32::from(interface.number);
    // SAFETY: the map lives as long as the program; one CPU writes a region, and
    // programs do not nest on a CPU (bottom halves are off), so nothing aliases.
    maps::COUNTERS.get_ptr_mut(index).map(|counters| unsafe { &mut *counters })
}

#[inline(always)]
fn not_metered(counters: &mut InterfaceCounters, reason: NotMetered) -> &mut Count {
    // The mask tells the verifier what the type already says.
    &mut counters.not_metered[reason as usize & 7]
}

/// Ties a later fragment to the ports of its first.
#[inline(always)]
fn fragment(packet: &mut Packet, counters: &mut InterfaceCounters) {
    let now = maps::boot_ns();
    let key = packet.fragment_key();
    if packet.fragment == FragmentRole::First {
        // A full or busy map costs a later fragment its ports; that is counted there.
        let _ = maps::FRAGMENTS.insert(&key, packet.fragment_ports(now), 0);
        return;
    }
    // SAFETY: a reading that races with an eviction shows another fragment's ports
    // at worst for a key just as old; the map is preallocated, the memory stays.
    match unsafe { maps::FRAGMENTS.get(&key) } {
        Some(first) if now.saturating_sub(first.time) <= FragmentPorts::LIFETIME_NS => {
            packet.adopt(first)
        }
        _ => counters.fragments_without_ports += 1,
    }
}

/// Counts a packet on a CPU that has no region: lost, and named so. It is not
/// parsed: its octets are those of the frame.
#[inline(always)]
fn stray(generation: u32, interface: InterfaceEntry, seen: &Observation) {
    let index = generation * maps::max_interfaces() + u32::from(interface.number);
    if let Some(count) = maps::STRAY.get_ptr_mut(index) {
        let packets = if seen.segments > 1 { u64::from(seen.segments) } else { 1 };
        // SAFETY: per-CPU map memory, and programs do not nest on a CPU.
        unsafe { (*count).add(packets, u64::from(seen.wire_octets)) };
    }
}
