//! A batch that was handed out.

use std::sync::Arc;

use super::contents::{Contents, LossReason};
use super::core::Settled;
use super::shared::Shared;
use crate::frozen::FrozenBatch;

/// A batch to deliver. Dropped as it is, it stays in the spool for the next agent.
#[derive(Debug)]
pub struct Pending {
    /// The batch.
    pub batch: Arc<FrozenBatch>,
    /// It is from before this start: an earlier agent may have sent it.
    pub in_doubt: bool,
    pub(super) number: u64,
    /// None once it is settled.
    pub(super) shared: Option<Arc<Shared>>,
}

impl Pending {
    /// The store has all its rows.
    pub fn acknowledge(mut self) {
        self.settle(Settled::Acknowledged);
    }

    /// Its rows are in the quarantine, or with the batches that it was split into.
    pub fn quarantined(mut self) {
        self.settle(Settled::Quarantined);
    }

    /// This agent delivers no more of it, and no other can: `rest` is lost, the store has what
    /// else was in it.
    pub fn lost(mut self, rest: &Contents) {
        if let Some(shared) = &self.shared {
            shared.core().note_loss(LossReason::Undelivered, rest);
        }
        self.settle(Settled::Lost);
    }

    fn settle(&mut self, how: Settled) {
        if let Some(shared) = self.shared.take() {
            shared.settle(self.number, how);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.give_back(self.number);
        }
    }
}
