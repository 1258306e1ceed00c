//! What waits for the store: the records of the open batch and the frozen batches.
//!
//! Written by the batcher, looked at by whoever asks where a flow is. It holds that a
//! record is in the open batch or in a frozen one at any moment, and that a batch is
//! kept no longer than until its delivery lets go of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::batch::Batch;
use crate::record::FlowRecord;

/// Records on their way to the store; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    open: Arc<Mutex<Vec<FlowRecord>>>,
    /// In the order of freezing, with those that have been let go of at the front.
    frozen: Arc<Mutex<VecDeque<Weak<Batch>>>>,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitingSize {
    /// Records of the open batch.
    pub open_records: usize,
    /// Frozen batches, the one that is being sent among them.
    pub batches: usize,
    /// Their records.
    pub batch_records: usize,
}

impl Waiting {
    /// The records of the open batch; locked until it is dropped.
    pub fn open(&self) -> MutexGuard<'_, Vec<FlowRecord>> {
        // A list is valid between any two of its operations.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a batch of the open records, if there are any.
    pub fn freeze(&self, freeze: impl FnOnce(Vec<FlowRecord>) -> Batch) -> Option<Arc<Batch>> {
        let mut open = self.open();
        if open.is_empty() {
            return None;
        }
        let batch = Arc::new(freeze(std::mem::take(&mut *open)));
        let mut frozen = self.frozen();
        // Delivered ones gather at the front, those that the queue had no room for at the back.
        while frozen.front().is_some_and(|batch| batch.strong_count() == 0) {
            frozen.pop_front();
        }
        while frozen.back().is_some_and(|batch| batch.strong_count() == 0) {
            frozen.pop_back();
        }
        frozen.push_back(Arc::downgrade(&batch));
        Some(batch)
    }

    /// How much waits now.
    pub fn size(&self) -> WaitingSize {
        let open = self.open();
        let batches = self.batches();
        WaitingSize {
            open_records: open.len(),
            batches: batches.len(),
            batch_records: batches.iter().map(|batch| batch.records.len()).sum(),
        }
    }

    /// The records that are `wanted`, oldest first, at most so many.
    pub fn find(&self, most: usize, wanted: impl Fn(&FlowRecord) -> bool) -> Vec<FlowRecord> {
        let (open, batches) = {
            // Both at one moment, else a record that is frozen meanwhile would be missed.
            let open = self.open();
            let found: Vec<_> = open.iter().filter(|record| wanted(record)).cloned().collect();
            (found, self.batches())
        };
        let frozen = batches.iter().flat_map(|batch| batch.records.iter());
        let frozen = frozen.filter(|record| wanted(record)).cloned();
        frozen.chain(open).take(most).collect()
    }

    fn batches(&self) -> Vec<Arc<Batch>> {
        self.frozen().iter().filter_map(Weak::upgrade).collect()
    }

    fn frozen(&self) -> MutexGuard<'_, VecDeque<Weak<Batch>>> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::BatchLabels;
    use crate::names::Names;

    fn freeze(waiting: &Waiting) -> Option<Arc<Batch>> {
        let names = Arc::new(Names::new("host", &["eth0"]));
        waiting.freeze(|records| Batch::freeze(records, BatchLabels::default(), names, 0))
    }

    #[test]
    fn a_record_is_found_until_its_batch_is_let_go_of() {
        let waiting = Waiting::default();
        assert!(freeze(&waiting).is_none());
        waiting.open().extend([FlowRecord::example(1), FlowRecord::example(2)]);
        let ports = |most| -> Vec<u16> {
            waiting.find(most, |_| true).iter().map(|record| record.src_port).collect()
        };
        assert_eq!(ports(9), [1, 2]);
        let first = freeze(&waiting).expect("two records");
        waiting.open().push(FlowRecord::example(3));
        assert_eq!(ports(9), [1, 2, 3]);
        assert_eq!(ports(1), [1]);
        let size = WaitingSize { open_records: 1, batches: 1, batch_records: 2 };
        assert_eq!(waiting.size(), size);
        drop(first);
        assert_eq!(ports(9), [3]);
    }

    #[test]
    fn batches_without_room_leave_nothing_behind_while_one_is_stuck() {
        let waiting = Waiting::default();
        waiting.open().push(FlowRecord::example(1));
        let stuck = freeze(&waiting).expect("a record");
        for _ in 0..1000 {
            waiting.open().push(FlowRecord::example(2));
            drop(freeze(&waiting).expect("a record"));
        }
        assert_eq!(waiting.frozen().len(), 2);
        drop(stuck);
    }
}
