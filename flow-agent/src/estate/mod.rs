//! The estate: the ledger's counts in memory that outlives the agent, so that the next one knows
//! to the packet what a killed agent took with it.
//!
//! Enters: what is posted to the ledger, with what bears witness to it; from the agents that were
//! killed before, what they left. Leaves, once this agent is killed as well: what it had not
//! written down yet, and what it held. It holds that at any moment what is in memory is what was
//! before a posting or what is after it, and that the witness says which.
//!
//! Three states are kept apart, because three threads write them and none may wait for another:
//! what came out of the kernel, what became of it, and what of both is in batches of the table
//! `ledger`. Each has two slots: see [`Slots`].

mod counts;
mod memory;
mod slots;
mod will;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use counts::Saved;
pub use memory::{Memory, PAGE, Page};
pub use slots::Slots;
pub use will::{Remains, Will};

use crate::failpoint::failpoint;
use crate::ledger::{Counts, Entry};

/// Who can tell the next agent whether a posting was done, should this one be killed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// Nobody need: the posting itself is the event.
    None,
    /// The journal of the kernel tables of this instance: they are not being drained any more.
    Tables(u32),
    /// The spool: it does not have this flow batch any more.
    Batch(Uuid),
    /// The same, of a batch of the table `ledger`.
    Books(Uuid),
}

impl Witness {
    fn token(self) -> u128 {
        match self {
            Self::None => 0,
            Self::Tables(instance) => u128::from(instance),
            Self::Batch(id) | Self::Books(id) => id.as_u128(),
        }
    }
}

/// Where a count came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// The kernel tables.
    Kernel = 0,
    /// The stages after the cache.
    Delivery = 1,
    /// Neither: what was written down of both.
    Written = 2,
}

impl Side {
    const ALL: [Self; 3] = [Self::Kernel, Self::Delivery, Self::Written];

    fn of(entry: Entry) -> Self {
        match entry {
            Entry::Seen
            | Entry::Metered
            | Entry::NotMetered(_)
            | Entry::Lost(_)
            | Entry::Drained
            | Entry::FragmentWithoutPorts => Self::Kernel,
            Entry::Recovered
            | Entry::Spooled
            | Entry::Acknowledged
            | Entry::LostRecord(_)
            | Entry::Resent(_) => Self::Delivery,
        }
    }
}

/// What an agent writes down of itself at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    /// Tells agents apart.
    pub id: u128,
    /// Its spool; none: in memory.
    pub spool: Option<PathBuf>,
    /// The agents whose estates it took: they are not to be taken again.
    pub heir_of: Vec<u128>,
    /// What they had not written down, and what this one had and was dropped since.
    pub inherited: Saved,
}

/// One of the three states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    counts: Saved,
    /// Of [`Side::Delivery`] alone.
    beginning: Option<Beginning>,
    /// The newest batch of the table `ledger` that is settled.
    books: u128,
}

/// The estate of this agent.
#[derive(Debug)]
pub struct Estate {
    sides: [Mutex<Kept>; 3],
}

#[derive(Debug)]
struct Kept {
    slots: Slots,
    state: State,
    /// It was told that the memory fails.
    told: bool,
}

impl Estate {
    /// An estate in this memory, which is empty, with the first postings, none from the kernel.
    pub fn new(memory: Box<dyn Memory>, beginning: Beginning, counts: &Counts) -> Self {
        let all = Slots::divide(memory, Side::ALL.len());
        let kept = |slots| Kept { slots, state: State::default(), told: false };
        let mut sides = all.into_iter().map(kept);
        let sides = Side::ALL.map(|_| Mutex::new(sides.next().expect("one for each side")));
        let estate = Self { sides };
        {
            let mut delivery = estate.side(Side::Delivery);
            delivery.state.beginning = Some(beginning);
            delivery.state.counts.add(counts);
            delivery.replace();
        }
        estate
    }

    /// Writes down `counts`, all of one side, around the act that makes them true.
    pub fn post<R>(&self, counts: &Counts, witness: Witness, act: impl FnOnce() -> R) -> R {
        // Of batches of the table `ledger` the end must be known, although they have no counts.
        if counts.is_empty() && !matches!(witness, Witness::Books(_)) {
            return act();
        }
        let side = counts.keys().next().map_or(Side::Delivery, |(_, entry)| Side::of(*entry));
        debug_assert!(counts.keys().all(|(_, entry)| Side::of(*entry) == side), "of one side");
        let mut kept = self.side(side);
        kept.state.counts.add(counts);
        if let Witness::Books(id) = witness {
            kept.state.books = kept.state.books.max(id.as_u128());
        }
        if witness == Witness::None {
            kept.replace();
            return act();
        }
        kept.prepare(witness);
        failpoint!("estate::prepared");
        let done = act();
        failpoint!("estate::done");
        kept.commit();
        done
    }

    /// Writes down that `counts` are in a batch, whose own presence bears witness. There is one
    /// such batch at a time: at the next call the one before has gone its way.
    pub fn write(&self, counts: &Counts, batch: Uuid) {
        let mut kept = self.side(Side::Written);
        kept.commit();
        kept.state.counts.add(counts);
        kept.prepare(Witness::Books(batch));
    }

    /// Writes down that `counts` are in no batch any more, whoever wrote it. The last one that was
    /// written has gone its way.
    pub fn inherit(&self, counts: &Counts) {
        self.side(Side::Written).commit();
        let mut kept = self.side(Side::Delivery);
        if let Some(beginning) = &mut kept.state.beginning {
            beginning.inherited.add(counts);
        }
        kept.replace();
    }

    fn side(&self, side: Side) -> MutexGuard<'_, Kept> {
        // A state is whole between any two of its operations.
        self.sides[side as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn prepare(&mut self, witness: Witness) {
        let octets = self.encode();
        let done = self.slots.prepare(&octets, witness.token());
        self.tell(done);
    }

    fn commit(&mut self) {
        let done = self.slots.commit();
        self.tell(done);
    }

    fn replace(&mut self) {
        let octets = self.encode();
        let done = self.slots.prepare(&octets, 0).and_then(|()| self.slots.commit());
        self.tell(done);
    }

    /// Interfaces are summed up when there are too many for a slot: the sums stay exact.
    fn encode(&mut self) -> Vec<u8> {
        let octets = postcard::to_allocvec(&self.state).unwrap_or_default();
        if octets.len() <= self.slots.capacity() {
            return octets;
        }
        self.state.counts.sum_up();
        if let Some(beginning) = &mut self.state.beginning {
            beginning.inherited.sum_up();
        }
        postcard::to_allocvec(&self.state).unwrap_or_default()
    }

    fn tell(&mut self, done: std::io::Result<()>) {
        if let Err(error) = done
            && !self.told
        {
            self.told = true;
            tracing::warn!(
                "the books cannot be kept for the next agent: {error}; if this agent is killed, \
                 what it held is lost without a count"
            );
        }
    }
}

#[cfg(test)]
mod tests;
