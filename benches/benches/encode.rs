//! `cargo bench -p flow-benches --bench encode`: what it costs to freeze records and their labels
//! as one block, and to find a flow in it. Needs no privilege. One core; the median is what
//! counts.

use divan::Bencher;
use divan::counter::ItemsCount;
use flow_agent::bench::rows;
use flow_agent::enrich::BatchLabels;
use flow_agent::frozen::FrozenBatch;
use flow_agent::record::FlowRecord;
use uuid::Uuid;

const NOW_NS: u64 = 1_700_000_000_000_000_000;

fn main() {
    divan::main();
}

fn freeze(records: &[FlowRecord], labels: &BatchLabels) -> FrozenBatch {
    FrozenBatch::of_flows(records, labels, &rows::names(), Uuid::nil(), 1_700_000_000)
}

/// Records with services, units and places.
#[divan::bench(args = [1_000, 50_000, 200_000, 500_000], sample_count = 20)]
fn encode(bencher: Bencher<'_, '_>, count: usize) {
    let records = rows::records(count, 17, NOW_NS);
    let labels = rows::labels(&records);
    bencher
        .counter(ItemsCount::new(count))
        .bench_local(|| freeze(divan::black_box(&records), &labels));
}

/// Records of which nothing else is known: services by the built-in table.
#[divan::bench(args = [50_000], sample_count = 20)]
fn encode_unlabelled(bencher: Bencher<'_, '_>, count: usize) {
    let records = rows::records(count, 17, NOW_NS);
    bencher
        .counter(ItemsCount::new(count))
        .bench_local(|| freeze(divan::black_box(&records), &BatchLabels::default()));
}

/// One flow among the rows of a batch.
#[divan::bench(args = [50_000], sample_count = 20)]
fn find(bencher: Bencher<'_, '_>, count: usize) {
    let records = rows::records(count, 17, NOW_NS);
    let batch = freeze(&records, &rows::labels(&records));
    let (src, port) = (records[count / 2].src, records[count / 2].src_port);
    bencher
        .counter(ItemsCount::new(count))
        .bench_local(|| batch.find(9, |key| key.src == src && key.src_port == port));
}
