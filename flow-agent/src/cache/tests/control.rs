//! The handle, asked from many threads while updates run.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::unbounded;

use super::super::control::CacheControl;
use super::super::{
    Cache, CacheConfig, Counter, FlowQuery, Limits, Mode, Selection, StatsLevel, Timeouts,
    Unanswered,
};
use crate::bench::updates::{Choice, START_NS, choose, updates};
use crate::latency::Latency;
use crate::record::FlowRecord;

const PATIENCE: Duration = Duration::from_secs(60);

fn start(shards: usize) -> (Cache, crossbeam::channel::Receiver<Vec<FlowRecord>>) {
    let config = CacheConfig {
        shards,
        limits: Limits::new(10_000, Timeouts::default()),
        level: StatsLevel::Full,
        hot_flows: 5,
        seed: 3,
    };
    let (sender, records) = unbounded();
    let cache = Cache::start(&config, &sender, &Latency::default()).expect("threads");
    (cache, records)
}

/// Has every shard take these updates; returns how many packets that were.
fn feed(control: &CacheControl, seed: u64) -> u64 {
    let fed = control.ask(PATIENCE, move |shard, out, _| {
        let flows = choose(Choice::Zipf, 5000, 2000, seed);
        shard.update_all(updates(&flows, START_NS, 1_000_000), out);
        flows.len() as u64
    });
    fed.expect("answered").into_iter().sum()
}

#[test]
fn a_hundred_threads_ask_and_change_while_updates_run_and_no_packet_is_lost() {
    let (cache, records) = start(2);
    let (control, fed) = (cache.control(), AtomicU64::new(0));
    let (running, told) = (AtomicBool::new(true), Arc::new(AtomicU64::new(0)));
    let hook = Arc::clone(&told);
    control.on_invalidation(Box::new(move |_, _, done| {
        hook.fetch_add(done.packets, Ordering::Relaxed);
    }));
    let removed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seed = 0;
            while running.load(Ordering::Relaxed) {
                fed.fetch_add(feed(&control, seed), Ordering::Relaxed);
                cache.expire(START_NS + seed, 5);
                seed += 1;
            }
        });
        let askers: Vec<_> = (0..100u32)
            .map(|thread| {
                let (control, removed) = (control.clone(), &removed);
                scope.spawn(move || {
                    for request in 0..100u32 {
                        let sum = ask(&control, thread, request);
                        removed.fetch_add(sum, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for asker in askers {
            asker.join().expect("no thread fails");
        }
        running.store(false, Ordering::Relaxed);
    });
    let removed = removed.into_inner();
    assert!(removed > 0);
    let stats: Vec<_> = cache.stop();
    // Told is also what was done for those who found one queue full and the other not.
    let told = told.load(Ordering::Relaxed);
    assert!(told >= removed, "{told} {removed}");
    assert_eq!(stats.iter().map(|shard| shard.flows).sum::<u64>(), 0);
    let packets: u64 = records.try_iter().flatten().map(|r| r.total_packets()).sum();
    assert_eq!(packets, fed.into_inner());
    assert!(control.find(&query(1), PATIENCE).is_err(), "it has ended, and nobody waits");
}

/// One request of one kind or another; returns how many packets it invalidated.
fn ask(control: &CacheControl, thread: u32, request: u32) -> u64 {
    // So many may find the queue full; then they ask again.
    let invalidate = |selection: &Selection, mode| loop {
        match control.invalidate(selection, mode, PATIENCE) {
            Ok(done) => return done.packets,
            Err(error) => {
                assert!(is_crowded(error), "{error}");
                std::thread::yield_now();
            }
        }
    };
    match (thread + request) % 8 {
        0 => invalidate(&Selection::Key(query(request)), Mode::Soft),
        1 => invalidate(&Selection::Interface(1 + (request % 2) as u16), Mode::Hard),
        2 => {
            control.resize(1 + request as usize * 20);
            0
        }
        3 => {
            control.set_level(StatsLevel::ALL[request as usize % 3]);
            0
        }
        4 => {
            match control.details(PATIENCE) {
                Ok(details) => {
                    let packets = details.hot_flows.iter().map(|flow| flow.packets);
                    assert!(packets.len() <= 5 && packets.is_sorted_by(|a, b| a >= b));
                    assert!(details.idle_ms.len() == details.age_ms.len());
                    assert!(details.idle_ms.len() <= 10_000);
                }
                Err(error) => assert!(is_crowded(error), "{error}"),
            }
            0
        }
        5 => {
            let found = control.find(&query(request), PATIENCE).unwrap_or_default();
            assert!(found.iter().all(|record| record.dst_port == 443));
            0
        }
        _ => {
            let stats = control.stats();
            assert!(stats.sum.flows <= 10_000 && stats.shards == 2);
            0
        }
    }
}

fn is_crowded(error: Unanswered) -> bool {
    matches!(error, Unanswered::Crowded | Unanswered::PartlyCrowded { .. })
}

fn query(flow: u32) -> FlowQuery {
    let (src, dst) = (IpAddr::from(flow.to_be_bytes()), IpAddr::from([10, 0, 0, 1]));
    FlowQuery { src, dst, src_port: None, dst_port: Some(443), protocol: Some(17) }
}

#[test]
fn it_finds_invalidates_and_resizes_what_is_open() {
    let (cache, records) = start(1);
    let control = cache.control();
    control
        .ask(PATIENCE, |shard, out, _| {
            let flows: Vec<u32> = (0..9000).collect();
            shard.update_all(updates(&flows, START_NS, 1000), out);
        })
        .expect("answered");
    let found = control.find(&query(77), PATIENCE).expect("answered");
    assert_eq!((found.len(), found[0].packets), (1, 1));
    let version = |version: &str| {
        let selection = Selection::Version(version.into());
        control.invalidate(&selection, Mode::Soft, PATIENCE).expect("answered").flows
    };
    assert_eq!((version("0.0.0"), version(env!("CARGO_PKG_VERSION"))), (0, 9000));
    let prefix = Selection::Prefix("0.0.0.0/30".parse().expect("a prefix"));
    let done = control.invalidate(&prefix, Mode::Hard, PATIENCE).expect("answered");
    assert_eq!((done.flows, done.packets), (4, 0), "their packets have been emitted");
    control.resize(100);
    // Steps of shedding come before the next answer, or after it.
    while control.stats().sum.flows > 100 {
        control.details(PATIENCE).expect("answered");
    }
    let stats = control.stats().sum;
    assert_eq!((stats.flows, stats.max_flows), (100, 100));
    assert_eq!(stats.counts.get(Counter::EvictedResize), 8896);
    assert_eq!((stats.counts.get(Counter::Misses), stats.counts.get(Counter::Hits)), (9000, 0));
    assert!(stats.bytes > 100 * 192);
    drop(cache.stop());
    let packets: u64 = records.try_iter().flatten().map(|r| r.total_packets()).sum();
    assert_eq!(packets, 9000);
}
