//! `cargo bench -p flow-benches --bench cache`: the flow cache beside others, on the same updates.
//! Needs no privilege. The median is what counts.
//!
//! Others hold keys of 48 and values of 96 octets and know neither timeouts nor records; ours has
//! timeouts, and statistics at the level that is named. The updates' clock gives each flow one a
//! second, as from drains.

use std::collections::HashMap;

use dashmap::DashMap;
use divan::Bencher;
use divan::counter::ItemsCount;
use flow_agent::bench::updates::{Choice, START_NS, choose, pace, updates};
use flow_agent::cache::{Limits, Shard, StatsLevel, Timeouts};
use flow_benches::{Key, Value, key};
use foldhash::fast::RandomState;

fn main() {
    divan::main();
}

/// Updates of a sample.
const UPDATES: usize = 1 << 20;
const FLOWS: [u32; 2] = [10_000, 1_000_000];

/// A shard that holds `flows` flows and has room for `room`.
fn shard(flows: u32, room: usize, level: StatsLevel) -> Shard {
    let mut shard = Shard::new(Limits::new(room, Timeouts::default()), 7);
    shard.set_level(level);
    let (all, mut out): (Vec<u32>, _) = ((0..flows).collect(), Vec::new());
    shard.update_all(updates(&all, START_NS, 0), &mut out);
    shard
}

fn work(flows: u32) -> (Vec<u32>, ItemsCount) {
    (choose(Choice::Uniform, flows, UPDATES, 7), ItemsCount::new(UPDATES))
}

fn run_shard(bencher: Bencher<'_, '_>, mut shard: Shard, work: (Vec<u32>, ItemsCount), flows: u32) {
    let (mut now, mut out) = (START_NS, Vec::new());
    let step = pace(flows);
    bencher.counter(work.1).bench_local(|| {
        for batch in work.0.chunks(1 << 16) {
            shard.update_all(updates(batch, now, step), &mut out);
            now += batch.len() as u64 * step;
            shard.expire(now, &mut out);
            out.clear();
        }
    });
}

mod update {
    //! Of entries that are there.
    use super::{
        Bencher, Choice, DashMap, FLOWS, HashMap, ItemsCount, Key, RandomState, StatsLevel,
        UPDATES, Value, choose, key, run_shard, shard, work,
    };

    #[divan::bench(args = FLOWS, sample_count = 7)]
    fn a_shard(bencher: Bencher<'_, '_>, flows: u32) {
        let shard = shard(flows, 2 * flows as usize, StatsLevel::Counters);
        run_shard(bencher, shard, work(flows), flows);
    }

    #[divan::bench(args = FLOWS, sample_count = 7)]
    fn a_shard_full_statistics(bencher: Bencher<'_, '_>, flows: u32) {
        let shard = shard(flows, 2 * flows as usize, StatsLevel::Full);
        run_shard(bencher, shard, work(flows), flows);
    }

    #[divan::bench(args = FLOWS, sample_count = 7)]
    fn a_shard_no_statistics(bencher: Bencher<'_, '_>, flows: u32) {
        let shard = shard(flows, 2 * flows as usize, StatsLevel::Off);
        run_shard(bencher, shard, work(flows), flows);
    }

    #[divan::bench(args = FLOWS, sample_count = 7)]
    fn a_shard_without_room(bencher: Bencher<'_, '_>, flows: u32) {
        let shard = shard(flows, flows as usize, StatsLevel::Counters);
        run_shard(bencher, shard, work(flows), flows);
    }

    #[divan::bench(args = FLOWS, sample_count = 7)]
    fn b_hash_map(bencher: Bencher<'_, '_>, flows: u32) {
        let mut map: HashMap<Key, Value, RandomState> = HashMap::default();
        map.extend((0..flows).map(|flow| (key(flow), Value::default())));
        let (flows, count) = work(flows);
        bencher.counter(count).bench_local(|| {
            for flow in &flows {
                map.get_mut(&key(*flow)).expect("present").add(1);
            }
        });
    }

    #[divan::bench(args = FLOWS, sample_count = 7)]
    fn c_lru(bencher: Bencher<'_, '_>, flows: u32) {
        let mut cache = lru::LruCache::unbounded_with_hasher(RandomState::default());
        for flow in 0..flows {
            cache.put(key(flow), Value::default());
        }
        let (flows, count) = work(flows);
        bencher.counter(count).bench_local(|| {
            for flow in &flows {
                cache.get_mut(&key(*flow)).expect("present").add(1);
            }
        });
    }

    #[divan::bench(args = FLOWS, sample_count = 7, threads = [1, 2])]
    fn d_dashmap(bencher: Bencher<'_, '_>, flows: u32) {
        let map: DashMap<Key, Value, RandomState> = DashMap::default();
        for flow in 0..flows {
            map.insert(key(flow), Value::default());
        }
        let (flows, count) = work(flows);
        bencher.counter(count).bench(|| {
            for flow in &flows {
                map.get_mut(&key(*flow)).expect("present").add(1);
            }
        });
    }

    #[divan::bench(args = FLOWS, sample_count = 7, threads = [1, 2])]
    fn e_quick_cache_get_insert(bencher: Bencher<'_, '_>, flows: u32) {
        let cache = quick_cache::sync::Cache::new(2 * flows as usize);
        for flow in 0..flows {
            cache.insert(key(flow), Value::default());
        }
        let (flows, count) = work(flows);
        bencher.counter(count).bench(|| {
            for flow in &flows {
                let mut value: Value = cache.get(&key(*flow)).unwrap_or_default();
                value.add(1);
                cache.insert(key(*flow), value);
            }
        });
    }

    #[divan::bench(args = FLOWS, sample_count = 5, threads = [1, 2])]
    fn f_moka_get_insert(bencher: Bencher<'_, '_>, flows: u32) {
        let cache = moka::sync::Cache::new(2 * u64::from(flows));
        for flow in 0..flows {
            cache.insert(key(flow), Value::default());
        }
        let flows = choose(Choice::Uniform, flows, UPDATES / 4, 7);
        bencher.counter(ItemsCount::new(flows.len())).bench(|| {
            for flow in &flows {
                let mut value: Value = cache.get(&key(*flow)).unwrap_or_default();
                value.add(1);
                cache.insert(key(*flow), value);
            }
        });
    }
}

mod get {
    //! Of entries that are there, without a change; a shard is asked flow by flow when somebody
    //! looks one up, so what it is compared by is the look-up of an update.
    use super::{
        Bencher, Choice, FLOWS, ItemsCount, START_NS, StatsLevel, UPDATES, Value, choose, key,
        shard, updates, work,
    };

    #[divan::bench(args = FLOWS, sample_count = 7)]
    fn a_shard(bencher: Bencher<'_, '_>, flows: u32) {
        let shard = shard(flows, 2 * flows as usize, StatsLevel::Counters);
        let (flows, count) = work(flows);
        bencher.counter(count).bench_local(|| {
            let found = updates(&flows, START_NS, 0).filter(|delta| shard.contains(delta)).count();
            assert_eq!(found, flows.len());
        });
    }

    #[divan::bench(args = FLOWS, sample_count = 7)]
    fn e_quick_cache(bencher: Bencher<'_, '_>, flows: u32) {
        let cache = quick_cache::sync::Cache::new(2 * flows as usize);
        for flow in 0..flows {
            cache.insert(key(flow), Value::default());
        }
        let (flows, count) = work(flows);
        bencher.counter(count).bench_local(|| {
            let found = flows.iter().filter_map(|flow| cache.get(&key(*flow)));
            found.fold(0, |sum, value: Value| sum + value.0[1])
        });
    }

    #[divan::bench(args = FLOWS, sample_count = 5)]
    fn f_moka(bencher: Bencher<'_, '_>, flows: u32) {
        let cache = moka::sync::Cache::new(2 * u64::from(flows));
        for flow in 0..flows {
            cache.insert(key(flow), Value::default());
        }
        let flows = choose(Choice::Uniform, flows, UPDATES / 4, 7);
        bencher.counter(ItemsCount::new(flows.len())).bench_local(|| {
            let found = flows.iter().filter_map(|flow| cache.get(&key(*flow)));
            found.fold(0, |sum, value: Value| sum + value.0[1])
        });
    }
}

mod new_percent_at_the_limit {
    //! So many of a hundred updates are of entries that are not there; each makes another leave.
    use super::{
        Bencher, ItemsCount, RandomState, StatsLevel, UPDATES, Value, key, run_shard, shard, work,
    };

    const FLOWS: u32 = 100_000;
    const PERCENT: [u32; 3] = [0, 20, 100];

    fn mixed(percent: u32) -> (Vec<u32>, ItemsCount) {
        let (mut chosen, count) = work(FLOWS);
        for (flow, i) in chosen.iter_mut().zip(0u32..) {
            if i % 100 < percent {
                *flow = FLOWS + i;
            }
        }
        (chosen, count)
    }

    #[divan::bench(args = PERCENT, sample_count = 7)]
    fn a_shard(bencher: Bencher<'_, '_>, percent: u32) {
        let shard = shard(FLOWS, FLOWS as usize, StatsLevel::Counters);
        run_shard(bencher, shard, mixed(percent), FLOWS);
    }

    #[divan::bench(args = PERCENT, sample_count = 7)]
    fn c_lru(bencher: Bencher<'_, '_>, percent: u32) {
        let most = std::num::NonZero::new(FLOWS as usize).expect("some");
        let mut cache = lru::LruCache::with_hasher(most, RandomState::default());
        for flow in 0..FLOWS {
            cache.put(key(flow), Value::default());
        }
        let (flows, count) = mixed(percent);
        bencher.counter(count).bench_local(|| {
            for flow in &flows {
                cache.get_or_insert_mut(key(*flow), Value::default).add(1);
            }
        });
    }

    #[divan::bench(args = PERCENT, sample_count = 7)]
    fn e_quick_cache_get_insert(bencher: Bencher<'_, '_>, percent: u32) {
        let cache = quick_cache::sync::Cache::new(FLOWS as usize);
        for flow in 0..FLOWS {
            cache.insert(key(flow), Value::default());
        }
        let (flows, count) = mixed(percent);
        bencher.counter(count).bench_local(|| {
            for flow in &flows {
                let mut value: Value = cache.get(&key(*flow)).unwrap_or_default();
                value.add(1);
                cache.insert(key(*flow), value);
            }
        });
    }

    #[divan::bench(args = PERCENT, sample_count = 5)]
    fn f_moka_get_insert(bencher: Bencher<'_, '_>, percent: u32) {
        let cache = moka::sync::Cache::new(u64::from(FLOWS));
        for flow in 0..FLOWS {
            cache.insert(key(flow), Value::default());
        }
        let mut flows = mixed(percent).0;
        flows.truncate(UPDATES / 4);
        bencher.counter(ItemsCount::new(flows.len())).bench_local(|| {
            for flow in &flows {
                let mut value: Value = cache.get(&key(*flow)).unwrap_or_default();
                value.add(1);
                cache.insert(key(*flow), value);
            }
        });
    }
}
