//! The end of a spool that delivers.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::contents::{LossReason, Losses};
use super::core::Entry;
use super::file_system::is_damage;
use super::pending::Pending;
use super::shared::Shared;
use super::status::SpoolStatus;
use crate::frozen::FrozenBatch;

/// Hands batches out in the order in which they came, those from before this start first. One that
/// the system refuses to read now is passed over and comes when it can be read.
#[derive(Debug)]
pub struct SpoolReader {
    shared: Arc<Shared>,
    /// What could not be read, in the order of the next tries.
    passed_over: VecDeque<u64>,
    /// When the first of them is tried again.
    again: Instant,
}

impl SpoolReader {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone(), passed_over: VecDeque::new(), again: Instant::now() }
    }

    /// The next batch; none when the writer is gone and everything was handed out that can be
    /// read. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Pending> {
        loop {
            let (entry, gone) = {
                let core = self.shared.core();
                (core.next_waiting().map(|(at, entry)| (at, entry.clone())), core.writer_gone)
            };
            let late = self.passed_over.front().copied();
            let due = late.filter(|_| Instant::now() >= self.again);
            let late_entry = due.map(|number| (number, self.shared.core().entry(number).cloned()));
            match (late_entry, entry) {
                // Dropped meanwhile.
                (Some((_, None)), _) => drop(self.passed_over.pop_front()),
                (Some((number, Some(entry))), _) | (None, Some((number, entry))) => {
                    if let Some(pending) = self.take(number, entry).await {
                        return Some(pending);
                    }
                }
                (None, None) if gone => return None,
                (None, None) => tokio::select! {
                    () = self.shared.arrived.notified() => {}
                    () = tokio::time::sleep_until(self.again), if late.is_some() => {}
                },
            }
        }
    }

    /// True when there is nothing to hand out now.
    pub fn is_empty(&self) -> bool {
        self.shared.core().next_waiting().is_none()
    }

    async fn take(&mut self, number: u64, entry: Entry) -> Option<Pending> {
        let (id, in_doubt) = (entry.id, entry.in_doubt);
        let loaded = match entry.memory.clone() {
            Some(batch) => Ok(batch),
            None => self.load(entry).await,
        };
        let first_time = !self.passed_over.contains(&number);
        self.passed_over.retain(|other| *other != number);
        let batch = match loaded {
            Ok(batch) => batch,
            Err(problem) if is_damage(&problem) => {
                self.shared.lose_unreadable(number, &problem);
                return None;
            }
            Err(problem) => {
                // Such as too many open files: the batch is there.
                self.shared.tell(&problem);
                if first_time {
                    tracing::warn!(
                        "batch {id} in the spool cannot be read now: {problem}; it is tried again, \
                         and others are delivered meanwhile"
                    );
                }
                self.shared.core().pass_over(number);
                self.passed_over.push_back(number);
                self.again = Instant::now() + TRY_AGAIN;
                return None;
            }
        };
        let shared = &self.shared;
        shared.core().hand_out(number, &batch).then(|| Pending {
            batch,
            in_doubt,
            number,
            shared: Some(shared.clone()),
        })
    }

    /// From the disk.
    async fn load(&self, entry: Entry) -> io::Result<Arc<FrozenBatch>> {
        let shared = self.shared.clone();
        let loaded = tokio::task::spawn_blocking(move || shared.load(&entry)).await;
        loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
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

/// Between two tries to read what the system refuses to read.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl Drop for SpoolReader {
    fn drop(&mut self) {
        self.close();
    }
}
