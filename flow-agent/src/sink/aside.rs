//! Batches that wait: for a server that is away, for somebody to change a table.
//!
//! Enters: that a batch begins to wait, and that it has ended. Leaves: whether another one may be
//! taken up. It holds that those that wait leave the slots to others, as far as the memory that
//! is meant for them goes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use crate::frozen::FrozenBatch;

/// Batches that may wait beside those under way,
const MOST_BATCHES: usize = 2048;
/// and their octets, however large the spool is.
const MOST_OCTETS: u64 = 64 << 20;
/// So many are tried at the usual times, so many more at half of them, and so on.
const CROWD: usize = 16;

/// The batches that wait.
#[derive(Debug)]
pub struct Aside {
    slots: usize,
    most_octets: u64,
    sums: Mutex<Sums>,
    /// Of those that wait so many are tried at once.
    pub turns: Semaphore,
    /// A batch has begun to wait: its slot is free.
    pub freed: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    batches: usize,
    octets: u64,
}

/// A batch waits as long as this is there.
#[derive(Debug)]
pub struct Place<'a> {
    aside: &'a Aside,
    octets: u64,
    /// How many waited before it.
    before: usize,
}

impl Aside {
    /// Beside so many slots, taken out of a spool of so many octets: what waits is never dropped,
    /// so it may be half of them, that the rest can make room in its order. As many batches as
    /// there are slots may wait whatever they have.
    pub fn new(slots: usize, spool_octets: u64) -> Self {
        Self {
            slots,
            most_octets: MOST_OCTETS.min(spool_octets / 2),
            sums: Mutex::default(),
            turns: Semaphore::new(slots),
            freed: Notify::new(),
        }
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        // Two numbers, valid between any two statements.
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch waits from now on.
    pub fn place(&self, batch: &FrozenBatch) -> Place<'_> {
        let octets = batch.block.len() as u64;
        let mut sums = self.sums();
        let before = sums.batches;
        sums.batches += 1;
        sums.octets += octets;
        drop(sums);
        self.freed.notify_one();
        Place { aside: self, octets, before }
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.sums().batches == 0
    }

    /// True if one more may be taken up beside so many, those that wait included.
    pub fn has_slot(&self, under_way: usize) -> bool {
        let Sums { batches, octets } = *self.sums();
        let room = batches <= self.slots || (batches < MOST_BATCHES && octets < self.most_octets);
        room && under_way.saturating_sub(batches) < self.slots
    }
}

impl Place<'_> {
    /// The more wait, the less often each is tried.
    pub fn slower(&self, pause: Duration) -> Duration {
        pause * (1 + self.before / CROWD) as u32
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut sums = self.aside.sums();
        sums.batches -= 1;
        sums.octets -= self.octets;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::frozen::Table;

    fn batch(octets: usize) -> FrozenBatch {
        FrozenBatch {
            id: Uuid::nil(),
            table: Table::Latency,
            exported_at: 0,
            rows: 1,
            counts: Vec::new(),
            block: vec![0; octets].into(),
        }
    }

    #[test]
    fn batches_that_wait_hold_no_slot_as_long_as_there_is_room_for_them() {
        let aside = Aside::new(2, 1000);
        assert!(aside.has_slot(1) && !aside.has_slot(2));
        let small = batch(1);
        let mut places = vec![aside.place(&small), aside.place(&small)];
        assert!(aside.has_slot(3) && !aside.has_slot(4), "two wait, two are under way");
        places.extend((2..MOST_BATCHES).map(|_| aside.place(&small)));
        assert!(!aside.has_slot(MOST_BATCHES), "too many");
        assert_eq!(places[0].slower(Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(places[CROWD].slower(Duration::from_secs(1)), Duration::from_secs(2));
        drop(places);
        let large = batch(500);
        let places = [(); 2].map(|()| aside.place(&large));
        assert!(aside.has_slot(2), "as many as there are slots wait whatever they have");
        let third = aside.place(&large);
        assert!(!aside.has_slot(3));
        drop((places, third));
        assert!(aside.is_empty());
    }
}
