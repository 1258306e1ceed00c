//! The spool: it opens whatever its files hold, and hands out nothing that nobody stored.
//!
//! By its first octet an input is either files as nobody writes them, whose checksums are made
//! right so that the octets behind them are read at all, or a list of changes to the files of a
//! real spool. Of the first each batch that is handed out has its id and the checksum of its rows
//! in the files; of the second each is one of the real ones, octet by octet, and comes once.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use flow_agent::frozen::{FrozenBatch, Table};
use flow_agent::fuzz::spool::{checksum, recover, store};
use flow_common::Count;
use uuid::Uuid;

use super::folder::Memory;
use super::{take, take_u16};

/// Where records begin in a segment, after head and sums.
const RECORDS: usize = 12_288;
/// A piece: magic number, kind, length, content, checksum.
const BEFORE_CONTENT: usize = 9;
const MAGICS: [&[u8; 4]; 4] = [b"FHED", b"FSUM", b"FREC", b"FIDX"];

/// See the module.
pub fn run(mut octets: &[u8]) {
    if take(&mut octets) & 1 == 0 { made_up(octets) } else { damaged(octets) }
}

/// Batches that a real spool holds.
fn real() -> Vec<FrozenBatch> {
    (0..6_u32)
        .map(|number| FrozenBatch {
            id: Uuid::from_u128((7 << 76) | (2 << 62) | u128::from(number)),
            table: [Table::Flows, Table::Ledger, Table::Latency][number as usize % 3],
            exported_at: 1_800_000_000 + number,
            rows: number + 1,
            counts: vec![("eth0".into(), Count { packets: 1 << number, octets: 60 << number })],
            block: (0..40 * number + 9)
                .map(|at| (at * 31 + number) as u8)
                .collect::<Vec<_>>()
                .into(),
        })
        .collect()
}

/// Its files: two segments, as the second agent opens one of its own.
fn real_files() -> &'static [(String, Vec<u8>)] {
    static FILES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
        let memory = Memory::default();
        let batches = real();
        for part in batches.chunks(4) {
            let stored = store(Arc::new(memory.clone()), part).expect("nothing refuses");
            assert!(stored, "there is room");
        }
        memory.files()
    });
    &FILES
}

/// A whole spool in the form of the first kind of input.
pub fn made_up_seed() -> Vec<u8> {
    let files = real_files();
    let of = |suffix: &str| &files.iter().find(|(name, _)| name.ends_with(suffix)).expect("one").1;
    let (segment, index) = (of(".spool"), of(".index"));
    let head = segment.iter().take(64).copied().collect::<Vec<_>>();
    let sums: Vec<u8> = segment[4096..4096 + 256].to_vec();
    let mut seed = vec![0];
    for part in [&head[..], &sums, &segment[RECORDS..], index] {
        seed.extend((part.len() as u16).to_le_bytes());
        seed.extend(part);
    }
    seed
}

fn made_up(mut octets: &[u8]) {
    let mut part = || {
        let length = take_u16(&mut octets).min(octets.len());
        let (part, rest) = octets.split_at(length);
        octets = rest;
        part.to_vec()
    };
    let (head, sums, records, index) = (part(), part(), part(), part());
    let mut segment = vec![0; RECORDS];
    for (at, part) in [(0, &head), (4096, &sums), (8192, &sums)] {
        let length = part.len().min(4096);
        segment[at..at + length].copy_from_slice(&part[..length]);
    }
    segment.extend(records);
    let (segment, index) = (sealed(segment), sealed(index));
    let everything = [&segment[..], &index].concat();
    let files = [("00000000.spool".to_owned(), segment), ("00000000.index".to_owned(), index)];
    let memory = Memory::with(files);
    let Ok((batches, recovered)) = recover(Arc::new(memory)) else { return };
    let has = |octets: &[u8]| everything.windows(octets.len()).any(|found| found == octets);
    for batch in &batches {
        assert!(has(batch.id.as_bytes()), "a batch that is in no file");
        assert!(has(&checksum(&batch.block).to_le_bytes()), "rows without their checksum");
        assert!(batch.block.is_empty() || has(&batch.block), "rows that are in no file");
    }
    once(&batches);
    assert!(batches.len() as u64 <= recovered.waiting.batches);
}

/// Makes the checksums right of what looks like a piece, the innermost first.
fn sealed(mut octets: Vec<u8>) -> Vec<u8> {
    let pieces: Vec<usize> = (0..octets.len())
        .filter(|at| MAGICS.iter().any(|magic| octets[*at..].starts_with(*magic)))
        .collect();
    for at in pieces.into_iter().rev() {
        let Some(length) = octets.get(at + 5..at + BEFORE_CONTENT) else { continue };
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let end = at + BEFORE_CONTENT + length;
        if length <= octets.len() && end + 4 <= octets.len() {
            let sum = checksum(&octets[at..end]).to_le_bytes();
            octets[end..end + 4].copy_from_slice(&sum);
        }
    }
    octets
}

fn damaged(mut octets: &[u8]) {
    let mut files = real_files().to_vec();
    while let [what, ..] = *octets {
        octets = &octets[1..];
        let which = usize::from(take(&mut octets)) % files.len();
        let (at, value) = (take_u16(&mut octets), take(&mut octets));
        let length = files[which].1.len();
        let other = files[usize::from(value) % files.len()].1.clone();
        let file = &mut files[which].1;
        // Most of a segment is zeros before its records.
        let at = if length > RECORDS && at & 1 == 0 { RECORDS + at / 2 } else { at };
        let at = at % (length + 1);
        match what % 7 {
            0 if at < length => file[at] ^= value,
            1 => file.truncate(at),
            2 => drop(file.splice(at..at, vec![value; 1 + usize::from(value)])),
            3 => drop(file.drain(at..(at + usize::from(value)).min(length))),
            4 => file.extend_from_slice(&other),
            5 => file.extend_from_within(at..),
            6 => *file = other,
            _ => {}
        }
        if files.iter().map(|(_, octets)| octets.len()).sum::<usize>() > 1 << 20 {
            return;
        }
    }
    let real = real();
    let Ok((batches, recovered)) = recover(Arc::new(Memory::with(files))) else { return };
    for batch in &batches {
        assert!(real.contains(batch), "a batch that nobody stored: {batch:?}");
    }
    once(&batches);
    let told = recovered.waiting.batches + recovered.lost.total().batches;
    assert!(batches.len() as u64 <= told, "handed out and not told");
}

fn once(batches: &[Arc<FrozenBatch>]) {
    let ids: BTreeSet<_> = batches.iter().map(|batch| batch.id).collect();
    assert_eq!(ids.len(), batches.len(), "a batch is handed out twice");
}
