//! `cargo bench -p flow-benches`: the parser, which runs for every packet.
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
