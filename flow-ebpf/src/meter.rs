//! The meter: every packet that enters leaves as exactly one count.

use core::sync::atomic::{Ordering, compiler_fence};

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use flow_common::parse::{FragmentRole, read};
use flow_common::table::InterfaceEntry;
use flow_common::{Count, FragmentPorts, InterfaceCounters, Link, NotMetered, Options, Packet};

use crate::frame::PacketMemory;
use crate::hook::{Context, Observation};
use crate::{diagnose, filter, maps, table};

/// Parses and counts one packet.
#[inline(always)]
pub fn meter(ctx: &impl Context, seen: &Observation) {
    let generation = maps::generation();
    let interface = maps::interface(seen.ifindex);
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let cpus = maps::cpus();
    if cpu >= cpus {
        stray(ctx, generation, interface, seen);
        return;
    }
    let region = generation * cpus + cpu;
    let Some(counters) = counters(region, interface) else { return };
    // SAFETY: a place of the right size in the memory of a map that this CPU alone
    // uses; all of its values are ones that the parser wrote, or 0, which is valid.
    let packet = unsafe { &mut *(&raw mut counters.packet).cast::<Packet>() };
    let frame = PacketMemory::new(ctx, seen.start, seen.end, &raw mut counters.scratch);
    let link = if interface.raw_ip == 0 { Link::Ethernet } else { Link::RawIp };
    let options = Options { decapsulate: maps::decapsulate(), super_packet: seen.segment_size > 0 };
    let parsed = read(&frame, link, seen.stripped_vlan, options, packet);
    // The packet is in memory now. Without this the compiler would carry all of it
    // in registers as well, which BPF does not have, and spill them on the way.
    compiler_fence(Ordering::SeqCst);
    if let Err((reason, octets)) = parsed {
        refuse(ctx, seen, counters, reason, u64::from(octets));
        return;
    }
    let (packets, octets) = packet.on_the_wire(seen.segment_size, seen.segments);
    counters.seen.add(packets, octets);
    if interface.number == 0 {
        counters.no_interface.add(packets, octets);
        return;
    }
    packet.key.observe(interface.number, seen.direction as u8 & interface.direction_mask);
    if packet.fragment != FragmentRole::Whole {
        fragment(packet, &mut counters.fragments_without_ports);
    }
    if let Some(reason) = filter::leaves_out(counters.rules, generation, &packet.key) {
        not_metered(counters, reason).add(packets, octets);
        return;
    }
    // A number on every way: what the compiler may leave undefined is a pointer to the verifier.
    let evicted = table::update(region, packet, packets, octets, options.decapsulate).unwrap_or(0);
    if evicted > 0 {
        diagnose::evicted(ctx, evicted);
    }
}

/// Counts a packet that belongs to no flow.
#[inline(always)]
fn refuse(
    ctx: &impl Context,
    seen: &Observation,
    counters: &mut InterfaceCounters,
    reason: NotMetered,
    octets: u64,
) {
    counters.seen.add(1, octets);
    let count = not_metered(counters, reason);
    count.add(1, octets);
    if matches!(reason, NotMetered::Other) {
        diagnose::not_ip(ctx, seen.ifindex, count.packets);
    }
}

#[inline(always)]
fn not_metered(counters: &mut InterfaceCounters, reason: NotMetered) -> &mut Count {
    // The mask tells the verifier what the type already says.
    &mut counters.not_metered[reason as usize & 15]
}

/// The counters of an interface in a region, which this CPU alone writes.
#[inline(always)]
pub fn counters(region: u32, interface: InterfaceEntry) -> Option<&'static mut InterfaceCounters> {
    let index = region * maps::max_interfaces() + u32::from(interface.number);
    // SAFETY: the map lives as long as the program; one CPU writes a region, and
    // programs do not nest on a CPU (bottom halves are off), so nothing aliases.
    maps::COUNTERS.get_ptr_mut(index).map(|counters| unsafe { &mut *counters })
}

/// Ties a later fragment to the ports of its first.
#[inline(always)]
fn fragment(packet: &mut Packet, without_ports: &mut u64) {
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
        _ => *without_ports += 1,
    }
}

/// Counts a packet on a CPU that has no region: lost, and named so. It is not
/// parsed: its octets are those of the frame.
#[inline(always)]
fn stray(ctx: &impl Context, generation: u32, interface: InterfaceEntry, seen: &Observation) {
    let index = generation * maps::max_interfaces() + u32::from(interface.number);
    if let Some(count) = maps::STRAY.get_ptr_mut(index) {
        let packets = if seen.segments > 1 { u64::from(seen.segments) } else { 1 };
        let octets = u64::from(ctx.wire_octets());
        // SAFETY: per-CPU map memory, and programs do not nest on a CPU.
        let count: &mut Count = unsafe { &mut *count };
        count.add(packets, octets);
    }
}
