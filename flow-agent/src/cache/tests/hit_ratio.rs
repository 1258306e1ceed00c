//! What finds its flow where not all have room, against an exact LRU on the same updates.

use lru::LruCache;

use super::super::{Counter, Limits, Shard, Timeouts};
use crate::bench::updates::{Choice, START_NS, choose, updates};

const FLOWS: u32 = 20_000;
const UPDATES: usize = 400_000;

/// In per cent, after a quarter of the updates to warm up.
fn shard(flows: &[u32], size: usize, step_ns: u64) -> f64 {
    let (mut shard, mut out) = (Shard::new(Limits::new(size, Timeouts::default()), 1), Vec::new());
    let (warm, counted) = flows.split_at(flows.len() / 4);
    let hits = |shard: &Shard| shard.stats().counts.get(Counter::Hits);
    shard.update_all(updates(warm, START_NS, step_ns), &mut out);
    let before = hits(&shard);
    let start = START_NS + warm.len() as u64 * step_ns;
    for (part, i) in counted.chunks(1000).zip(0..) {
        shard.update_all(updates(part, start + i * 1000 * step_ns, step_ns), &mut out);
        out.clear();
    }
    100.0 * (hits(&shard) - before) as f64 / counted.len() as f64
}

fn reference(flows: &[u32], size: usize) -> f64 {
    let mut cache = LruCache::new(size.try_into().expect("not 0"));
    let (warm, counted) = flows.split_at(flows.len() / 4);
    let mut hits =
        |flows: &[u32]| flows.iter().filter(|flow| cache.put(**flow, ()).is_some()).count();
    hits(warm);
    100.0 * hits(counted) as f64 / counted.len() as f64
}

#[test]
fn it_is_within_a_point_of_an_exact_lru_at_every_size() {
    for choice in [Choice::EightyTwenty, Choice::Zipf] {
        let flows = choose(choice, FLOWS, UPDATES, 5);
        for percent in [1, 2, 5, 10, 20, 25, 30, 50, 75, 100] {
            let size = FLOWS as usize * percent / 100;
            let expected = reference(&flows, size);
            // Whether the updates' clock stands still or runs.
            for step_ns in [0, 1000] {
                let found = shard(&flows, size, step_ns);
                let label = choice.label();
                assert!(
                    (found - expected).abs() <= 1.0,
                    "{label}, {percent} %: {found:.2} %, an LRU has {expected:.2} %"
                );
            }
        }
    }
}

#[test]
fn eighty_twenty_finds_58_percent_in_a_fifth_and_over_80_in_two() {
    let flows = choose(Choice::EightyTwenty, FLOWS, UPDATES, 6);
    let (fifth, more) = (shard(&flows, 4_000, 1000), shard(&flows, 9_600, 1000));
    assert!((57.0..59.5).contains(&fifth), "{fifth}");
    assert!(more > 80.0, "{more}");
}
