//! `cargo bench -p flow-benches`: the parser, which runs for every packet, the
//! analytics and the labels of rows.
//! Needs no privilege. One core; the median is what counts.

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use flow_agent::analytics::{Analytics, AnalyticsConfig, Engine, LinkState, mapped};
use flow_agent::names::Names;
use flow_benches::{records, tcp_frame};
use flow_common::{Link, Options, parse};

fn main() {
    divan::main();
}

/// The parser on the host; in the kernel the same source runs as BPF.
#[divan::bench(args = [0, 1, 4])]
fn parse_tcp(bencher: Bencher<'_, '_>, vlan_tags: usize) {
    let frame = tcp_frame(vlan_tags);
    bencher.counter(ItemsCount::new(1u32)).bench(|| {
        let frame = divan::black_box(&frame[..]);
        parse(frame, Link::Ethernet, frame.len() as u32, None, Options::default())
    });
}

/// Every detector looking at the records of a busy server: 64k clients, a few of them silent.
#[divan::bench(sample_count = 20)]
fn analytics_observe(bencher: Bencher<'_, '_>) {
    let (records, names) = (records(100_000), Names::new("host", &["eth0"]));
    let config = AnalyticsConfig::default();
    let mut now_ns = records[0].end_ns;
    let mut engine = Engine::new(config, now_ns);
    let link = LinkState {
        name: "eth0".into(),
        addresses: vec![(mapped([10, 0, 0, 1].into()), 112)],
        ..LinkState::default()
    };
    engine.set_network(&[link], now_ns);
    bencher.counter(ItemsCount::new(records.len())).bench_local(|| {
        now_ns += 1_000_000_000;
        engine.observe(divan::black_box(&records), &names, now_ns);
        engine.tick(now_ns);
        engine.take()
    });
}

/// What showing a batch to the analytics costs the batcher, of 50,000 records.
#[divan::bench(sample_count = 100)]
fn analytics_tap(bencher: Bencher<'_, '_>) {
    let config = AnalyticsConfig { enabled: true, ..AnalyticsConfig::default() };
    let (analytics, tap, rows) = Analytics::start(config, || 1).expect("a thread");
    let (records, names) = (Arc::new(records(50_000)), Arc::new(Names::new("host", &["eth0"])));
    bencher.counter(ItemsCount::new(records.len())).bench_local(|| {
        tap.show(divan::black_box(&records), &names, 1);
    });
    drop((tap, rows));
    analytics.finish();
}

/// What it costs to label a batch of 50,000 rows whose ends are among so many hosts, with the
/// caches that are on by default, and with places, too.
#[divan::bench(args = [(100, false), (10_000, false), (100, true), (10_000, true)], sample_count = 20)]
fn enrich(bencher: Bencher<'_, '_>, (hosts, places): (u32, bool)) {
    let mut enriched = flow_benches::Enriched::new(hosts, places);
    bencher
        .counter(ItemsCount::new(enriched.rows()))
        .bench_local(|| divan::black_box(enriched.label()));
}
