//! The spool on a real disk that is full: a small tmpfs of its own, so root is needed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flow_agent::frozen::{FrozenBatch, Table};
use flow_agent::spool::{
    Appended, Fsync, Full, Kept, LossReason, Recovered, Spool, SpoolError, SpoolReader,
    SpoolSettings, SpoolWriter, Waits,
};
use flow_common::Count;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use uuid::Uuid;

const MIB: u64 = 1 << 20;

/// A tmpfs; unmounted when dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn new(mib: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let size = std::ffi::CString::new(format!("size={mib}m")).expect("no zero in it");
        mount("flow-spool-test", folder.path(), "tmpfs", MountFlags::empty(), Some(&*size))
            .expect("these tests need root");
        Self { folder }
    }

    fn resize(&self, mib: u64) {
        let size = std::ffi::CString::new(format!("size={mib}m")).expect("no zero in it");
        mount_remount(self.folder.path(), MountFlags::empty(), &*size).expect("ours");
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.folder.path(), UnmountFlags::DETACH);
    }
}

/// 1 MiB; its packets are its number.
fn batch(number: u32) -> Arc<FrozenBatch> {
    let count = Count { packets: number.into(), octets: u64::from(number) * 100 };
    Arc::new(FrozenBatch {
        id: Uuid::from_u128(u128::from(number)),
        table: Table::Flows,
        exported_at: number,
        rows: 1,
        counts: vec![("eth0".into(), count)],
        block: vec![number as u8; MIB as usize].into(),
    })
}

struct Spooling {
    writer: SpoolWriter,
    reader: SpoolReader,
    recovered: Recovered,
    runtime: Runtime,
    _stop: watch::Sender<bool>,
}

fn open(disk: &Disk, full: Full, memory_mib: u64) -> Result<Spooling, SpoolError> {
    let settings = SpoolSettings {
        dir: Some(disk.path().join("agent/spool")),
        max_octets: 1 << 30,
        memory_octets: memory_mib * MIB,
        full,
        fsync: Fsync::Always,
        segment_octets: 4 * MIB,
    };
    let (stop, stopping) = watch::channel(false);
    let waits = Waits { stopping, patience: Duration::ZERO };
    let (writer, reader, recovered) = Spool::open(&settings, waits)?;
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    Ok(Spooling { writer, reader, recovered, runtime, _stop: stop })
}

impl Spooling {
    fn append(&mut self, number: u32) -> Appended {
        self.writer.append(batch(number))
    }

    fn batches(&self) -> u64 {
        self.reader.status().figures().expect("a spool").batches
    }

    /// Acknowledges all; their numbers.
    fn drain(&mut self) -> Vec<u32> {
        let mut numbers = Vec::new();
        while self.batches() > 0 {
            let pending = self.runtime.block_on(self.reader.next()).expect("it waits");
            assert_eq!(pending.batch, batch(pending.batch.exported_at));
            numbers.push(pending.batch.exported_at);
            pending.acknowledge();
        }
        numbers
    }
}

#[test]
fn a_full_disk_fills_the_memory_and_everything_is_there_when_it_has_room_again() {
    let disk = Disk::new(16);
    let mut spool = open(&disk, Full::DropNewest, 4).expect("a spool");
    let mut kept = Vec::new();
    let mut lost = 0;
    for number in 1..=30 {
        let appended = spool.append(number);
        kept.extend(appended.kept.map(|kept| (number, kept)));
        lost += appended.lost.of(LossReason::FullNewest).total().packets;
        assert_eq!(appended.lost.total(), appended.lost.of(LossReason::FullNewest));
    }
    let on = |place| kept.iter().filter(move |(_, kept)| *kept == place).count();
    assert!((12..16).contains(&on(Kept::Disk)), "{kept:?}");
    assert_eq!(on(Kept::Memory), 4, "{kept:?}");
    let sum: u64 = kept.iter().map(|(number, _)| u64::from(*number)).sum();
    assert_eq!(sum + lost, (1..=30).sum::<u64>(), "what is not kept is counted");

    // Another agent is refused meanwhile, and a killed one leaves what is on the disk.
    assert!(matches!(open(&disk, Full::DropNewest, 4), Err(SpoolError::Locked { .. })));
    disk.resize(64);
    assert_eq!(spool.append(31).kept, Some(Kept::Disk));
    let figures = spool.reader.status().figures().expect("a spool");
    assert_eq!((figures.only_in_memory, figures.trouble), (0, None));
    drop(spool);
    let mut spool = open(&disk, Full::DropNewest, 4).expect("a spool");
    assert!(spool.recovered.lost.is_empty());
    let mut expected: Vec<_> = kept.iter().map(|(number, _)| *number).chain([31]).collect();
    assert_eq!(spool.recovered.waiting.batches, expected.len() as u64);
    let mut found = spool.drain();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn the_oldest_make_room_on_a_full_disk() {
    let disk = Disk::new(16);
    let mut spool = open(&disk, Full::DropOldest, 4).expect("a spool");
    let mut lost = 0;
    for number in 1..=60 {
        let appended = spool.append(number);
        assert!(appended.kept.is_some(), "{number}");
        lost += appended.lost.of(LossReason::FullOldest).total().packets;
        assert_eq!(appended.lost.total(), appended.lost.of(LossReason::FullOldest));
    }
    let found = spool.drain();
    assert!(found.contains(&60) && !found.contains(&1), "{found:?}");
    let sum: u64 = found.iter().map(|number| u64::from(*number)).sum();
    assert_eq!(sum + lost, (1..=60).sum::<u64>(), "each is delivered or counted");
}

#[test]
fn a_folder_that_cannot_be_made_is_refused_with_what_to_do() {
    let disk = Disk::new(1);
    std::fs::write(disk.path().join("agent"), "a file").expect("ours");
    let error = open(&disk, Full::Block, 1).err().expect("no folder").to_string();
    assert!(error.contains("agent/spool") && error.contains("--spool-dir"), "{error}");
}
