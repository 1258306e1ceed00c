//! The drain itself, over the mapped tables.

use aya::maps::{Array, ArrayOfMaps, Map, MapData, PerCpuArray, PerCpuValues, RingBuf};
use aya::programs::SchedClassifier;
use flow_common::table::{ColdLine, HotLine, Region, Set, names};
use flow_common::{Count, InterfaceCounters, Lost};

use super::clock::ClockReader;
use super::{Balance, DrainError, KernelClock};
use crate::attach::{Kernel, TableSize};
use crate::delta::Delta;
use crate::mapped::{MapValue, MappedArray, read_evicted};

/// What one drain gives besides deltas.
#[derive(Debug)]
pub struct Drained {
    /// One for each interface number; number 0 is for unknown interfaces.
    pub balances: Vec<Balance>,
    /// The clocks at the flip.
    pub clock: KernelClock,
    /// Flows that left a full set.
    pub evicted: u64,
}

/// Reads and clears the tables, one generation at a time.
pub struct Drain {
    size: TableSize,
    interfaces: usize,
    /// The generation that the programs fill.
    filling: u32,
    selector: ArrayOfMaps<MapData, Array<MapData, u32>>,
    generations: [Array<MapData, u32>; 2],
    sets: MappedArray<Set>,
    dirty: MappedArray<u64>,
    regions: MappedArray<Region>,
    counters: MappedArray<InterfaceCounters>,
    stray: PerCpuArray<MapData, [u64; 2]>,
    ring: RingBuf<MapData>,
    clock: ClockReader,
    /// Balances of both generations: a ring record may come before its generation is drained.
    balances: [Vec<Balance>; 2],
}

impl Drain {
    /// Takes the tables of a kernel side that meters interfaces 1 to `interfaces`;
    /// the programs fill generation 0 from now on.
    ///
    /// # Errors
    /// A table cannot be used or mapped.
    pub fn new(kernel: &mut Kernel, interfaces: usize) -> Result<Self, DrainError> {
        let size = kernel.size;
        let regions = size.regions() as usize;
        let sets = regions * size.sets_per_region as usize;
        let mut selector: ArrayOfMaps<MapData, Array<MapData, u32>> =
            take(kernel, names::GENERATION)?;
        let generations = [generation(0)?, generation(1)?];
        selector.set(0, &generations[0], 0).map_err(DrainError::map)?;
        let clock_map = take(kernel, names::CLOCK)?;
        let numbers = interfaces + 1; // number 0 is for packets of unknown interfaces
        Ok(Self {
            size,
            interfaces: numbers,
            filling: 0,
            selector,
            generations,
            sets: map(kernel, names::SETS, sets)?,
            dirty: map(kernel, names::DIRTY, sets)?,
            regions: map(kernel, names::REGIONS, regions)?,
            counters: map(kernel, names::COUNTERS, regions * size.interfaces as usize)?,
            stray: take(kernel, names::STRAY)?,
            ring: take(kernel, names::EVICTED)?,
            clock: ClockReader::new(clock_program(kernel)?, clock_map)?,
            balances: [vec![Balance::default(); numbers], vec![Balance::default(); numbers]],
        })
    }

    /// Drains what was counted since the last call: deltas go to `out`.
    ///
    /// # Errors
    /// The kernel refused a flip or a reading. What was not read stays in its
    /// generation, for a later call.
    pub fn drain(
        &mut self,
        kernel: &Kernel,
        wall_clock: impl FnOnce() -> u64,
        out: &mut Vec<Delta>,
    ) -> Result<Drained, DrainError> {
        let idle = self.filling;
        self.flip()?;
        let clock = self.clock.sample(clock_program(kernel)?, wall_clock)?;
        // What can fail comes first: nothing has been taken until then.
        self.read_stray(idle)?;
        self.read_ring(&clock, out);
        let mut evicted = 0;
        for cpu in 0..self.size.cpus {
            evicted += self.read_region(idle, cpu, &clock, out);
        }
        let clear = vec![Balance::default(); self.interfaces];
        let balances = std::mem::replace(&mut self.balances[idle as usize], clear);
        Ok(Drained { balances, clock, evicted })
    }

    /// From now on interfaces 1 to `interfaces` are metered, if that is more than until now.
    /// Their packets are read only after this, so it comes before any hook is attached.
    pub fn cover(&mut self, interfaces: usize) {
        self.interfaces = self.interfaces.max(interfaces + 1);
        for balances in &mut self.balances {
            balances.resize(self.interfaces, Balance::default());
        }
    }

    /// Evicted flows that the ring can hold.
    pub fn ring_flows(&self) -> usize {
        self.size.ring_flows()
    }

    /// Empties the ring of evicted flows without a flip, so that it does not
    /// fill up between two drains.
    ///
    /// # Errors
    /// The kernel's clock cannot be read; nothing was taken.
    pub fn poll(
        &mut self,
        kernel: &Kernel,
        wall_clock: impl FnOnce() -> u64,
        out: &mut Vec<Delta>,
    ) -> Result<(), DrainError> {
        let clock = self.clock.sample(clock_program(kernel)?, wall_clock)?;
        self.read_ring(&clock, out);
        Ok(())
    }

    /// Lets the programs fill the other generation and waits until none of them
    /// can still write this one: updating a map in a map does both.
    fn flip(&mut self) -> Result<(), DrainError> {
        let next = 1 - self.filling;
        self.selector.set(0, &self.generations[next as usize], 0).map_err(DrainError::map)?;
        self.filling = next;
        Ok(())
    }

    /// Evicted flows, of the idle generation and already of the new one: at most
    /// as many as the ring holds, or a flood would keep this going for ever.
    /// Those of the idle generation were all there when the flip returned.
    fn read_ring(&mut self, clock: &KernelClock, out: &mut Vec<Delta>) {
        for _ in 0..self.size.ring_flows() {
            let Some(item) = self.ring.next() else { break };
            let Some(evicted) = read_evicted(&item) else { continue };
            let balances = &mut self.balances[evicted.generation as usize & 1];
            push(&evicted.hot, &evicted.cold, clock, balances, out);
        }
    }

    fn read_region(
        &mut self,
        generation: u32,
        cpu: u32,
        clock: &KernelClock,
        out: &mut Vec<Delta>,
    ) -> u64 {
        let region = (generation * self.size.cpus + cpu) as usize;
        let balances = &mut self.balances[generation as usize];
        let sets_per_region = self.size.sets_per_region as usize;
        let first_set = region * sets_per_region;
        let first_counter = region * self.size.interfaces as usize;
        // SAFETY: `flip` has waited for every program that could write this region.
        let (header, sets, counters) = unsafe {
            (
                &mut self.regions.idle(region..region + 1)[0],
                self.sets.idle(first_set..first_set + sets_per_region),
                self.counters.idle(first_counter..first_counter + balances.len()),
            )
        };
        let dirty = header.dirty as usize;
        // SAFETY: as above.
        let dirty = unsafe { self.dirty.idle(first_set..first_set + dirty.min(sets_per_region)) };
        for set in dirty {
            let set = &mut sets[*set as usize % sets_per_region];
            for way in 0..set.tags.len() {
                if set.tags[way] != 0 {
                    push(&set.hot[way], &set.cold[way], clock, balances, out);
                    set.tags[way] = 0;
                }
            }
        }
        let evicted =
            std::mem::replace(header, Region { dirty: 0, reserved: 0, evicted: 0 }).evicted;
        for (balance, counters) in balances.iter_mut().zip(counters) {
            balance.seen.merge(counters.seen);
            for (sum, count) in balance.not_metered.iter_mut().zip(counters.not_metered) {
                sum.merge(count);
            }
            for (sum, count) in balance.lost.iter_mut().zip(counters.lost) {
                sum.merge(count);
            }
            balance.fragments_without_ports += counters.fragments_without_ports;
            *counters = InterfaceCounters::ZERO;
        }
        evicted
    }

    /// Packets on CPUs without a region: seen, and lost.
    fn read_stray(&mut self, generation: u32) -> Result<(), DrainError> {
        for (number, balance) in self.balances[generation as usize].iter_mut().enumerate() {
            let index = generation * self.size.interfaces + number as u32;
            let values = self.stray.get(&index, 0).map_err(DrainError::map)?;
            let mut sum = Count::default();
            for [packets, octets] in values.iter() {
                sum.add(*packets, *octets);
            }
            if sum != Count::default() {
                balance.seen.merge(sum);
                balance.lost[Lost::NoRegion as usize].merge(sum);
                let zero = PerCpuValues::try_from(vec![[0; 2]; values.len()])
                    .map_err(|source| DrainError::Map { problem: source.to_string() })?;
                self.stray.set(index, zero, 0).map_err(DrainError::map)?;
            }
        }
        Ok(())
    }
}

/// One table entry becomes a delta and is counted as metered.
fn push(
    hot: &HotLine,
    cold: &ColdLine,
    clock: &KernelClock,
    balances: &mut [Balance],
    out: &mut Vec<Delta>,
) {
    let Some(balance) = balances.get_mut(usize::from(hot.key.interface)) else { return };
    balance.metered.add(u64::from(hot.packets), hot.octets);
    let first_ns = clock.agent_ns(cold.first_ns);
    out.push(Delta {
        key: hot.key,
        packets: u64::from(hot.packets),
        octets: hot.octets,
        first_ns,
        last_ns: clock.agent_ns_of_jiffies(hot.last_jiffies).max(first_ns),
        syn_ns: clock.agent_ns(cold.syn_ns),
        syn_packets: cold.syn_packets,
        syn_ack_packets: cold.syn_ack_packets,
        tcp_flags: hot.tcp_flags,
        dscp: hot.dscp,
        min_ttl: hot.min_ttl,
        max_ttl: hot.max_ttl,
    });
}

fn generation(number: u32) -> Result<Array<MapData, u32>, DrainError> {
    let mut map = Array::create(1, 0).map_err(DrainError::map)?;
    map.set(0, number, 0).map_err(DrainError::map)?;
    Ok(map)
}

fn clock_program(kernel: &Kernel) -> Result<&SchedClassifier, DrainError> {
    kernel.clock().map_err(|error| DrainError::Clock { problem: error.to_string() })
}

fn take<T: TryFrom<Map, Error = aya::maps::MapError>>(
    kernel: &mut Kernel,
    name: &'static str,
) -> Result<T, DrainError> {
    let map = kernel
        .ebpf
        .take_map(name)
        .ok_or_else(|| DrainError::Map { problem: format!("map {name} is missing") })?;
    T::try_from(map).map_err(DrainError::map)
}

fn map<T: MapValue>(
    kernel: &mut Kernel,
    name: &'static str,
    len: usize,
) -> Result<MappedArray<T>, DrainError> {
    let Some(Map::Array(data)) = kernel.ebpf.map(name) else {
        return Err(DrainError::Map { problem: format!("map {name} is not an array") });
    };
    MappedArray::new(data.fd(), len).map_err(|source| DrainError::Mapping {
        map: name,
        bytes: (len * size_of::<T>()) as u64,
        source,
    })
}
