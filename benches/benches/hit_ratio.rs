//! `cargo bench -p flow-benches --bench hit_ratio`: how many updates find their entry, in per
//! cent, where not all entries have room; the same updates for every cache.

use flow_agent::bench::updates::{Choice, START_NS, choose, updates};
use flow_agent::cache::{CacheStats, Limits, Policy, Shard, StatsLevel, Timeouts};
use flow_benches::{Key, Value, key};

const KEYS: u32 = 100_000;
const UPDATES: usize = 4_000_000;

fn main() {
    // Under `cargo test` nothing is measured.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("load    size   shard lru  fifo   lru    quick_cache  moka");
    for choice in [Choice::EightyTwenty, Choice::Zipf] {
        let flows = choose(choice, KEYS, UPDATES, 1);
        for percent in [1, 5, 10, 20, 25, 50] {
            let size = KEYS as usize * percent / 100;
            println!(
                "{:<6} {percent:>3} %   {:>8.2} {:>6.2} {:>6.2} {:>8.2} {:>8.2}",
                choice.label(),
                shard(&flows, size, Policy::Lru),
                shard(&flows, size, Policy::Fifo),
                lru(&flows, size),
                quick_cache(&flows, size),
                moka(&flows, size),
            );
        }
    }
}

fn shard(flows: &[u32], size: usize, policy: Policy) -> f64 {
    let limits = Limits { policy, ..Limits::new(size, Timeouts::default()) };
    let (mut shard, mut out) = (Shard::new(limits, 1), Vec::new());
    for flows in flows.chunks(10_000) {
        shard.update_all(updates(flows, START_NS, 0), &mut out);
        out.clear();
    }
    let stats = CacheStats { level: StatsLevel::Counters, shards: 1, sum: shard.stats() };
    stats.hit_ratio().unwrap_or(0.0) * 100.0
}

fn percent(flows: &[u32], mut hits: impl FnMut(Key) -> bool) -> f64 {
    let found = flows.iter().filter(|flow| hits(key(**flow))).count();
    100.0 * found as f64 / flows.len() as f64
}

fn lru(flows: &[u32], size: usize) -> f64 {
    let mut cache = lru::LruCache::new(size.try_into().expect("not 0"));
    percent(flows, |key| {
        let hit = cache.get(&key).is_some();
        if !hit {
            cache.put(key, Value::default());
        }
        hit
    })
}

fn quick_cache(flows: &[u32], size: usize) -> f64 {
    let mut cache = quick_cache::unsync::Cache::new(size);
    percent(flows, |key| {
        let hit = cache.get(&key).is_some();
        if !hit {
            cache.insert(key, Value::default());
        }
        hit
    })
}

fn moka(flows: &[u32], size: usize) -> f64 {
    let cache = moka::sync::Cache::new(size as u64);
    percent(flows, |key| {
        let hit = cache.get(&key).is_some();
        if !hit {
            cache.insert(key, Value::default());
        }
        hit
    })
}
