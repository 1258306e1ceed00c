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
