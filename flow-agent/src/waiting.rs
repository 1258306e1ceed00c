//! What waits for the store: the records of the open batch, those that are being frozen, and the
//! frozen batches.
//!
//! Written by the batcher, looked at by whoever asks where a flow is. It holds that a record is
//! in one of these at any moment, that a batch is kept no longer than the spool keeps it, and that
//! nobody works at a batch while the places are locked: the batcher never waits for more than a
//! look at the open batch, and who looks never waits for a batch that is being labelled.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::batch::RowKey;
use crate::frozen::{FrozenBatch, Table};
use crate::names::Names;
use crate::record::FlowRecord;
use crate::spool::SpoolStatus;

/// Records on their way to the store; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    open: Arc<Mutex<Vec<FlowRecord>>>,
    /// Locked after `open` by whoever needs both.
    closed: Arc<Mutex<Closed>>,
    /// Frozen batches that the batcher has let go of, in memory or on disk.
    spool: SpoolStatus,
}

/// Records that have left the open batch.
#[derive(Debug, Default)]
struct Closed {
    /// Of the batch that is being made.
    freezing: Option<Arc<Vec<FlowRecord>>>,
    /// In the order of freezing, with those that have been let go of at the front.
    frozen: VecDeque<Weak<FrozenBatch>>,
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

/// A record that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingFlow {
    /// The name of its interface; the number in the record is not to be used.
    pub interface: Arc<str>,
    /// The record.
    pub record: FlowRecord,
}

impl Waiting {
    /// Nothing yet, before this spool.
    pub fn new(spool: SpoolStatus) -> Self {
        Self { spool, ..Self::default() }
    }

    /// The records of the open batch; locked until it is dropped.
    pub fn open(&self) -> MutexGuard<'_, Vec<FlowRecord>> {
        // A list is valid between any two of its operations.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes batches of the open records, if there are any. Nothing is locked meanwhile.
    pub fn freeze(
        &self,
        freeze: impl FnOnce(&Arc<Vec<FlowRecord>>) -> Vec<FrozenBatch>,
    ) -> Vec<Arc<FrozenBatch>> {
        let records = {
            let mut open = self.open();
            if open.is_empty() {
                return Vec::new();
            }
            // The next batch is about as large: growing to that would cost more than the records.
            let next = Vec::with_capacity(open.len());
            let records = Arc::new(std::mem::replace(&mut *open, next));
            self.closed().freezing = Some(records.clone());
            records
        };
        let batches: Vec<_> = freeze(&records).into_iter().map(Arc::new).collect();
        let mut closed = self.closed();
        closed.freezing = None;
        let frozen = &mut closed.frozen;
        // Delivered ones gather at the front, those that were not kept at the back.
        while frozen.front().is_some_and(|batch| batch.strong_count() == 0) {
            frozen.pop_front();
        }
        while frozen.back().is_some_and(|batch| batch.strong_count() == 0) {
            frozen.pop_back();
        }
        frozen.extend(batches.iter().map(Arc::downgrade));
        batches
    }

    /// How much waits now.
    pub fn size(&self) -> WaitingSize {
        let open = self.open();
        let closed = self.closed();
        let freezing = closed.freezing.as_ref().map_or(0, |records| records.len());
        let open_records = open.len() + freezing;
        if let Some(spool) = self.spool.figures() {
            let (batches, batch_records) = (spool.batches as usize, spool.rows as usize);
            return WaitingSize { open_records, batches, batch_records };
        }
        let batches = closed.batches();
        let batch_records = batches.iter().map(|batch| batch.rows as usize).sum();
        WaitingSize { open_records, batches: batches.len(), batch_records }
    }

    /// The records that are `wanted`, oldest first, at most so many; `names` are those of now. Of
    /// frozen batches only the columns of the key are looked at, and only wanted rows decoded.
    /// Those that are on disk alone are read until `is_late`.
    pub fn find(
        &self,
        most: usize,
        names: &Names,
        wanted: impl Fn(&RowKey) -> bool,
        is_late: impl Fn() -> bool,
    ) -> Vec<WaitingFlow> {
        let now = |record: &FlowRecord| WaitingFlow {
            interface: names.interface(record.interface).clone(),
            record: record.clone(),
        };
        let wanted_now = |record: &&FlowRecord| wanted(&RowKey::from(*record));
        let (open, freezing, batches) = {
            // All at one moment, else a record that goes on meanwhile would be missed.
            let open = self.open();
            let found: Vec<_> = open.iter().filter(wanted_now).take(most).map(now).collect();
            let closed = self.closed();
            (found, closed.freezing.clone(), closed.batches())
        };
        let mut found = Vec::new();
        let mut look = |batch: &FrozenBatch| {
            // A block that the batcher has made can be read.
            if batch.table == Table::Flows
                && let Ok(flows) = batch.find(most - found.len(), &wanted)
            {
                let names = flows.names;
                found.extend(flows.records.into_iter().map(|record| WaitingFlow {
                    interface: names.interface(record.interface).clone(),
                    record,
                }));
            }
            found.len() < most && !is_late()
        };
        let held: BTreeSet<_> = batches.iter().map(|batch| batch.id).collect();
        self.spool.visit(|batch| held.contains(&batch.id) || look(batch));
        batches.iter().all(|batch| look(batch));
        let freezing = freezing.iter().flat_map(|records| records.iter());
        let freezing = freezing.filter(wanted_now).map(now);
        found.into_iter().chain(freezing).chain(open).take(most).collect()
    }

    fn closed(&self) -> MutexGuard<'_, Closed> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Closed {
    fn batches(&self) -> Vec<Arc<FrozenBatch>> {
        self.frozen.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::enrich::BatchLabels;

    fn batch(records: &[FlowRecord]) -> Vec<FrozenBatch> {
        let names = Names::new("host", &["eth0"]);
        let labels = BatchLabels::default();
        vec![FrozenBatch::of_flows(records, &labels, &names, Uuid::now_v7(), 0)]
    }

    fn freeze(waiting: &Waiting) -> Option<Arc<FrozenBatch>> {
        waiting.freeze(|records| batch(records)).pop()
    }

    fn ports(waiting: &Waiting, most: usize) -> Vec<u16> {
        let names = Names::new("host", &["eth0"]);
        let found = waiting.find(most, &names, |key| key.dst_port == 53, || false);
        assert!(found.iter().all(|flow| &*flow.interface == "eth0"));
        found.iter().map(|flow| flow.record.src_port).collect()
    }

    #[test]
    fn a_record_is_found_until_its_batch_is_let_go_of() {
        let waiting = Waiting::default();
        assert!(freeze(&waiting).is_none());
        waiting.open().extend([FlowRecord::example(1), FlowRecord::example(2)]);
        waiting.open().push(FlowRecord { dst_port: 54, ..FlowRecord::example(9) });
        assert_eq!(ports(&waiting, 9), [1, 2]);
        let first = freeze(&waiting).expect("records");
        waiting.open().push(FlowRecord::example(3));
        assert_eq!(ports(&waiting, 9), [1, 2, 3]);
        assert_eq!(ports(&waiting, 1), [1]);
        let size = WaitingSize { open_records: 1, batches: 1, batch_records: 3 };
        assert_eq!(waiting.size(), size);
        drop(first);
        assert_eq!(ports(&waiting, 9), [3]);
    }

    #[test]
    fn while_a_batch_is_made_its_records_are_found_and_more_can_come() {
        let waiting = Waiting::default();
        waiting.open().push(FlowRecord::example(1));
        let first = freeze(&waiting).expect("a record");
        waiting.open().push(FlowRecord::example(2));
        let second = waiting.freeze(|records| {
            // What others do meanwhile; with a place locked this would never end.
            waiting.open().push(FlowRecord::example(3));
            assert_eq!(ports(&waiting, 9), [1, 2, 3]);
            let size = WaitingSize { open_records: 2, batches: 1, batch_records: 1 };
            assert_eq!(waiting.size(), size);
            batch(records)
        });
        assert_eq!(ports(&waiting, 9), [1, 2, 3]);
        drop(first);
        assert_eq!(ports(&waiting, 9), [2, 3]);
        drop(second);
        assert_eq!(ports(&waiting, 9), [3]);
    }

    #[test]
    fn batches_that_are_not_kept_leave_nothing_behind_while_one_is_stuck() {
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
