//! What puts batches into the spool: frozen flows, and the books once an interval.
//!
//! Enters: batches of the batcher, time. Leaves: the same in the spool, losses in the ledger. At
//! its end it gives the spool to the delivery, which closes the books.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::Frozen;
use crate::books::{Books, BooksClock};
use crate::failpoint::failpoint;
use crate::frozen::FrozenBatch;
use crate::sink::LastBooks;
use crate::spool::{LossReason, Losses, SpoolWriter};

/// A spool that stays full is not news each second.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Owns the end of a spool that batches go into.
pub struct Spooler {
    /// None once it is given away.
    ends: Option<(SpoolWriter, LastBooks)>,
    books: Books,
    clock: BooksClock,
    wall_clock: fn() -> u64,
    /// What was lost so far, and when that was told.
    lost_rows: u64,
    warned: Option<Instant>,
}

impl Spooler {
    /// Writes `books` beside what it is given.
    pub fn new(
        writer: SpoolWriter,
        last: LastBooks,
        books: Books,
        wall_clock: fn() -> u64,
    ) -> Self {
        let clock = BooksClock::new(Instant::now());
        Self { ends: Some((writer, last)), books, clock, wall_clock, lost_rows: 0, warned: None }
    }

    fn append(&mut self, batch: Arc<FrozenBatch>) {
        if let Some((writer, _)) = &mut self.ends {
            let appended = writer.append(batch);
            self.note(&appended.lost);
            for books in appended.books {
                self.write_anew(&books);
            }
        }
    }

    /// The lines of a batch of the table `ledger` that had to make room.
    fn write_anew(&self, books: &FrozenBatch) {
        match books.ledger_counts() {
            Ok(counts) => self.books.ledger.inherit(&counts),
            Err(error) => tracing::warn!("{} rows of the ledger are lost: {error}", books.rows),
        }
    }

    fn note(&mut self, lost: &Losses) {
        if lost.is_empty() {
            return;
        }
        self.books.ledger.add_losses(lost);
        let (mut rows, mut why) = (0, "");
        for (reason, lost) in lost.iter() {
            rows += lost.rows;
            why = what_helps(reason);
        }
        self.lost_rows += rows;
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            tracing::warn!("{why}: {} rows are lost so far", self.lost_rows);
        }
    }
}

fn what_helps(reason: LossReason) -> &'static str {
    match reason {
        LossReason::FullOldest | LossReason::FullNewest => {
            "the store is slow or away and the spool is full (raise spool.max_mib or \
             spool.memory_mib)"
        }
        LossReason::Error => "the disk of the spool fails",
        LossReason::Corrupt | LossReason::Torn => "a file of the spool is damaged",
        LossReason::Undelivered => "the store was given up",
    }
}

impl Frozen for Spooler {
    fn put(&mut self, batch: Arc<FrozenBatch>) {
        self.append(batch);
    }

    fn tick(&mut self) {
        if self.clock.is_due(Instant::now()) {
            for batch in self.books.freeze((self.wall_clock)()) {
                failpoint!("books::frozen");
                self.append(Arc::new(batch));
            }
        }
    }
}

impl Drop for Spooler {
    fn drop(&mut self) {
        if let Some((writer, last)) = self.ends.take() {
            // A delivery that has ended needs it no more.
            let _ = last.send(writer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use flow_common::Count;
    use tokio::sync::{oneshot, watch};
    use uuid::Uuid;

    use super::*;
    use crate::enrich::BatchLabels;
    use crate::frozen::Table;
    use crate::latency::Latency;
    use crate::ledger::{Counts, Entry, Ledger};
    use crate::names::Names;
    use crate::record::FlowRecord;
    use crate::spool::{Fsync, Full, Spool, SpoolSettings, Waits};

    /// However many batches of the ledger have to make room, their lines are in those that stay or
    /// in the next one.
    #[test]
    fn a_full_spool_loses_no_line_of_the_ledger() {
        for full in [Full::DropOldest, Full::DropNewest] {
            let settings = SpoolSettings {
                dir: None::<PathBuf>,
                max_octets: 0,
                memory_octets: 40_000,
                full,
                fsync: Fsync::Never,
                segment_octets: 1 << 20,
            };
            let (_stop, stopping) = watch::channel(false);
            let waits = Waits { stopping, patience: Duration::ZERO };
            let (writer, reader, _) = Spool::open(&settings, waits).expect("no disk, no trouble");
            let status = writer.status();
            let ledger = Ledger::default();
            let books = Books {
                ledger: ledger.clone(),
                latency: Latency::default(),
                exporter: "host".into(),
            };
            let (last, _kept) = oneshot::channel();
            let mut spooler = Spooler::new(writer, last, books, || 7_000_000_000);
            let names = Names::new("host", &["eth0"]);
            let record = [FlowRecord::example(1)];
            for _ in 0..200 {
                ledger.add(&"eth0".into(), Entry::Seen, Count { packets: 1, octets: 60 });
                for batch in spooler.books.freeze(7_000_000_000) {
                    spooler.append(Arc::new(batch));
                }
                let labels = BatchLabels::default();
                let flows = FrozenBatch::of_flows(&record, &labels, &names, Uuid::now_v7(), 7);
                spooler.append(Arc::new(flows));
            }
            let mut lines = Counts::new();
            let mut in_spool = 0;
            status.visit(|batch| {
                if batch.table == Table::Ledger {
                    in_spool += 1;
                    for (line, count) in batch.ledger_counts().expect("its own") {
                        lines.entry(line).or_default().merge(count);
                    }
                }
                true
            });
            assert!((1..150).contains(&in_spool), "{in_spool} of 200 are left");
            for (line, count) in ledger.take(Uuid::nil()) {
                lines.entry(line).or_default().merge(count);
            }
            let seen = lines[&("eth0".into(), Entry::Seen)];
            assert_eq!(seen, Count { packets: 200, octets: 12_000 });
            assert_eq!(ledger.totals()[&Entry::Seen], seen, "counted once");
            drop(reader);
        }
    }
}
