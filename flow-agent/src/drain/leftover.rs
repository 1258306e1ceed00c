//! What an agent that was killed had counted and not yet drained.

use aya::maps::{Array, Map, MapData, MapError};
use flow_common::table::{GENERATIONS, GenerationState, Journal, NAME_OCTETS, names};

use super::tables::Tables;
use super::{Balance, DrainError, FlowEntry, Here, Interval, KernelClock};
use crate::attach::{Interface, PinFolder, TableSize, end_counting};

/// The tables of a dead agent.
pub struct Leftover {
    map: Array<MapData, [u32; 10]>,
    journal: Journal,
    names: Array<MapData, [u8; NAME_OCTETS]>,
    tables: Tables,
}

impl Leftover {
    /// True if there is nothing to take: the agent was killed before it had attached
    /// anything, or while it removed tables that were read.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn is_unused(folder: &PinFolder) -> Result<bool, DrainError> {
        // The first to be pinned and to be removed, and the one that is written at last.
        for name in [names::SETS, names::JOURNAL] {
            if matches!(folder.table(name).try_exists(), Ok(false)) {
                return Ok(true);
            }
        }
        let map: Array<MapData, [u32; 10]> = pinned(folder, names::JOURNAL)?;
        Ok(map.get(&0, 0).map_err(DrainError::map)? == [0; 10])
    }

    /// The instance whose tables are in a folder if it was killed while it drained them; none if
    /// it was not, or if nothing is to be taken there any more.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn draining(folder: &PinFolder) -> Result<Option<u32>, DrainError> {
        if Self::is_unused(folder)? {
            return Ok(None);
        }
        let map: Array<MapData, [u32; 10]> = pinned(folder, names::JOURNAL)?;
        let journal: Journal = bytemuck::cast(map.get(&0, 0).map_err(DrainError::map)?);
        let draining = journal.states.contains(&(GenerationState::Draining as u32));
        Ok(draining.then_some(journal.instance))
    }

    /// The instance that made these tables.
    pub fn instance(&self) -> u32 {
        self.journal.instance
    }

    /// Opens the tables in a folder that a dead agent left. Programs of it that still count
    /// are detached from `interfaces`.
    ///
    /// # Errors
    /// They are not there, an agent with other layouts made them, or programs still count.
    pub fn open(folder: &PinFolder, interfaces: &[Interface]) -> Result<Self, DrainError> {
        let map: Array<MapData, [u32; 10]> = pinned(folder, names::JOURNAL)?;
        let journal: Journal = bytemuck::cast(map.get(&0, 0).map_err(DrainError::map)?);
        if journal.layout != Journal::LAYOUT {
            let (found, known) = (journal.layout, Journal::LAYOUT);
            return Err(DrainError::Layout { found, known });
        }
        if !end_counting(folder, interfaces).map_err(|source| DrainError::Programs { source })? {
            return Err(DrainError::Written);
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
    /// The kernel refuses; `flow` was given nothing.
    pub fn read(
        &mut self,
        clock: &KernelClock,
        mut flow: impl FnMut(FlowEntry<'_>, &Interval),
    ) -> Result<Vec<(String, Balance)>, DrainError> {
        // Whatever can fail comes first: no flow is given on without its books.
        let names = self.names()?;
        self.mark_as_draining()?;
        let (interfaces, states) = (names.len(), self.journal.states);
        let mut undrained = Vec::new();
        for (generation, state) in (0..GENERATIONS).zip(states) {
            if state != GenerationState::Drained as u32 {
                let mut balances = vec![Balance::default(); interfaces];
                self.tables.read_stray(generation, &mut balances)?;
                undrained.push((generation, state, balances));
            }
        }
        let mut sum = vec![Balance::default(); interfaces];
        for (generation, state, mut balances) in undrained {
            let draining = state == GenerationState::Draining as u32;
            let sampling = self.journal.sampling[generation as usize];
            let interval = Interval { clock: *clock, sampling };
            let mut take = Here(|entry: FlowEntry<'_>, interval: &Interval| {
                if !draining {
                    flow(entry, interval);
                }
            });
            // SAFETY: `open` has seen that no loaded program has these tables, and nobody
            // loads one with the tables of a folder that this process has locked.
            unsafe { self.tables.read(generation, &interval, &mut balances, &mut take) };
            for (sum, balance) in sum.iter_mut().zip(&mut balances) {
                if draining {
                    balance.lose_flows();
                }
                sum.merge(balance);
            }
        }
        let books = names.into_iter().zip(sum);
        Ok(books.filter(|(_, balance)| *balance != Balance::default()).collect())
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
