//! The ledger: what became of every packet, in packets and octets.
//!
//! The kernel side of an interface balances in each generation; along the way
//! `drained = in the cache + in batches + acknowledged + lost`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flow_common::{Count, Lost, NotMetered};

use crate::record::FlowRecord;

/// Why records that were drained are not in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LostRecord {
    /// The store had not taken them when the agent had to stop.
    Undelivered,
    /// The store was away for so long that the queue of batches was full.
    QueueFull,
}

impl LostRecord {
    /// The label in the ledger.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Undelivered => "undelivered",
            Self::QueueFull => "queue_full",
        }
    }
}

/// A place in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A hook was given the packet.
    Seen,
    /// It is in a drained row.
    Metered,
    /// It has no flow (index into [`NotMetered::ALL`]).
    NotMetered(u8),
    /// Its flow was lost in the kernel (index into [`Lost::ALL`]).
    Lost(u8),
    /// The agent took it over from the kernel.
    Drained,
    /// The store has it.
    Acknowledged,
    /// The agent had it and could not store it.
    LostRecord(LostRecord),
    /// A later fragment was metered with ports 0: a note beside the balance.
    FragmentWithoutPorts,
}

impl Entry {
    /// Stage and reason, as the table `ledger` has them.
    pub fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Seen => ("seen", ""),
            Self::Metered => ("metered", ""),
            Self::NotMetered(reason) => {
                ("not_metered", NotMetered::ALL[usize::from(reason)].label())
            }
            Self::Lost(reason) => ("lost", Lost::ALL[usize::from(reason)].label()),
            Self::Drained => ("drained", ""),
            Self::Acknowledged => ("acknowledged", ""),
            Self::LostRecord(reason) => ("undelivered", reason.label()),
            Self::FragmentWithoutPorts => ("note", "fragment_without_ports"),
        }
    }
}

/// Counts by interface name and entry: by name, because a number may belong to another
/// interface by the time they are written down.
pub type Counts = BTreeMap<(Arc<str>, Entry), Count>;

#[derive(Debug, Default)]
struct Books {
    /// Since the start, over all interfaces.
    total: BTreeMap<Entry, Count>,
    /// Since the last [`Ledger::take`].
    interval: Counts,
}

/// The books of one agent; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    books: Arc<Mutex<Books>>,
}

impl Ledger {
    /// Adds to one entry of an interface.
    pub fn add(&self, interface: &Arc<str>, entry: Entry, count: Count) {
        if count == Count::default() {
            return;
        }
        let mut books = self.books();
        books.total.entry(entry).or_default().merge(count);
        books.interval.entry((interface.clone(), entry)).or_default().merge(count);
    }

    /// Adds all packets of records to one entry, by their interfaces; `name` names one.
    pub fn add_records<'a, 'n>(
        &self,
        records: impl IntoIterator<Item = &'a FlowRecord>,
        name: impl Fn(u16) -> &'n Arc<str>,
        entry: Entry,
    ) {
        let mut counts: BTreeMap<u16, Count> = BTreeMap::new();
        for record in records {
            let count = counts.entry(record.interface).or_default();
            count.add(record.total_packets(), record.total_octets());
        }
        for (interface, count) in counts {
            self.add(name(interface), entry, count);
        }
    }

    /// What was added since the last call.
    pub fn take(&self) -> Counts {
        std::mem::take(&mut self.books().interval)
    }

    /// What was added since the start, over all interfaces.
    pub fn totals(&self) -> BTreeMap<Entry, Count> {
        self.books().total.clone()
    }

    /// Packets and octets seen that no entry explains; 0 unless something is wrong.
    pub fn unaccounted(&self) -> (i64, i64) {
        self.difference(|entry| match entry {
            Entry::Seen => 1,
            Entry::Metered | Entry::NotMetered(_) | Entry::Lost(_) => -1,
            _ => 0,
        })
    }

    /// Packets and octets taken from the kernel that are neither stored nor
    /// counted as lost; 0 when no flow is open.
    pub fn in_flight(&self) -> (i64, i64) {
        self.difference(|entry| match entry {
            Entry::Drained => 1,
            Entry::Acknowledged | Entry::LostRecord(_) => -1,
            _ => 0,
        })
    }

    fn difference(&self, sign: impl Fn(&Entry) -> i64) -> (i64, i64) {
        self.totals().iter().fold((0, 0), |(packets, octets), (entry, count)| {
            let sign = sign(entry);
            (packets + sign * count.packets as i64, octets + sign * count.octets as i64)
        })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Counts are valid between any two additions.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_balance_only_when_everything_is_explained() {
        let ledger = Ledger::default();
        ledger.add(&"eth0".into(), Entry::Seen, Count { packets: 5, octets: 500 });
        assert_eq!(ledger.unaccounted(), (5, 500));
        ledger.add(&"eth0".into(), Entry::Metered, Count { packets: 3, octets: 300 });
        ledger.add(&"eth0".into(), Entry::Lost(0), Count { packets: 2, octets: 200 });
        assert_eq!(ledger.unaccounted(), (0, 0));
        ledger.add(&"eth0".into(), Entry::Drained, Count { packets: 3, octets: 300 });
        ledger.add(&"eth0".into(), Entry::Acknowledged, Count { packets: 3, octets: 300 });
        assert_eq!(ledger.in_flight(), (0, 0));
    }

    #[test]
    fn an_interval_is_taken_once_and_the_total_stays() {
        let ledger = Ledger::default();
        ledger.add(&"eth0".into(), Entry::Seen, Count { packets: 1, octets: 60 });
        assert_eq!(ledger.take().len(), 1);
        assert!(ledger.take().is_empty());
        assert_eq!(ledger.totals()[&Entry::Seen].packets, 1);
    }
}
