//! `cargo bench -p flow-benches --bench spool`: what a batch costs in the spool, and what a
//! checksum and lz4 of it would cost. Needs no privilege; `TMPDIR` says which disk is measured.
//!
//! Batches of 50,000 rows and 8 MB go in, are handed out and acknowledged, as while the store
//! keeps up; then 64 of them go in while nothing leaves, and are read back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flow_agent::frozen::{FrozenBatch, Table};
use flow_agent::spool::{Fsync, Spool, SpoolReader, SpoolSettings, SpoolWriter, Waits};
use flow_common::Count;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use uuid::Uuid;

const ROWS: u32 = 50_000;
const OCTETS_PER_ROW: usize = 160;
const BATCHES: u32 = 64;

fn main() {
    let blocks = block();
    println!("one batch: {ROWS} rows, {} octets", blocks.len());
    let checksum = measure(20, |_| {
        let mut crc = flate2::Crc::new();
        crc.update(&blocks);
        std::hint::black_box(crc.sum());
    });
    tell("checksum", &checksum);
    let packed = lz4_flex::block::compress(&blocks).len();
    let lz4 = measure(20, |_| drop(std::hint::black_box(lz4_flex::block::compress(&blocks))));
    tell(&format!("lz4, to {} %", packed * 100 / blocks.len()), &lz4);
    for fsync in Fsync::ALL {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = SpoolSettings {
            dir: Some(folder.path().join("spool")),
            fsync,
            ..SpoolSettings::default()
        };
        through(&settings, &blocks);
    }
}

fn through(settings: &SpoolSettings, blocks: &bytes::Bytes) {
    let label = settings.fsync.label();
    let (_stop, stopping) = watch::channel(false);
    let waits = Waits { stopping, patience: Duration::ZERO };
    let (mut writer, mut reader, _) = Spool::open(settings, waits).expect("a spool");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let append = |writer: &mut SpoolWriter, number| {
        assert!(writer.append(batch(number, blocks)).kept.is_some());
    };
    let next = |reader: &mut SpoolReader| runtime.block_on(reader.next()).expect("it waits");
    let steady = measure(BATCHES, |number| {
        append(&mut writer, number);
        next(&mut reader).acknowledge();
    });
    tell(&format!("{label}: append, hand out, acknowledge"), &steady);
    let outage = measure(BATCHES, |number| append(&mut writer, BATCHES + number));
    tell(&format!("{label}: append in an outage"), &outage);
    let read = measure(BATCHES, |_| next(&mut reader).acknowledge());
    tell(&format!("{label}: hand out and acknowledge after it"), &read);
    let figures = reader.status().figures().expect("a spool");
    println!(
        "  {} syncs of {:.1} ms",
        figures.syncs,
        figures.sync_seconds * 1e3 / figures.syncs.max(1) as f64
    );
}

/// Wall and CPU time of this thread of each call.
fn measure(times: u32, mut work: impl FnMut(u32)) -> Vec<(Duration, Duration)> {
    let measured = (0..times).map(|number| {
        let (wall, cpu) = (Instant::now(), cpu_time());
        work(number);
        (wall.elapsed(), cpu_time().saturating_sub(cpu))
    });
    measured.collect()
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn tell(what: &str, measured: &[(Duration, Duration)]) {
    let middle = |value: fn(&(Duration, Duration)) -> Duration| {
        let mut values: Vec<_> = measured.iter().map(value).collect();
        values.sort();
        (values[values.len() / 2], values[values.len() - 1])
    };
    let ((wall, longest), (cpu, _)) = (middle(|both| both.0), middle(|both| both.1));
    let per_row = |time: Duration| time.as_nanos() / u128::from(ROWS);
    println!(
        "{what:<48} {:>7.2} ms (longest {:>7.2}), {:>4} ns a row; CPU {:>4} ns a row",
        wall.as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3,
        per_row(wall),
        per_row(cpu)
    );
}

fn batch(number: u32, block: &bytes::Bytes) -> Arc<FrozenBatch> {
    let count = Count { packets: 400_000, octets: 200_000_000 };
    Arc::new(FrozenBatch {
        id: Uuid::from_u128(u128::from(number)),
        table: Table::Flows,
        exported_at: number,
        rows: ROWS,
        counts: vec![("eth0".into(), count), ("eth1".into(), count)],
        block: block.clone(),
    })
}

/// Columns as flows have them: times that grow, mapped addresses, ports, small counters, zeros.
fn block() -> bytes::Bytes {
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let mut block = Vec::with_capacity(ROWS as usize * OCTETS_PER_ROW);
    let mut column = |value: &mut dyn FnMut(u64) -> Vec<u8>| {
        for row in 0..u64::from(ROWS) {
            block.extend(value(row));
        }
    };
    let start = 1_800_000_000_000_000_000u64;
    for _ in 0..2 {
        column(&mut |row| (start + row * 20_000 + random() % 1_000_000).to_le_bytes().to_vec());
    }
    for _ in 0..2 {
        column(&mut |_| {
            let mut address = vec![0; 16];
            address[10..12].fill(0xff);
            address[12..].copy_from_slice(&(0x0a00_0000 + random() as u32 % 4096).to_be_bytes());
            address
        });
        column(&mut |_| (random() as u16).to_le_bytes().to_vec());
    }
    for most in [20, 30_000, 20, 30_000] {
        column(&mut |_| (random() % most).to_le_bytes().to_vec());
    }
    let rest = OCTETS_PER_ROW - 16 - 36 - 32;
    column(&mut |_| {
        let mut others = vec![0; rest];
        others[0] = random() as u8 % 3;
        others[8..11].copy_from_slice(&(random() as u32).to_le_bytes()[..3]);
        others
    });
    block.into()
}
