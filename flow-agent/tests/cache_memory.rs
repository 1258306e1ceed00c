//! What the flow cache takes of memory, as a counting allocator sees it.
//!
//! One test, because the allocator counts for the whole process.
#![cfg(feature = "live")]

use std::alloc::System;
use std::time::Duration;

use flow_agent::bench::updates::{START_NS, updates};
use flow_agent::cache::{Counter, Limits, Shard, Timeouts};
use flow_agent::record::FlowRecord;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What an allocator keeps beside each block.
const BLOCK: usize = 8;

/// Octets in use, the allocator's own included.
fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    let blocks = stats.allocations - stats.deallocations;
    stats.bytes_allocated - stats.bytes_deallocated + blocks * BLOCK
}

/// Updates of these flows; packets of what left, and the most memory that was in use meanwhile.
fn feed(shard: &mut Shard, flows: std::ops::Range<u32>, now_ns: u64, step_ns: u64) -> (u64, usize) {
    let mut out: Vec<FlowRecord> = Vec::with_capacity(1 << 13);
    let (mut packets, mut most) = (0, 0);
    let all: Vec<u32> = flows.collect();
    for (part, i) in all.chunks(4096).zip(0u64..) {
        let start = now_ns + i * 4096 * step_ns;
        shard.update_all(updates(part, start, step_ns), &mut out);
        shard.expire(start + 4096 * step_ns, &mut out);
        packets += out.iter().map(FlowRecord::total_packets).sum::<u64>();
        out.clear();
        most = most.max(in_use());
    }
    (packets, most)
}

#[test]
fn memory_is_known_bounded_and_given_back() {
    // A number of flows takes what was promised, and the shard knows it.
    for (flows, promised) in [(10_000, 3_500_000), (1_000_000, 260_000_000)] {
        let before = in_use();
        let limits = Limits::new(flows as usize, Timeouts::default());
        let mut shard = Shard::new(limits, 1);
        feed(&mut shard, 0..flows, START_NS, 1);
        let (taken, told) = (in_use() - before, shard.stats().bytes as usize);
        assert_eq!(shard.len(), flows as usize);
        assert!(taken < promised, "{taken} octets for {flows} flows");
        assert!((taken..taken + taken / 6).contains(&told), "{taken}, told as {told}");
        // Key and counters are 144 octets.
        assert!(taken / flows as usize - 144 <= 200, "{taken} octets for {flows} flows");
        // A limit that is a quarter lower gives a quarter back.
        shard.resize(flows as usize / 4 * 3);
        let mut out: Vec<FlowRecord> = Vec::with_capacity(2048);
        while shard.shed(1024, START_NS, &mut out) {
            out.clear();
        }
        drop(out);
        let shrunk = in_use() - before;
        assert!(shrunk < taken - taken / 5, "{shrunk} of {taken} octets for three quarters");
        // All leave at once, and who takes the records in time needs no memory for all of them.
        let (mut out, mut most, mut left) = (Vec::with_capacity(2048), 0, 0);
        shard.expire_by_parts(START_NS + 3_600_000_000_000, &mut out, |out| {
            most = most.max(in_use() - before);
            left += out.drain(..).len();
        });
        left += out.len();
        assert_eq!(left, flows as usize / 4 * 3);
        assert!(most < shrunk + 1_500_000, "{most} octets while {shrunk} expire");
        drop(out);
        let left = in_use() - before;
        assert!(shard.is_empty() && left < 300_000, "{left} octets for no flow");
        // The test harness's own thread takes a little meanwhile.
        assert!(shard.stats().bytes as usize + 16_384 >= left, "{left} octets");
    }

    // Ten million flows, none of which comes again: what expires or is evicted is free again.
    let before = in_use();
    let limits =
        Limits::new(50_000, Timeouts { idle: Duration::from_secs(1), ..Timeouts::default() });
    let mut shard = Shard::new(limits, 2);
    let mut packets = 0;
    let mut most_in = [0; 2];
    for (half, most_in) in most_in.iter_mut().enumerate() {
        let first = half as u32 * 5_000_000;
        // 50 us apart, 20,000 expire by the clock; 10 us apart, there is no room for 100,000.
        let step_ns = [50_000, 10_000][half];
        let now_ns = START_NS + half as u64 * 1_000_000_000_000;
        let (left, most) = feed(&mut shard, first..first + 5_000_000, now_ns, step_ns);
        packets += left;
        *most_in = most - before;
    }
    let stats = shard.stats();
    assert!(stats.counts.get(Counter::LeftIdle) > 4_900_000);
    assert!(stats.counts.get(Counter::EvictedFull) > 4_800_000);
    // The flows of the list that is fed are 20 MB.
    assert!(most_in[0] - 20_000_000 < 12_000_000, "{most_in:?}");
    assert!(most_in[1] - 20_000_000 < 24_000_000, "{most_in:?}");
    let mut out = Vec::new();
    shard.flush(&mut out);
    packets += out.iter().map(FlowRecord::total_packets).sum::<u64>();
    assert_eq!(packets, 10_000_000);
    drop((out, shard));
    assert!(in_use() <= before + 4096, "{} octets are never freed", in_use() - before);

    // A limit of memory holds under a flood.
    for mib in [1, 8, 50] {
        let limits = Limits::new(10_000_000, Timeouts::default());
        let limits = Limits { max_memory: Some(mib << 20), ..limits };
        let flows: u32 = 600_000;
        let before = in_use() + flows as usize * 4 + (size_of::<FlowRecord>() << 13);
        let mut shard = Shard::new(limits, 3);
        let (_, most) = feed(&mut shard, 0..flows, START_NS, 1);
        let taken = most.saturating_sub(before);
        assert!(taken <= (mib << 20) as usize, "{taken} octets, limit {mib} MiB");
        assert!(taken > (mib << 19) as usize, "{taken} octets of {mib} MiB");
        assert!(shard.stats().counts.get(Counter::EvictedMemory) > 300_000);
        assert!(shard.stats().bytes <= mib << 20);
    }
}
