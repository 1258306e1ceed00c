//! The end of a spool that batches go into.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::contents::{LossReason, Losses};
use super::settings::{Full, Waits};
use super::shared::{NoRoom, Shared};
use super::status::SpoolStatus;
use super::syncer::Syncer;
use crate::frozen::FrozenBatch;

/// Where a batch is that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// On the disk, as safe as the policy of syncing says.
    Disk,
    /// In memory alone: there is no folder, or the disk is full or fails. It is written to the
    /// disk when that works again.
    Memory,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "what was lost belongs into the ledger"]
pub struct Appended {
    /// Where it is; none if it was dropped.
    pub kept: Option<Kept>,
    /// Everything that was lost since the last call, this batch or older ones.
    pub lost: Losses,
    /// Those of them that are of the table `ledger` and were dropped for want of room: what they
    /// say is to be written down anew.
    pub books: Vec<Arc<FrozenBatch>>,
}

/// Takes batches in; blocking.
#[derive(Debug)]
pub struct SpoolWriter {
    shared: Arc<Shared>,
    waits: Waits,
    stopping_since: Option<Instant>,
    runtime: Runtime,
    /// Ends with this.
    _syncer: Option<Syncer>,
}

impl SpoolWriter {
    pub(super) fn new(
        shared: &Arc<Shared>,
        waits: Waits,
        syncer: Option<Syncer>,
    ) -> io::Result<Self> {
        Ok(Self {
            shared: shared.clone(),
            waits,
            stopping_since: None,
            runtime: Builder::new_current_thread().enable_time().build()?,
            _syncer: syncer,
        })
    }

    /// Takes a batch in, or says what was dropped instead. Waits for the disk, and, with
    /// [`Full::Block`], for room.
    pub fn append(&mut self, batch: impl Into<Arc<FrozenBatch>>) -> Appended {
        let batch = batch.into();
        let full = self.shared.full();
        let mut tainted = Vec::new();
        let kept = loop {
            let no_room = match self.shared.put(&batch, &mut tainted) {
                Ok(kept) => break Some(kept),
                Err(no_room) => no_room,
            };
            let again = match full {
                Full::Block => no_room != NoRoom::TooLarge && self.wait_for_room(),
                Full::DropOldest => self.shared.drop_oldest(no_room),
                Full::DropNewest => false,
            };
            if !again {
                let reason = match no_room {
                    NoRoom::Failing => LossReason::Error,
                    _ => LossReason::FullNewest,
                };
                self.shared.drop_new(&batch, &tainted, reason);
                break None;
            }
        };
        self.appended(kept)
    }

    /// Takes a batch in if there is room for it: nothing else is dropped for it, and nothing is
    /// waited for.
    pub fn append_last(&mut self, batch: impl Into<Arc<FrozenBatch>>) -> Appended {
        let batch = batch.into();
        let mut tainted = Vec::new();
        let kept = self.shared.put(&batch, &mut tainted);
        if let Err(no_room) = kept {
            let failing = no_room == NoRoom::Failing;
            let reason = if failing { LossReason::Error } else { LossReason::FullNewest };
            self.shared.drop_new(&batch, &tainted, reason);
        }
        self.appended(kept.ok())
    }

    fn appended(&self, kept: Option<Kept>) -> Appended {
        let mut core = self.shared.core();
        core.figures.appended += u64::from(kept.is_some());
        let lost = std::mem::take(&mut core.losses);
        Appended { kept, lost, books: std::mem::take(&mut core.dropped_books) }
    }

    /// True once nobody takes batches out any more.
    pub fn is_abandoned(&self) -> bool {
        self.shared.core().reader_gone
    }

    /// False when it was waited for too long, or nobody takes batches out any more.
    fn wait_for_room(&mut self) -> bool {
        if self.shared.core().reader_gone {
            return false;
        }
        let (waits, since, shared) = (&mut self.waits, &mut self.stopping_since, &self.shared);
        if *waits.stopping.borrow() {
            since.get_or_insert_with(Instant::now);
        }
        let over = async {
            if since.is_none() {
                // A sender that is gone has stopped.
                let _ = waits.stopping.wait_for(|stopping| *stopping).await;
            }
            let since = *since.get_or_insert_with(Instant::now);
            tokio::time::sleep(waits.patience.saturating_sub(since.elapsed())).await;
        };
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = shared.room.notified() => true,
                // A disk that was full or failed says nothing when it works again.
                () = tokio::time::sleep(TRY_AGAIN) => true,
                () = over => false,
            }
        })
    }

    /// Figures.
    pub fn status(&self) -> SpoolStatus {
        SpoolStatus::new(&self.shared)
    }
}

/// How often a writer that waits tries the disk.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        self.shared.core().writer_gone = true;
        self.shared.arrived.notify_one();
    }
}
