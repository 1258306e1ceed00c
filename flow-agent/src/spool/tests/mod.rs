//! Tests of the spool against a model file system.

mod damage;
mod elsewhere;
mod faults;
mod model;
mod policies;

use std::sync::Arc;
use std::time::Duration;

use flow_common::Count;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use uuid::Uuid;

use self::model::Model;
use super::contents::{Contents, Losses};
use super::file_system::FileSystem;
use super::pending::Pending;
use super::reader::SpoolReader;
use super::recovery::{Recovered, prepare};
use super::settings::{Fsync, Full, SpoolSettings, Waits};
use super::shared::Shared;
use super::writer::SpoolWriter;
use crate::frozen::{FrozenBatch, Table};

/// An open spool, with nothing that runs by itself.
struct Fixture {
    writer: Option<SpoolWriter>,
    reader: SpoolReader,
    recovered: Recovered,
    shared: Arc<Shared>,
    runtime: Runtime,
    stop: watch::Sender<bool>,
}

fn settings(fsync: Fsync) -> SpoolSettings {
    SpoolSettings {
        dir: Some("model".into()),
        max_octets: 1 << 30,
        memory_octets: 1 << 20,
        full: Full::DropOldest,
        fsync,
        segment_octets: 16 << 10,
    }
}

impl Fixture {
    fn open(model: &Model, settings: &SpoolSettings) -> Self {
        Self::of(Some(Arc::new(model.clone())), settings)
    }

    fn of(files: Option<Arc<dyn FileSystem>>, settings: &SpoolSettings) -> Self {
        Self::of_shards(files, settings, &[])
    }

    fn of_shards(
        files: Option<Arc<dyn FileSystem>>,
        settings: &SpoolSettings,
        shards: &[Vec<String>],
    ) -> Self {
        let opened = prepare(settings, files, shards);
        let (shared, recovered) = opened.expect("it opens if it may be read");
        let (stop, stopping) = watch::channel(false);
        let waits = Waits { stopping, patience: Duration::ZERO };
        let writer = SpoolWriter::new(&shared, waits, None).expect("a timer");
        let reader = SpoolReader::new(&shared);
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { writer: Some(writer), reader, recovered, shared, runtime, stop }
    }

    fn writer(&mut self) -> &mut SpoolWriter {
        self.writer.as_mut().expect("not dropped")
    }

    /// The next batch, if one waits.
    fn next(&mut self) -> Option<Pending> {
        while self.shared.core().next_waiting().is_some() {
            let waits = self.reader.next();
            let soon = Duration::from_millis(1);
            // A batch that cannot be read is passed over, and then there may be none.
            let next = self.runtime.block_on(async { tokio::time::timeout(soon, waits).await });
            if let Ok(Some(pending)) = next {
                return Some(pending);
            }
        }
        None
    }

    /// Everything that is handed out.
    fn drain(&mut self) -> Vec<Pending> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// A batch whose packets tell its number among at most 48, on one or two interfaces.
fn batch(number: u32, octets: usize) -> Arc<FrozenBatch> {
    let count = |factor: u64| Count { packets: 1 << number, octets: factor << number };
    let mut counts = vec![("eth0".into(), count(60))];
    if number % 2 == 1 {
        counts.push(("blue/veth1".into(), count(100)));
    }
    Arc::new(FrozenBatch {
        id: Uuid::from_u128((7 << 76) | (2 << 62) | u128::from(number)),
        table: [Table::Flows, Table::Ledger, Table::Latency][number as usize % 3],
        exported_at: 1_800_000_000 + number,
        rows: number + 1,
        counts,
        block: (0..octets).map(|at| (at as u32 * 31 + number) as u8).collect::<Vec<_>>().into(),
    })
}

/// The sum of the batches whose bits are set, as `batch` made them.
fn contents(bits: u64) -> Contents {
    let mut sum = Contents::default();
    for number in (0..48).filter(|number| bits & (1 << number) != 0) {
        let batch = batch(number, 0);
        sum.add(batch.rows, &batch.counts);
    }
    sum
}

/// Which batches were lost; they must be some that there are, in every figure.
fn lost_bits(losses: &Losses) -> u64 {
    let total = losses.total();
    let bits = total.counts.get("eth0").map_or(0, |count| count.packets);
    assert_eq!(total, contents(bits), "a loss that is no sum of batches");
    bits
}

/// Which batches these are; each as it was made, and once.
fn handed_bits<'a>(handed: impl IntoIterator<Item = &'a Pending>) -> u64 {
    handed.into_iter().fold(0, |bits, pending| {
        let number = pending.batch.rows - 1;
        assert_eq!(pending.batch, batch(number, pending.batch.block.len()), "other octets");
        assert_eq!(bits & (1 << number), 0, "batch {number} twice");
        bits | (1 << number)
    })
}
