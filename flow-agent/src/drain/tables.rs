//! The tables of the kernel side, mapped into this process.

use std::sync::Arc;

use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use flow_common::table::{Entry, Region, names};
use flow_common::{Count, Direction, InterfaceCounters, Lost, Tunnel};

use super::sets::FlowSets;
use super::{Balance, Destination, DrainError, FlowEntry, Interval, overflow};
use crate::attach::{Kernel, TableSize};
use crate::mapped::MappedArray;

/// The mapped tables of both generations.
pub struct Tables {
    size: TableSize,
    sets: Arc<FlowSets>,
    regions: MappedArray<Region>,
    evicted: MappedArray<Entry>,
    evicted_tunnels: MappedArray<Tunnel>,
    counters: MappedArray<InterfaceCounters>,
    /// `None` where every CPU that there can be has a region.
    stray: Option<PerCpuArray<MapData, [u64; 2]>>,
}

/// How full the tables of a generation are, as shares of what they can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FillLevel {
    /// The fullest CPU's flows.
    pub flows: f32,
    /// The fullest CPU's list of evicted flows.
    pub evicted: f32,
}

impl Tables {
    /// Maps tables of a size, which `table` gives by name.
    ///
    /// # Errors
    /// A table is missing or cannot be mapped.
    pub fn new(
        size: TableSize,
        mut table: impl FnMut(&'static str) -> Result<Map, DrainError>,
    ) -> Result<Self, DrainError> {
        // What cannot be found out is taken to be so.
        let every_cpu = aya::util::nr_cpus().is_ok_and(|cpus| cpus <= size.cpus as usize);
        let stray = if every_cpu { None } else { Some(table(names::STRAY)?) };
        let regions = size.regions() as usize;
        let per_region = |count: u32| regions * count as usize;
        let evicted = per_region(size.evicted_per_region());
        let counters = per_region(size.interfaces);
        let evicted_tunnels = per_region(size.evicted_tunnels()).max(1);
        Ok(Self {
            size,
            sets: Arc::new(FlowSets::new(size, &mut table)?),
            regions: map(table(names::REGIONS)?, names::REGIONS, regions)?,
            evicted: map(table(names::EVICTED)?, names::EVICTED, evicted)?,
            evicted_tunnels: map(
                table(names::EVICTED_TUNNELS)?,
                names::EVICTED_TUNNELS,
                evicted_tunnels,
            )?,
            counters: map(table(names::COUNTERS)?, names::COUNTERS, counters)?,
            stray: stray.map(PerCpuArray::try_from).transpose().map_err(DrainError::map)?,
        })
    }

    /// How full a generation is while it is being filled.
    pub fn fill_level(&self, generation: u32) -> FillLevel {
        let mut level = FillLevel::default();
        for cpu in 0..self.size.cpus {
            let region = self.regions.glance((generation * self.size.cpus + cpu) as usize);
            let share = |part: u32, whole: u32| part as f32 / whole as f32;
            level.flows = level.flows.max(share(region.flows, self.size.flows_per_region()));
            level.evicted =
                level.evicted.max(share(region.evicted, self.size.evicted_per_region()));
        }
        level
    }

    /// Reads every flow of a generation and empties its sets; the counters stay until
    /// [`Tables::clear_counters`]. Returns how many flows had left a full set.
    ///
    /// # Safety
    /// The generation was flipped away and its grace period is over.
    pub unsafe fn read(
        &mut self,
        generation: u32,
        interval: &Interval,
        balances: &mut [Balance],
        to: &mut impl Destination,
    ) -> u64 {
        // SAFETY: the caller's promise; this waits for all parts before it returns.
        let parts =
            unsafe { FlowSets::hand_out(&self.sets, generation, *interval, balances.len(), to) };
        let mut evicted = 0;
        for cpu in 0..self.size.cpus {
            let region = (generation * self.size.cpus + cpu) as usize;
            // SAFETY: the caller's promise.
            unsafe {
                evicted += self.read_evicted(region, interval, balances, to);
                self.read_counters(region, balances);
            }
        }
        for (number, balance) in balances.iter().enumerate() {
            let now = interval.clock.reading();
            let mut row = |entry: FlowEntry<'_>| to.flow(entry, interval);
            overflow::emit(number as u16, &balance.overflow, now, &mut row);
        }
        to.flush(interval);
        parts.wait(to, balances);
        evicted
    }

    /// Reads and empties the list of evicted flows of a region.
    ///
    /// # Safety
    /// As [`Tables::read`].
    unsafe fn read_evicted(
        &mut self,
        region: usize,
        interval: &Interval,
        balances: &mut [Balance],
        to: &mut impl Destination,
    ) -> u64 {
        let most = self.size.evicted_per_region() as usize;
        // SAFETY: the caller's promise.
        let header = unsafe { &mut self.regions.idle(region..region + 1)[0] };
        let count = std::mem::take(&mut header.evicted) as usize;
        header.flows = 0;
        let first = region * most;
        let first_tunnel = region * self.size.evicted_tunnels() as usize;
        let tunnels = count.min(self.size.evicted_tunnels() as usize);
        // SAFETY: as above.
        let (entries, tunnels) = unsafe {
            (
                self.evicted.idle(first..first + count.min(most)),
                self.evicted_tunnels.idle(first_tunnel..first_tunnel + tunnels),
            )
        };
        for (position, Entry { hot, first_ns, tcp }) in entries.iter().enumerate() {
            let tunnel = tunnels.get(position).unwrap_or(&Tunnel::NONE);
            if let Some(balance) = balances.get_mut(usize::from(hot.key.interface)) {
                balance.metered.add(u64::from(hot.packets), hot.octets);
                if hot.key.direction != Direction::Egress as u8 {
                    balance.received.add(u64::from(hot.packets), hot.octets);
                }
                to.flow(FlowEntry { hot, first_ns: *first_ns, tcp, tunnel }, interval);
            }
        }
        count as u64
    }

    /// Adds the counters of a region.
    ///
    /// # Safety
    /// As [`Tables::read`].
    unsafe fn read_counters(&mut self, region: usize, balances: &mut [Balance]) {
        let first = region * self.size.interfaces as usize;
        // SAFETY: the caller's promise.
        let counters = unsafe { self.counters.idle(first..first + balances.len()) };
        for (balance, counters) in balances.iter_mut().zip(counters) {
            balance.add_counters(counters);
        }
    }

    /// Zeroes the counters of a generation.
    ///
    /// # Safety
    /// As [`Tables::read`].
    pub unsafe fn clear_counters(&mut self, generation: u32, interfaces: usize) {
        for cpu in 0..self.size.cpus {
            let first = ((generation * self.size.cpus + cpu) * self.size.interfaces) as usize;
            // SAFETY: the caller's promise.
            for counters in unsafe { self.counters.idle(first..first + interfaces) } {
                let rules = counters.rules;
                *counters = InterfaceCounters::ZERO;
                counters.rules = rules;
            }
        }
    }

    /// Tells the programs which rules a generation has.
    ///
    /// # Safety
    /// As [`Tables::read`].
    pub unsafe fn set_rules(&mut self, generation: u32, rules: u32) {
        let regions = (self.size.cpus * self.size.interfaces) as usize;
        let first = generation as usize * regions;
        // SAFETY: the caller's promise.
        for counters in unsafe { self.counters.idle(first..first + regions) } {
            counters.rules = rules;
        }
    }

    /// Packets on CPUs without a region: seen, and lost. One or two system calls for each
    /// interface.
    ///
    /// # Errors
    /// The kernel refuses; what is not in the balances stays for the next time.
    pub fn read_stray(
        &mut self,
        generation: u32,
        balances: &mut [Balance],
    ) -> Result<(), DrainError> {
        let Some(stray) = &mut self.stray else { return Ok(()) };
        for (number, balance) in balances.iter_mut().enumerate() {
            let index = generation * self.size.interfaces + number as u32;
            let values = stray.get(&index, 0).map_err(DrainError::map)?;
            let mut sum = Count::default();
            for [packets, octets] in values.iter() {
                sum.add(*packets, *octets);
            }
            if sum != Count::default() {
                let zero = PerCpuValues::try_from(vec![[0; 2]; values.len()])
                    .map_err(|source| DrainError::Map { problem: source.to_string() })?;
                stray.set(index, zero, 0).map_err(DrainError::map)?;
                balance.seen.merge(sum);
                balance.lost[Lost::NoRegion as usize].merge(sum);
            }
        }
        Ok(())
    }
}

/// Takes a map out of the kernel side.
pub(super) fn take<T: TryFrom<Map, Error = aya::maps::MapError>>(
    kernel: &mut Kernel,
    name: &'static str,
) -> Result<T, DrainError> {
    T::try_from(take_map(kernel, name)?).map_err(DrainError::map)
}

/// The same for a map of any kind.
pub(super) fn take_map(kernel: &mut Kernel, name: &'static str) -> Result<Map, DrainError> {
    let missing = || DrainError::Map { problem: format!("map {name} is missing") };
    kernel.ebpf.take_map(name).ok_or_else(missing)
}

/// Maps a table of `len` entries.
pub(super) fn map<T: bytemuck::Pod>(
    map: Map,
    name: &'static str,
    len: usize,
) -> Result<MappedArray<T>, DrainError> {
    let Map::Array(data) = map else {
        return Err(DrainError::Map { problem: format!("map {name} is not an array") });
    };
    MappedArray::new(data.fd(), len).map_err(|source| DrainError::Mapping {
        map: name,
        bytes: (len * size_of::<T>()) as u64,
        source,
    })
}
