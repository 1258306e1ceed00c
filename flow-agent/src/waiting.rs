//! What waits for the store: the records of the open batch, those that are being frozen, and the
//! frozen batches.
//!
//! Written by the batcher, looked at by whoever asks where a flow is. It holds that a record is
//! in exactly one of these at any moment, that a batch is kept no longer than until its delivery
//! lets go of it, and that nobody works at a batch while the places are locked: the batcher never
//! waits for more than a look at the open batch, and who looks never waits for a batch that is
//! being labelled.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::batch::Batch;
use crate::record::FlowRecord;

/// Records on their way to the store; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    open: Arc<Mutex<Vec<FlowRecord>>>,
    /// Locked after `open` by whoever needs both.
    closed: Arc<Mutex<Closed>>,
}

/// Records that have left the open batch.
#[derive(Debug, Default)]
struct Closed {
    /// Of the batch that is being made.
    freezing: Option<Arc<Vec<FlowRecord>>>,
    /// In the order of freezing, with those that have been let go of at the front.
    frozen: VecDeque<Weak<Batch>>,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitingSize {
    /// Records of the open batch and of the one that is being frozen.
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

    /// Makes a batch of the open records, if there are any. Nothing is locked meanwhile.
    pub fn freeze(&self, freeze: impl FnOnce(Arc<Vec<FlowRecord>>) -> Batch) -> Option<Arc<Batch>> {
        let records = {
            let mut open = self.open();
            if open.is_empty() {
                return None;
            }
            let records = Arc::new(std::mem::take(&mut *open));
            self.closed().freezing = Some(records.clone());
            records
        };
        let batch = Arc::new(freeze(records));
        let mut closed = self.closed();
        closed.freezing = None;
        let frozen = &mut closed.frozen;
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
        let closed = self.closed();
        let freezing = closed.freezing.as_ref().map_or(0, |records| records.len());
        let batches = closed.batches();
        WaitingSize {
            open_records: open.len() + freezing,
            batches: batches.len(),
            batch_records: batches.iter().map(|batch| batch.records.len()).sum(),
        }
    }

    /// The records that are `wanted`, oldest first, at most so many.
    pub fn find(&self, most: usize, wanted: impl Fn(&FlowRecord) -> bool) -> Vec<FlowRecord> {
        let (open, freezing, batches) = {
            // All at one moment, else a record that goes on meanwhile would be missed.
            let open = self.open();
            let found = open.iter().filter(|record| wanted(record)).take(most).cloned();
            let found: Vec<_> = found.collect();
            let closed = self.closed();
            (found, closed.freezing.clone(), closed.batches())
        };
        let records = batches.iter().flat_map(|batch| batch.records.iter());
        let records = records.chain(freezing.iter().flat_map(|records| records.iter()));
        let records = records.filter(|record| wanted(record)).cloned();
        records.chain(open).take(most).collect()
    }

    fn closed(&self) -> MutexGuard<'_, Closed> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Closed {
    fn batches(&self) -> Vec<Arc<Batch>> {
        self.frozen.iter().filter_map(Weak::upgrade).collect()
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
    fn while_a_batch_is_made_its_records_are_found_and_more_can_come() {
        let waiting = Waiting::default();
        let ports = || -> Vec<u16> {
            waiting.find(9, |_| true).iter().map(|record| record.src_port).collect()
        };
        waiting.open().push(FlowRecord::example(1));
        let first = freeze(&waiting).expect("a record");
        waiting.open().push(FlowRecord::example(2));
        let second = waiting.freeze(|records| {
            // What others do meanwhile; with a place locked this would never end.
            waiting.open().push(FlowRecord::example(3));
            assert_eq!(ports(), [1, 2, 3]);
            let size = WaitingSize { open_records: 2, batches: 1, batch_records: 1 };
            assert_eq!(waiting.size(), size);
            let names = Arc::new(Names::new("host", &["eth0"]));
            Batch::freeze(records, BatchLabels::default(), names, 0)
        });
        assert_eq!(ports(), [1, 2, 3]);
        drop(first);
        assert_eq!(ports(), [2, 3]);
        drop(second);
        assert_eq!(ports(), [3]);
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
        assert_eq!(waiting.closed().frozen.len(), 2);
        drop(stuck);
    }
}
