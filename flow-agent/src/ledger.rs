//! The ledger: what became of every packet, in packets and octets.
//!
//! The kernel side of an interface balances in each generation; along the way
//! `drained + recovered = in the cache + in batches + in the spool + acknowledged + undelivered`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use flow_common::Count;
use uuid::Uuid;

use crate::estate::{Estate, Witness};
use crate::record::FlowRecord;
use crate::spool::Losses;

mod entry;

pub use entry::{Entry, LostRecord};

/// Counts by interface name and entry: by name, because a number may belong to another
/// interface by the time they are written down.
pub type Counts = BTreeMap<(Arc<str>, Entry), Count>;

/// What became of an interface's packets since the start.
pub type InterfaceTotals = BTreeMap<Entry, Count>;

/// Interfaces whose totals are kept apart; those that have been quiet for longest are
/// summed up under [`FORMER_INTERFACES`] when there are more.
const MOST_INTERFACES: usize = 1024;

/// The name of what is no longer told apart; no interface has it, for `(` is in no name.
pub const FORMER_INTERFACES: &str = "(former)";

#[derive(Debug, Default)]
struct Books {
    /// Since the start, over all interfaces.
    total: BTreeMap<Entry, Count>,
    /// The same by interface, with the time of the last addition, in additions.
    interfaces: BTreeMap<Arc<str>, (u64, InterfaceTotals)>,
    additions: u64,
    /// Since the last [`Ledger::take`].
    interval: Counts,
}

impl Books {
    fn add(&mut self, interface: &Arc<str>, entry: Entry, count: Count) {
        self.total.entry(entry).or_default().merge(count);
        self.interval.entry((interface.clone(), entry)).or_default().merge(count);
        self.additions += 1;
        if !self.interfaces.contains_key(interface) && self.interfaces.len() >= MOST_INTERFACES {
            self.sum_up_quietest();
        }
        let (last, totals) = self.interfaces.entry(interface.clone()).or_default();
        *last = self.additions;
        totals.entry(entry).or_default().merge(count);
    }

    /// Makes room for another interface.
    fn sum_up_quietest(&mut self) {
        let named = self.interfaces.iter().filter(|(name, _)| &***name != FORMER_INTERFACES);
        let quietest = named.min_by_key(|(_, (last, _))| *last).map(|(name, _)| name.clone());
        let Some((_, totals)) = quietest.and_then(|name| self.interfaces.remove(&name)) else {
            return;
        };
        let (_, former) = self.interfaces.entry(FORMER_INTERFACES.into()).or_default();
        for (entry, count) in totals {
            former.entry(entry).or_default().merge(count);
        }
    }
}

/// The books of one agent; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    books: Arc<Mutex<Books>>,
    /// Where they outlive this agent, should it be killed.
    estate: Arc<OnceLock<Estate>>,
}

impl Ledger {
    /// From now on the books outlive this agent. Once; the estate has what was posted before.
    pub fn keep(&self, estate: Estate) {
        // A second one would know nothing of the first.
        let _ = self.estate.set(estate);
    }

    /// What was counted, by this agent or another one, and is not written down any more or yet: it
    /// is in the next interval, and not counted again.
    pub fn inherit(&self, counts: &Counts) {
        if let Some(estate) = self.estate.get() {
            estate.inherit(counts);
        }
        let interval = &mut self.books().interval;
        for (line, count) in counts {
            interval.entry(line.clone()).or_default().merge(*count);
        }
    }

    /// Adds to one entry of an interface.
    pub fn add(&self, interface: &Arc<str>, entry: Entry, count: Count) {
        if count != Count::default() {
            let counts = Counts::from([((interface.clone(), entry), count)]);
            self.post(&counts, Witness::None, || ());
        }
    }

    /// Adds all of these, which `act` makes true: should the agent be killed meanwhile, `witness`
    /// tells the next one whether it was done. They are all from the kernel, or none is.
    pub fn post<R>(&self, counts: &Counts, witness: Witness, act: impl FnOnce() -> R) -> R {
        let done = match self.estate.get() {
            Some(estate) => estate.post(counts, witness, act),
            None => act(),
        };
        let mut books = self.books();
        for ((interface, entry), count) in counts {
            if *count != Count::default() {
                books.add(interface, *entry, *count);
            }
        }
        done
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

    /// Adds what a spool lost.
    pub fn add_losses(&self, losses: &Losses) {
        let counts = losses.counts();
        if !counts.is_empty() {
            self.post(&counts, Witness::None, || ());
        }
    }

    /// What was added since the last call, which is in this batch from now on.
    pub fn take(&self, batch: Uuid) -> Counts {
        let counts = std::mem::take(&mut self.books().interval);
        if let Some(estate) = self.estate.get().filter(|_| !counts.is_empty()) {
            estate.write(&counts, batch);
        }
        counts
    }

    /// What was added since the start, over all interfaces.
    pub fn totals(&self) -> BTreeMap<Entry, Count> {
        self.books().total.clone()
    }

    /// What was added since the start, by interface; together they are [`Ledger::totals`].
    pub fn interfaces(&self) -> BTreeMap<Arc<str>, InterfaceTotals> {
        let books = self.books();
        books.interfaces.iter().map(|(name, (_, totals))| (name.clone(), totals.clone())).collect()
    }

    /// Packets and octets seen that no entry explains; 0 unless something is wrong.
    pub fn unaccounted(&self) -> (i64, i64) {
        unaccounted(&self.totals())
    }

    /// Packets and octets taken from the kernel that are neither stored nor
    /// counted as lost; 0 when no flow is open.
    pub fn in_flight(&self) -> (i64, i64) {
        in_flight(&self.totals())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Counts are valid between any two additions.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Packets and octets of these totals that were seen and that no entry explains.
pub fn unaccounted(totals: &InterfaceTotals) -> (i64, i64) {
    difference(totals, |entry| match entry {
        Entry::Seen => 1,
        Entry::Metered | Entry::NotMetered(_) | Entry::Lost(_) => -1,
        _ => 0,
    })
}

/// Packets and octets of these totals that are in open flows or on their way to the store.
pub fn in_flight(totals: &InterfaceTotals) -> (i64, i64) {
    difference(totals, |entry| entry.in_flight())
}

fn difference(totals: &InterfaceTotals, sign: impl Fn(&Entry) -> i64) -> (i64, i64) {
    totals.iter().fold((0, 0), |(packets, octets), (entry, count)| {
        let sign = sign(entry);
        (packets + sign * count.packets as i64, octets + sign * count.octets as i64)
    })
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
        assert_eq!(ledger.take(Uuid::nil()).len(), 1);
        assert!(ledger.take(Uuid::nil()).is_empty());
        assert_eq!(ledger.totals()[&Entry::Seen].packets, 1);
    }

    #[test]
    fn interfaces_that_come_and_go_keep_the_sum_and_take_bounded_memory() {
        let ledger = Ledger::default();
        let one = Count { packets: 1, octets: 60 };
        let stays: Arc<str> = "eth0".into();
        for number in 0..3 * MOST_INTERFACES {
            ledger.add(&stays, Entry::Seen, one);
            ledger.add(&format!("veth{number}").into(), Entry::Seen, one);
        }
        let interfaces = ledger.interfaces();
        assert!(interfaces.len() <= MOST_INTERFACES + 1, "{}", interfaces.len());
        assert_eq!(interfaces[&stays][&Entry::Seen].packets, 3 * MOST_INTERFACES as u64);
        assert!(interfaces.contains_key(FORMER_INTERFACES));
        let sum: u64 = interfaces.values().map(|totals| totals[&Entry::Seen].packets).sum();
        assert_eq!(sum, ledger.totals()[&Entry::Seen].packets);
    }
}
