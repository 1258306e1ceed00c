//! The journal: what the next agent must know of these tables if this one is killed, but
//! for the names of interfaces, which the hooks write down.

use aya::maps::{Array, MapData};
use flow_common::table::{GenerationState, Journal, names};

use super::DrainError;
use super::tables::take;
use crate::attach::{Kernel, TableSize};

/// The journal of the running agent.
pub struct JournalWriter {
    map: Array<MapData, [u32; 10]>,
    journal: Journal,
}

impl JournalWriter {
    /// A journal that says: generation 0 is filling, generation 1 is empty.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(kernel: &mut Kernel) -> Result<Self, DrainError> {
        let TableSize { cpus, sets_per_region, interfaces, tunnels } = kernel.size;
        let states = [GenerationState::Filling as u32, GenerationState::Drained as u32];
        let journal = Journal {
            layout: Journal::LAYOUT,
            cpus,
            sets_per_region,
            interfaces,
            tunnels: tunnels.into(),
            instance: kernel.instance(),
            states,
            sampling: [1; 2],
        };
        let mut writer = Self { map: take(kernel, names::JOURNAL)?, journal };
        writer.write()?;
        Ok(writer)
    }

    /// Writes down that a generation is filling, and its sampling weight.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn begin(&mut self, generation: u32, sampling: u32) -> Result<(), DrainError> {
        self.journal.sampling[generation as usize] = sampling;
        self.set_state(generation, GenerationState::Filling)
    }

    /// Writes down a generation's sampling weight.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_sampling(&mut self, generation: u32, sampling: u32) -> Result<(), DrainError> {
        self.journal.sampling[generation as usize] = sampling;
        self.write()
    }

    /// Writes down how far a generation is.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_state(&mut self, generation: u32, state: GenerationState) -> Result<(), DrainError> {
        self.journal.states[generation as usize] = state as u32;
        self.write()
    }

    fn write(&mut self) -> Result<(), DrainError> {
        let words: [u32; 10] = bytemuck::cast(self.journal);
        self.map.set(0, words, 0).map_err(DrainError::map)
    }
}
