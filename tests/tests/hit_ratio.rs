//! On captures the cache at its default limits finds nearly all the open flows that one without a
//! limit of flows finds, and nearly all that one finds which has no timeouts either.
//!
//! On a capture built here, and on every real capture there is ([`corpus::folder`]).

use std::path::Path;
use std::time::Duration;

use flow_agent::cache::{Counter, Timeouts};
use flow_agent::replay::CaptureMeter;
use flow_agent::replay::capture::Capture;
use flow_tests::corpus;

/// The documented default of `max_flows`.
const DEFAULT_FLOWS: usize = 1_000_000;
/// No cache ever holds as many.
const UNBOUNDED: usize = usize::MAX / 2;

/// Hits and misses of a capture; none if it is of a kind that is not metered.
fn updates(path: &Path, max_flows: usize, timeouts: Timeouts) -> Option<[u64; 2]> {
    let mut meter = CaptureMeter::new(max_flows, timeouts, false);
    let mut capture = Capture::open(path, "capture").ok()?;
    // What comes before a damage counts.
    let _ = meter.capture(
        &mut capture,
        |_| (),
        |records, _| {
            records.clear();
            Ok(())
        },
    );
    let counts = meter.stats().counts;
    Some([Counter::Hits, Counter::Misses].map(|counter| counts.get(counter)))
}

/// A capture of 300 flows that speak for three minutes, with pauses, a few of them too long.
fn build(folder: &Path) {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101] {
        file.extend(word.to_le_bytes());
    }
    for tenth in 0..1800u32 {
        for flow in (0..300u32).filter(|flow| (tenth + flow * 7) % (5 + flow / 2 % 150) == 0) {
            let mut packet = [0; 28];
            packet[..4].copy_from_slice(&[0x45, 0, 0, 28]);
            (packet[8], packet[9]) = (64, 17);
            packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
            packet[16..20].copy_from_slice(&[10, 0, 1, 1]);
            packet[20..22].copy_from_slice(&(40_000 + flow as u16).to_be_bytes());
            packet[22..26].copy_from_slice(&[0, 53, 0, 8]);
            for word in [tenth / 10, tenth % 10 * 100_000, 28, 28] {
                file.extend(word.to_le_bytes());
            }
            file.extend(packet);
        }
    }
    std::fs::write(folder.join("built.pcap"), file).expect("our folder");
}

fn defaults_reach_99_percent(folder: &Path) {
    let forever = Duration::from_hours(24 * 365);
    let no_timeouts = Timeouts { idle: forever, active: forever, ..Timeouts::default() };
    let (mut sums, mut metered) = ([[0; 2]; 3], 0);
    for path in corpus::captures(folder) {
        let ways = [
            updates(&path, DEFAULT_FLOWS, Timeouts::default()),
            updates(&path, UNBOUNDED, Timeouts::default()),
            updates(&path, UNBOUNDED, no_timeouts),
        ];
        metered += usize::from(ways[0].is_some());
        for (sum, counts) in sums.iter_mut().zip(ways) {
            let [hits, misses] = counts.unwrap_or_default();
            sum[0] += hits;
            sum[1] += misses;
        }
    }
    let [default, unbounded, timeless] =
        sums.map(|[hits, misses]| hits as f64 / (hits + misses) as f64);
    println!("{metered} captures, {sums:?}: {default:.5}, {unbounded:.5}, {timeless:.5}");
    // Every update is a hit or a miss, however large the cache.
    let all = sums.map(|sum| sum.iter().sum::<u64>());
    assert!(metered > 0 && all[0] > 0 && all[0] == all[1] && all[0] == all[2], "{all:?}");
    assert!(default >= 0.99 * unbounded, "{default} of {unbounded}");
    assert!(default >= 0.97 * timeless, "{default} of {timeless}");
}

#[test]
fn on_a_capture_built_here_defaults_reach_99_percent_of_an_unbounded_cache() {
    let folder = tempfile::tempdir().expect("a folder");
    build(folder.path());
    defaults_reach_99_percent(folder.path());
}

#[test]
fn on_real_captures_defaults_reach_99_percent_of_an_unbounded_cache() {
    // Where there are none, the captures that the replay tests build.
    let built = tempfile::tempdir().expect("a folder");
    let folder = corpus::folder().unwrap_or_else(|| {
        let frames = flow_tests::wild::frames(&mut flow_tests::wild::Dice::new(4), 1, 5_000);
        std::fs::write(built.path().join("wild.pcap"), flow_tests::wild::pcap(1, &frames))
            .expect("our folder");
        built.path().to_owned()
    });
    defaults_reach_99_percent(&folder);
}
