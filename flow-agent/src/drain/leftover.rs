//! What an agent that was killed had counted and not yet drained.

use aya::maps::{Array, Map, MapData, MapError};
use flow_common::table::{GENERATIONS, GenerationState, Journal, NAME_OCTETS, names};

use super::tables::Tables;
use super::{Balance, DrainError, FlowEntry, Interval, KernelClock};
use crate::attach::{PinFolder, TableSize};

/// The tables of a dead agent.
pub struct Leftover {
    map: Array<MapData, [u32; 10]>,
    journal: Journal,
    names: Array<MapData, [u8; NAME_OCTETS]>,
    tables: Tables,
}

impl Leftover {
    /// Opens the tables in a folder that a dead agent left.
    ///
    /// # Errors
    /// They are not there, or an agent with other layouts made them.
    pub fn open(folder: &PinFolder) -> Result<Self, DrainError> {
        let map: Array<MapData, [u32; 10]> = pinned(folder, names::JOURNAL)?;
        let journal: Journal = bytemuck::cast(map.get(&0, 0).map_err(DrainError::map)?);
        if journal.layout != Journal::LAYOUT {
            let (found, known) = (journal.layout, Journal::LAYOUT);
            return Err(DrainError::Layout { found, known });
        }
        let Journal { cpus, sets_per_region, interfaces, tunnels, .. } = journal;
        let size = TableSize { cpus, sets_per_region, interfaces, tunnels: tunnels != 0 };
        let tables = Tables::new(size, |name| pinned_map(folder, name))?;
        Ok(Self { map, journal, names: pinned(folder, names::NAMES)?, tables })
    }

    /// Reads what the programs had counted and nobody had taken: each flow goes to
    /// `flow`, with interface numbers as the dead agent gave them. What was being
    /// taken when the agent was killed may have gone on already: it is lost, reason
    /// `crash`. Returns the books by interface name.
    ///
    /// # Errors
    /// The kernel refuses a reading.
    pub fn read(
        &mut self,
        clock: &KernelClock,
        mut flow: impl FnMut(FlowEntry<'_>, &Interval),
    ) -> Result<Vec<(String, Balance)>, DrainError> {
        let interfaces = self.journal.interfaces as usize;
        self.mark_as_draining()?;
        let mut sum = vec![Balance::default(); interfaces];
        for generation in 0..GENERATIONS {
            let state = self.journal.states[generation as usize];
            if state == GenerationState::Drained as u32 {
                continue;
            }
            let mut balances = vec![Balance::default(); interfaces];
            self.tables.read_stray(generation, &mut balances)?;
            let draining = state == GenerationState::Draining as u32;
            let sampling = self.journal.sampling[generation as usize];
            let interval = Interval { clock: *clock, sampling };
            let mut take = |entry: FlowEntry<'_>| {
                if !draining {
                    flow(entry, &interval);
                }
            };
            // SAFETY: the programs of a dead agent are gone: nothing held them but it.
            unsafe { self.tables.read(generation, clock.reading(), &mut balances, &mut take) };
            for (sum, balance) in sum.iter_mut().zip(&mut balances) {
                if draining {
                    balance.lose_flows();
                }
                sum.merge(balance);
            }
        }
        let mut books = Vec::new();
        for (number, balance) in sum.into_iter().enumerate() {
            if balance != Balance::default() {
                books.push((self.name(number as u32)?, balance));
            }
        }
        Ok(books)
    }

    /// From now on a part may have gone on: should this agent be killed as well, the
    /// next one must not take it again.
    fn mark_as_draining(&mut self) -> Result<(), DrainError> {
        let mut marked = self.journal;
        for state in &mut marked.states {
            if *state != GenerationState::Drained as u32 {
                *state = GenerationState::Draining as u32;
            }
        }
        let words: [u32; 10] = bytemuck::cast(marked);
        self.map.set(0, words, 0).map_err(DrainError::map)
    }

    /// The names of its interface numbers, empty where a number was not used.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn names(&self) -> Result<Vec<String>, DrainError> {
        (0..self.journal.interfaces).map(|number| self.name(number)).collect()
    }

    fn name(&self, number: u32) -> Result<String, DrainError> {
        let octets = self.names.get(&number, 0).map_err(DrainError::map)?;
        let used = octets.iter().position(|octet| *octet == 0).unwrap_or(octets.len());
        Ok(String::from_utf8_lossy(&octets[..used]).into_owned())
    }
}

fn pinned_map(folder: &PinFolder, name: &'static str) -> Result<Map, DrainError> {
    MapData::from_pin(folder.table(name)).and_then(Map::from_map_data).map_err(DrainError::map)
}

fn pinned<T: TryFrom<Map, Error = MapError>>(
    folder: &PinFolder,
    name: &'static str,
) -> Result<T, DrainError> {
    T::try_from(pinned_map(folder, name)?).map_err(DrainError::map)
}
