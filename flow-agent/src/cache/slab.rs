//! The flows themselves, in slots: memory that grows by a step and never moves.

use std::ops::Range;

use super::flow::Flow;
use super::prefetch;

/// Slots of a step: 192 KiB.
const STEP: usize = 1024;

/// What the allocator takes for itself with a step, octets.
const BLOCK: usize = 8;

/// No slot.
pub const NONE: u32 = u32::MAX;

/// Slots with flows, and free ones in a list through themselves.
#[derive(Debug)]
pub struct Slab {
    /// Each with memory for [`STEP`] flows, of which those that were used have one.
    steps: Vec<Vec<Flow>>,
    /// The first free slot that was used before.
    free: u32,
    /// Slots that were used since the last compaction.
    used: u32,
    len: usize,
}

impl Slab {
    /// An empty one.
    pub fn new() -> Self {
        Self { steps: Vec::new(), free: NONE, used: 0, len: 0 }
    }

    /// Flows.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Slots there is memory for.
    pub fn capacity(&self) -> usize {
        self.steps.len() * STEP
    }

    /// The flow of a slot, which may be free.
    #[inline(always)]
    pub fn get(&self, slot: u32) -> &Flow {
        &self.steps[slot as usize / STEP][slot as usize % STEP]
    }

    /// The same, to change it.
    #[inline(always)]
    pub fn get_mut(&mut self, slot: u32) -> &mut Flow {
        &mut self.steps[slot as usize / STEP][slot as usize % STEP]
    }

    /// Has the processor fetch what every update touches.
    #[inline(always)]
    pub fn prefetch(&self, slot: u32) {
        let flow = self.get(slot);
        prefetch(flow);
        prefetch(flow.counts());
    }

    /// The same for all of a flow, before it leaves.
    #[inline(always)]
    pub fn prefetch_whole(&self, slot: u32) {
        self.prefetch(slot);
        prefetch(&self.get(slot).since_ns);
    }

    /// Puts a flow into a slot.
    pub fn insert(&mut self, flow: Flow) -> u32 {
        self.len += 1;
        if self.free != NONE {
            let slot = self.free;
            self.free = self.get(slot).next_free();
            *self.get_mut(slot) = flow;
            return slot;
        }
        if self.used as usize == self.capacity() {
            self.steps.push(Vec::with_capacity(STEP));
        }
        let slot = self.used;
        self.used += 1;
        self.steps[slot as usize / STEP].push(flow);
        slot
    }

    /// Takes the flow out of a slot.
    pub fn remove(&mut self, slot: u32) -> Flow {
        let next = self.free;
        self.free = slot;
        self.len -= 1;
        std::mem::replace(self.get_mut(slot), Flow::free(next))
    }

    /// The number of slots of which some have flows: those before it.
    pub fn slots(&self) -> u32 {
        self.used
    }

    /// The flows in these slots, which are below [`Slab::slots`].
    pub fn iter(&self, slots: Range<u32>) -> impl Iterator<Item = (u32, &Flow)> {
        slots.map(|slot| (slot, self.get(slot))).filter(|(_, flow)| !flow.is_free())
    }

    /// Moves the flows together and gives the memory behind them back; `moved` is told of each
    /// that has another slot now.
    pub fn compact(&mut self, mut moved: impl FnMut(&Flow, u32, u32)) {
        let (mut to, mut from) = (0, self.used);
        loop {
            while to < self.used && !self.get(to).is_free() {
                to += 1;
            }
            while from > 0 && self.get(from - 1).is_free() {
                from -= 1;
            }
            if to >= from {
                break;
            }
            from -= 1;
            let flow = std::mem::replace(self.get_mut(from), Flow::free(NONE));
            moved(&flow, from, to);
            *self.get_mut(to) = flow;
        }
        self.used = self.len as u32;
        self.free = NONE;
        self.steps.truncate(self.len.div_ceil(STEP));
        if let (Some(last), used @ 1..) = (self.steps.last_mut(), self.len % STEP) {
            last.truncate(used);
        }
        self.steps.shrink_to_fit();
    }

    /// Memory taken, octets.
    pub fn bytes(&self) -> u64 {
        let steps = self.steps.len() * BLOCK + self.steps.capacity() * size_of::<Vec<Flow>>();
        (self.capacity() * size_of::<Flow>() + steps) as u64
    }

    /// Memory that so many flows take, octets.
    pub fn bytes_for(flows: usize) -> u64 {
        let steps = flows.div_ceil(STEP);
        // The list of steps doubles.
        (steps * (STEP * size_of::<Flow>() + BLOCK)
            + steps.next_power_of_two().max(4) * size_of::<Vec<Flow>>()) as u64
    }
}
