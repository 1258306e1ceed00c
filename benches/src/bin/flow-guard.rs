//! What `cargo xtask guard` counts the instructions of: hot functions, each on the same work
//! every time, one after the other. Under callgrind only what [`collected`] calls is counted.
//!
//! Nothing here depends on time, on random numbers of the system or on the machine. Prints one
//! line for each: its name and how many units of work were done, in the order of the counts.

use std::hint::black_box;
use std::time::Duration;

use flow_agent::bench::rows;
use flow_agent::bench::updates::{START_NS, update, updates};
use flow_agent::cache::{Limits, Shard, Timeouts};
use flow_agent::enrich::BatchLabels;
use flow_agent::frozen::FrozenBatch;
use flow_agent::record::FlowRecord;
use flow_agent::spool::{Fsync, Spool, SpoolSettings, Waits};
use flow_benches::{ipv4_udp_frame, ipv6_udp_frame, tcp_frame};
use flow_common::hash::{flow_hash, keys_from};
use flow_common::{Link, Options, parse};
use tokio::sync::watch;
use uuid::Uuid;

const SEED: u64 = 7;
const FLOWS: u32 = 1000;
const PARSED: u32 = 1000;
const ROWS: usize = 2000;
const APPENDED: u32 = 16;

fn main() {
    parser();
    hash();
    cache();
    batch_and_spool();
}

/// The only function whose instructions, and those of what it calls, are counted.
#[inline(never)]
fn collected(work: &mut dyn FnMut()) {
    work();
    // So that the call of the work is not the last thing here, which would end this function
    // before it.
    black_box(());
}

fn count(name: &str, units: u32, mut work: impl FnMut()) {
    collected(&mut work);
    println!("{name} {units}");
}

fn parser() {
    for (name, frame) in [
        ("parse_ipv4_udp", ipv4_udp_frame()),
        ("parse_ipv6_udp_tagged", ipv6_udp_frame(1)),
        ("parse_ipv4_tcp", tcp_frame(0)),
    ] {
        let octets = frame.len() as u32;
        count(name, PARSED, || {
            for _ in 0..PARSED {
                let frame = black_box(&frame[..]);
                let packet = parse(frame, Link::Ethernet, octets, None, Options::default());
                assert!(black_box(packet).is_ok());
            }
        });
    }
}

fn hash() {
    let keys = keys_from(SEED);
    let key = update(1, START_NS).key;
    for (name, ipv4) in [("hash_ipv4", true), ("hash_ipv6", false)] {
        count(name, PARSED, || {
            for _ in 0..PARSED {
                black_box(flow_hash(black_box(&key), ipv4, |word| black_box(&keys)[word]));
            }
        });
    }
}

fn cache() {
    let flows: Vec<u32> = (0..FLOWS).collect();
    let others: Vec<u32> = (FLOWS..2 * FLOWS).collect();
    let mut out: Vec<FlowRecord> = Vec::with_capacity(2 * FLOWS as usize);
    let mut shard = Shard::new(Limits::new(4 * FLOWS as usize, Timeouts::default()), SEED);
    shard.update_all(updates(&flows, START_NS, 0), &mut out);
    count("cache_update_hit", FLOWS, || {
        shard.update_all(updates(&flows, START_NS + 1, 0), &mut out);
    });
    count("cache_update_miss", FLOWS, || {
        shard.update_all(updates(&others, START_NS + 2, 0), &mut out);
    });
    assert_eq!((shard.len(), out.len()), (2 * FLOWS as usize, 0));
    count("cache_expire", 2 * FLOWS, || shard.expire(START_NS + 3_600_000_000_000, &mut out));
    assert_eq!(out.len(), 2 * FLOWS as usize);
    out.clear();
    // At its limit each new flow makes another one leave.
    let mut full = Shard::new(Limits::new(FLOWS as usize, Timeouts::default()), SEED);
    full.update_all(updates(&flows, START_NS, 0), &mut out);
    let before = out.len();
    count("cache_update_evict", FLOWS, || {
        full.update_all(updates(&others, START_NS + 1, 0), &mut out);
    });
    assert!(out.len() >= before + FLOWS as usize / 2, "{} left", out.len() - before);
}

fn batch_and_spool() {
    let records = rows::records(ROWS, SEED, START_NS);
    let (names, labels) = (rows::names(), BatchLabels::default());
    let freeze = |id: u128| {
        FrozenBatch::of_flows(&records, &labels, &names, Uuid::from_u128(id), 1_700_000_000)
    };
    // The first batch of a process allocates what later ones find.
    drop(freeze(0));
    count("encode_row", ROWS as u32, || drop(black_box(freeze(1))));
    let folder = tempfile::tempdir().expect("a folder");
    let settings = SpoolSettings {
        dir: Some(folder.path().join("spool")),
        fsync: Fsync::Never,
        ..SpoolSettings::default()
    };
    let (_stop, stopping) = watch::channel(false);
    let waits = Waits { stopping, patience: Duration::ZERO };
    let (mut writer, _reader, _) = Spool::open(&settings, waits).expect("a spool");
    let mut batches: Vec<_> = (1..=u128::from(APPENDED)).map(freeze).collect();
    count("spool_append_row", APPENDED * ROWS as u32, || {
        for batch in batches.drain(..) {
            assert!(writer.append(batch).kept.is_some());
        }
    });
}
