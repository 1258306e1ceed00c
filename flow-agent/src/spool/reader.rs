//! The end of a spool that delivers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::contents::{LossReason, Losses};
use super::core::Entry;
use super::pending::Pending;
use super::shared::Shared;
use super::status::SpoolStatus;
use crate::frozen::FrozenBatch;

/// Hands batches out in the order in which they came, those from before this start first.
#[derive(Debug)]
pub struct SpoolReader {
    pub(super) shared: Arc<Shared>,
}

impl SpoolReader {
    /// The next batch; none when the writer is gone and everything was handed out. Nothing is
    /// lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Pending> {
        loop {
            let (entry, gone) = {
                let core = self.shared.core();
                (core.next_waiting().map(|(at, entry)| (at, entry.clone())), core.writer_gone)
            };
            match entry {
                Some((number, entry)) => {
                    if let Some(pending) = self.take(number, entry).await {
                        return Some(pending);
                    }
                }
                None if gone => return None,
                None => self.shared.arrived.notified().await,
            }
        }
    }

    /// True when there is nothing to hand out now.
    pub fn is_empty(&self) -> bool {
        self.shared.core().next_waiting().is_none()
    }

    async fn take(&self, number: u64, entry: Entry) -> Option<Pending> {
        let in_doubt = entry.in_doubt;
        let batch = match entry.memory.clone() {
            Some(batch) => batch,
            None => self.load(number, entry).await?,
        };
        let shared = &self.shared;
        shared.core().hand_out(number, &batch).then(|| Pending {
            batch,
            in_doubt,
            number,
            shared: Some(shared.clone()),
        })
    }

    /// From the disk; none, and lost, if it is not there as it was written.
    async fn load(&self, number: u64, entry: Entry) -> Option<Arc<FrozenBatch>> {
        let entry = Arc::new(entry);
        loop {
            let (shared, entry) = (self.shared.clone(), entry.clone());
            let loaded = tokio::task::spawn_blocking(move || shared.load(&entry)).await;
            match loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
                Ok(batch) => return Some(batch),
                Err(problem) if is_damage(&problem) => {
                    self.shared.lose_unreadable(number, &problem);
                    return None;
                }
                Err(problem) => {
                    // Such as too many open files: the batch is there.
                    self.shared.tell(&problem);
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            }
        }
    }

    /// Nothing is taken out any more: a writer that waits for room is told so, now and from now
    /// on. Without it nobody would ever make room for it.
    pub fn close(&self) {
        self.shared.core().reader_gone = true;
        self.shared.room.notify_one();
    }

    /// What was lost since the last call, here or by [`SpoolWriter::append`].
    ///
    /// [`SpoolWriter::append`]: super::SpoolWriter::append
    pub fn losses(&self) -> Losses {
        std::mem::take(&mut self.shared.core().losses)
    }

    /// Figures.
    pub fn status(&self) -> SpoolStatus {
        SpoolStatus::new(&self.shared)
    }

    /// Ends: what is not settled is on the disk for the next agent, or else lost. Batches that
    /// are out must have been settled or dropped before. Answers all losses that were not told.
    pub fn finish(mut self) -> Losses {
        self.rest()
    }

    /// The same, when one more batch may come: see [`SpoolWriter::append_last`].
    ///
    /// [`SpoolWriter::append_last`]: super::SpoolWriter::append_last
    pub fn rest(&mut self) -> Losses {
        self.shared.write_what_is_only_in_memory();
        self.shared.sync_all();
        let left = self.shared.core().only_in_memory();
        for number in left {
            self.shared.lose(number, LossReason::Undelivered);
        }
        self.losses()
    }
}

/// Between two tries to read a batch that the system refuses to read.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// True if trying again would not help.
fn is_damage(error: &io::Error) -> bool {
    let damage = [Errno::IO, Errno::NOENT, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA];
    match error.raw_os_error() {
        Some(number) => damage.iter().any(|errno| errno.raw_os_error() == number),
        None => true,
    }
}

impl Drop for SpoolReader {
    fn drop(&mut self) {
        self.close();
    }
}
