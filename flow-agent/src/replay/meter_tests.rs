//! The same packets give the same records, however many threads and lanes there are.

use std::collections::BTreeMap;
use std::io::Write;

use flow_common::Count;
use flow_common::random::SplitMix64;

use super::*;
use crate::ledger::Entry;

/// A capture of IPv4 packets without a link header: TCP with repeats, UDP, ICMP, fragments and
/// tunnels. The clock is steady, or now and then jumps ahead, or a little back. Frames of `padding`
/// octets more make blocks of fewer packets.
fn capture(packets: usize, hosts: u64, padding: usize, steady: bool) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a folder for temporary files");
    let mut octets = Vec::new();
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 65_535, 101] {
        octets.extend(word.to_le_bytes());
    }
    let mut random = SplitMix64::new(8);
    let mut time_ns = 1_700_000_000_000_000_000_u64;
    for number in 0..packets {
        let mut below = |limit: u64| random.next() % limit;
        time_ns += below(200_000);
        let (jump, back) = (below(5_000) == 0, below(2) * below(3_000_000));
        if jump && !steady {
            time_ns += below(20) * 1_000_000_000;
        }
        let shown_ns = if steady { time_ns } else { time_ns - back };
        let (a, b) = (below(hosts) as u16, below(3) as u16);
        let (src, dst) = if below(2) == 0 { (a, 1000 + b) } else { (1000 + b, a) };
        let protocol = [6, 6, 6, 17, 17, 1, 47, 132][below(8) as usize];
        // More fragments, or an offset; identifications come again.
        let fragment = [0, 0, 0, 0x2000, 0x2001, 0x0002][below(6) as usize] as u16;
        let mut packet = vec![0x45, 0, 0, 0];
        packet.extend((below(50) as u16).to_be_bytes());
        packet.extend(fragment.to_be_bytes());
        packet.extend([60 + below(4) as u8, protocol, 0, 0, 10, 0]);
        packet.extend(src.to_be_bytes());
        packet.extend([10, 0]);
        packet.extend(dst.to_be_bytes());
        let client = 30_000_u16.wrapping_add(a);
        let ports = if src == a { [client, 443] } else { [443, client] };
        match protocol {
            1 => packet.extend([[0, 8][below(2) as usize], 0, 0, 0, 0, 1, 0, 1]),
            // GRE with a small IPv4 packet in it.
            47 => {
                packet.extend([0, 0, 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
                packet.extend([192, 168, 0, a as u8, 192, 168, 1, b as u8]);
                packet.extend([0x75, 0x30, 0, 53, 0, 8, 0, 0]);
            }
            _ => {
                packet.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
                packet.extend((below(40) as u32 * 100).to_be_bytes());
                let flags = [0x10, 0x10, 0x10, 0x18, 0x02, 0x12, 0x11, 0x04][below(8) as usize];
                packet.extend([0, 0, 0, 1, 0x50, flags, 0, 0, 0, 0, 0, 0]);
                packet.resize(packet.len() + 100, 0);
            }
        }
        packet.resize(packet.len() + padding, number as u8);
        let total = packet.len() as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        let (seconds, rest) = (shown_ns / 1_000_000_000, shown_ns % 1_000_000_000);
        for word in [seconds as u32, rest as u32, u32::from(total), u32::from(total)] {
            octets.extend(word.to_le_bytes());
        }
        octets.extend(packet);
    }
    file.write_all(&octets).expect("room for it");
    file
}

/// All records in the order they came, and the books.
fn metered(
    file: &tempfile::NamedTempFile,
    max_flows: usize,
    decapsulate: bool,
    threads: usize,
) -> (Vec<FlowRecord>, BTreeMap<Entry, Count>) {
    let threads = NonZeroUsize::new(threads).expect("some");
    let mut meter =
        CaptureMeter::new(max_flows, Timeouts::default(), decapsulate).with_threads(threads);
    let mut all = Vec::new();
    let mut take = |records: &mut Vec<FlowRecord>, _: &[Arc<str>]| {
        all.append(records);
        Ok(())
    };
    // Twice: flows go on from one capture to the next.
    for _ in 0..2 {
        let mut capture = Capture::open(file.path(), "made").expect("a capture");
        meter.capture(&mut capture, |_| (), &mut take).expect("metered");
    }
    meter.finish(&mut take).expect("kept");
    let ledger = Ledger::default();
    meter.post(&ledger);
    (all, ledger.totals())
}

fn sorted(mut records: Vec<FlowRecord>) -> Vec<FlowRecord> {
    records.sort_by_key(crate::replay::lines::key);
    records
}

#[test]
fn records_and_their_order_do_not_depend_on_the_threads() {
    let file = capture(60_000, 500, 40, false);
    assert!(file.path().metadata().expect("there").len() > 8 << 20, "several rounds");
    for decapsulate in [false, true] {
        let one = metered(&file, 1 << 20, decapsulate, 1);
        assert!(one.0.len() > 1_000, "{}", one.0.len());
        for threads in [2, 3, 16] {
            assert!(metered(&file, 1 << 20, decapsulate, threads) == one, "{threads} threads");
        }
    }
}

/// One lane is one cache of flows, as a shard of the live agent is: all lanes together must be the
/// same. (Where the clock goes back, who is found idle at the last moment may differ.)
#[test]
fn lanes_together_give_the_records_that_one_gives() {
    let file = capture(300_000, 300, 0, true);
    for decapsulate in [false, true] {
        let (one, books) = metered(&file, LEAST_SHARED_FLOWS - 1, decapsulate, 2);
        let (many, same_books) = metered(&file, LEAST_SHARED_FLOWS, decapsulate, 2);
        assert_eq!(books, same_books);
        assert!(one.iter().any(|record| record.retransmits > 0));
        assert_eq!(sorted(one), sorted(many));
    }
}

#[test]
fn no_more_flows_are_open_than_there_is_room_for() {
    let file = capture(150_000, 60_000, 0, true);
    let (most, mut seen) = (LEAST_SHARED_FLOWS, 0);
    let limited = metered(&file, most, false, 2);
    assert!(metered(&file, most, false, 3) == limited);
    let mut meter = CaptureMeter::new(most, Timeouts::default(), false);
    let mut capture = Capture::open(file.path(), "made").expect("a capture");
    meter
        .capture(
            &mut capture,
            |_| (),
            |records, _| {
                seen += records.iter().map(FlowRecord::total_packets).sum::<u64>();
                records.clear();
                Ok(())
            },
        )
        .expect("metered");
    let stats = meter.stats();
    assert!(stats.flows <= most as u64, "{stats:?}");
    assert!(stats.counts.evictions() > 0, "{stats:?}");
    meter
        .finish(|records, _| {
            seen += records.iter().map(FlowRecord::total_packets).sum::<u64>();
            Ok(())
        })
        .expect("kept");
    let ledger = Ledger::default();
    meter.post(&ledger);
    assert_eq!(ledger.totals()[&Entry::Drained].packets, seen);
}

#[test]
fn nothing_goes_on_when_records_cannot_be_kept() {
    let file = capture(60_000, 500, 40, false);
    let mut meter = CaptureMeter::new(1 << 20, Timeouts::default(), false);
    let mut capture = Capture::open(file.path(), "made").expect("a capture");
    let refused = meter.capture(
        &mut capture,
        |_| (),
        |_, _| Err(ReplayError::Interfaces { file: "made".into() }),
    );
    assert!(matches!(refused, Err(ReplayError::Interfaces { .. })));
}
