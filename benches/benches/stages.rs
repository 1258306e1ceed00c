//! `cargo bench -p flow-benches`: the parser, which runs for every packet, and
//! the labels of rows.
//! Needs no privilege. One core; the median is what counts.

use divan::Bencher;
use divan::counter::ItemsCount;
use flow_benches::tcp_frame;
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

/// What it costs to label a batch of 50,000 rows whose ends are among so many hosts, with the
/// caches that are on by default, and with places, too.
#[divan::bench(args = [(100, false), (10_000, false), (100, true), (10_000, true)], sample_count = 20)]
fn enrich(bencher: Bencher<'_, '_>, (hosts, places): (u32, bool)) {
    let mut enriched = flow_benches::Enriched::new(hosts, places);
    bencher
        .counter(ItemsCount::new(enriched.rows()))
        .bench_local(|| divan::black_box(enriched.label()));
}
