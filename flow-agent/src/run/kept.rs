//! The books at the start: what agents before this one left becomes its first postings.
//!
//! Enters: the remains of their books, what is in the spool. Leaves: the ledger with this agent's
//! own estate. It holds that the wills are executed in the one write that begins that estate.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use flow_common::Count;
use uuid::Uuid;

use crate::estate::{Beginning, Estate, Memory, Remains, Saved, Witness};
use crate::ledger::{Counts, Entry, Ledger, LostRecord};
use crate::spool::Recovered;

/// What the books begin with.
#[derive(Debug, Default)]
pub struct Kept {
    /// For this agent's estate; none if it cannot have one.
    pub memory: Option<Box<dyn Memory>>,
    /// Of agents that were killed.
    pub remains: Vec<Remains>,
}

/// Packets and octets by interface.
type Sums = BTreeMap<Arc<str>, Count>;

impl Kept {
    /// Opens the books, with what was recovered from the spool.
    pub fn open(self, ledger: &Ledger, recovered: &Recovered, spool: Option<PathBuf>) {
        let heir_of: Vec<u128> = self.remains.iter().map(|it| it.beginning().id).collect();
        let (mut inherited, mut lost) = (Counts::new(), Sums::new());
        let mut held = Sums::new();
        for remains in self.remains {
            let in_memory = remains.spool() != spool.as_ref();
            let will = remains.will(|id| recovered.ids.contains(&id));
            for (line, count) in will.unwritten {
                inherited.entry(line).or_default().merge(count);
            }
            for (interface, count) in will.held {
                // Its own books say where that went: on to this agent.
                let line = (interface.clone(), Entry::Spooled);
                inherited.entry(line).or_default().merge(count);
                let sums = if in_memory { &mut lost } else { &mut held };
                sums.entry(interface).or_default().merge(count);
            }
        }
        let in_spool = spooled(recovered);
        for (interface, count) in held {
            let there = in_spool.get(&interface).copied().unwrap_or_default();
            let missing = Count {
                packets: count.packets.saturating_sub(there.packets),
                octets: count.octets.saturating_sub(there.octets),
            };
            lost.entry(interface).or_default().merge(missing);
        }
        lost.retain(|_, count| *count != Count::default());
        tell(&lost);
        let mut counts = recovered.lost.counts();
        for (interface, count) in in_spool.into_iter().chain(lost.clone()) {
            counts.entry((interface, Entry::Recovered)).or_default().merge(count);
        }
        for (interface, count) in lost {
            counts.insert((interface, Entry::LostRecord(LostRecord::Crash)), count);
        }
        ledger.inherit(&inherited);
        ledger.post(&counts, Witness::None, || ());
        if let Some(memory) = self.memory {
            let id = Uuid::now_v7().as_u128();
            let inherited = Saved::from(&inherited);
            let beginning = Beginning { id, spool, heir_of, inherited };
            ledger.keep(Estate::new(memory, beginning, &counts));
        }
    }
}

/// What waits in the spool, and what was lost there: it was in the spool, too.
fn spooled(recovered: &Recovered) -> Sums {
    let mut sums = Sums::new();
    for contents in [&recovered.waiting, &recovered.lost.total()] {
        for (interface, count) in &contents.counts {
            sums.entry(interface.clone()).or_default().merge(*count);
        }
    }
    sums
}

fn tell(lost: &Sums) {
    for (interface, count) in lost {
        tracing::warn!(
            "{interface}: {} packets and {} octets were in the cache or in batches of an agent \
             that was killed: they are lost, reason crash",
            count.packets,
            count.octets
        );
    }
}
