//! The tables of the kernel side, mapped into this process.

use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use flow_common::key::protocol;
use flow_common::table::{
    ClockReading, Entry, Head, Region, Set, TcpLine, TcpSet, TunnelSet, WAYS, names,
};
use flow_common::{Count, InterfaceCounters, Lost, Tunnel};

use super::{Balance, DrainError, FlowEntry, overflow};
use crate::attach::{Kernel, TableSize};
use crate::mapped::{MappedArray, prefetch};

/// So many sets ahead of the reading, a set's tags are fetched into the cache;
const TAGS_AHEAD: usize = 24;
/// and so many ahead, when they say which, the lines of its flows.
const LINES_AHEAD: usize = 12;

/// The mapped tables of both generations.
pub struct Tables {
    size: TableSize,
    sets: MappedArray<Set>,
    heads: MappedArray<Head>,
    tcp: MappedArray<TcpSet>,
    dirty: MappedArray<u64>,
    regions: MappedArray<Region>,
    evicted: MappedArray<Entry>,
    tunnels: MappedArray<TunnelSet>,
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
        let sets = per_region(size.sets_per_region);
        let evicted = per_region(size.evicted_per_region());
        let counters = per_region(size.interfaces);
        let tunnels = per_region(size.tunnel_sets()).max(1);
        let evicted_tunnels = per_region(size.evicted_tunnels()).max(1);
        Ok(Self {
            size,
            sets: map(table(names::SETS)?, names::SETS, sets)?,
            heads: map(table(names::HEADS)?, names::HEADS, sets)?,
            tcp: map(table(names::TCP)?, names::TCP, sets)?,
            dirty: map(table(names::DIRTY)?, names::DIRTY, per_region(size.dirty_words()))?,
            regions: map(table(names::REGIONS)?, names::REGIONS, regions)?,
            evicted: map(table(names::EVICTED)?, names::EVICTED, evicted)?,
            tunnels: map(table(names::TUNNELS)?, names::TUNNELS, tunnels)?,
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
    /// [`Tables::clear_counters`]. `now` is the time of flows that have
    /// none. Returns how many flows had left a full set.
    ///
    /// # Safety
    /// The generation was flipped away and its grace period is over.
    pub unsafe fn read(
        &mut self,
        generation: u32,
        now: ClockReading,
        balances: &mut [Balance],
        flow: &mut impl FnMut(FlowEntry<'_>),
    ) -> u64 {
        let mut evicted = 0;
        for cpu in 0..self.size.cpus {
            let region = (generation * self.size.cpus + cpu) as usize;
            // SAFETY: the caller's promise.
            unsafe {
                self.read_sets(region, balances, flow);
                evicted += self.read_evicted(region, balances, flow);
                self.read_counters(region, balances);
            }
        }
        for (number, balance) in balances.iter().enumerate() {
            overflow::emit(number as u16, &balance.overflow, now, flow);
        }
        evicted
    }

    /// Reads and empties the sets of a region.
    ///
    /// # Safety
    /// As [`Tables::read`].
    unsafe fn read_sets(
        &mut self,
        region: usize,
        balances: &mut [Balance],
        flow: &mut impl FnMut(FlowEntry<'_>),
    ) {
        let sets_per_region = self.size.sets_per_region as usize;
        let words = self.size.dirty_words() as usize;
        let tunnel_sets = self.size.tunnel_sets() as usize;
        // SAFETY: the caller's promise.
        let (sets, heads, tcp, dirty, tunnels) = unsafe {
            (
                self.sets.idle(region * sets_per_region..(region + 1) * sets_per_region),
                self.heads.idle(region * sets_per_region..(region + 1) * sets_per_region),
                self.tcp.idle(region * sets_per_region..(region + 1) * sets_per_region),
                self.dirty.idle(region * words..(region + 1) * words),
                self.tunnels.idle(region * tunnel_sets..(region + 1) * tunnel_sets),
            )
        };
        let (mut tags, mut lines) = (Bits::new(dirty), Bits::new(dirty));
        for index in tags.by_ref().take(TAGS_AHEAD) {
            prefetch(&heads[index].tags);
            prefetch(&heads[index].first_ns);
        }
        for index in lines.by_ref().take(LINES_AHEAD) {
            fetch(&heads[index], &sets[index]);
        }
        for index in Bits::new(dirty) {
            if let Some(next) = tags.next() {
                prefetch(&heads[next].tags);
                prefetch(&heads[next].first_ns);
            }
            if let Some(next) = lines.next() {
                fetch(&heads[next], &sets[next]);
            }
            let (head, set) = (&mut heads[index], &mut sets[index]);
            for way in used_ways(head) {
                let hot = &set[way];
                let tcp = if hot.key.protocol == protocol::TCP {
                    &tcp[index][way]
                } else {
                    &TcpLine::NONE
                };
                let tunnel = tunnels.get(index).map_or(&Tunnel::NONE, |tunnels| &tunnels[way]);
                give(FlowEntry { hot, first_ns: head.first_ns[way], tcp, tunnel }, balances, flow);
                set[way].packets = 0;
            }
            head.tags = [0; WAYS];
        }
        dirty.fill(0);
    }

    /// Reads and empties the list of evicted flows of a region.
    ///
    /// # Safety
    /// As [`Tables::read`].
    unsafe fn read_evicted(
        &mut self,
        region: usize,
        balances: &mut [Balance],
        flow: &mut impl FnMut(FlowEntry<'_>),
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
            give(FlowEntry { hot, first_ns: *first_ns, tcp, tunnel }, balances, flow);
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

/// Counts an entry as metered and gives it on.
#[inline(always)]
fn give(entry: FlowEntry<'_>, balances: &mut [Balance], flow: &mut impl FnMut(FlowEntry<'_>)) {
    if let Some(balance) = balances.get_mut(usize::from(entry.hot.key.interface)) {
        balance.metered.add(u64::from(entry.hot.packets), entry.hot.octets);
        flow(entry);
    }
}

/// What is read of a set whose head is at hand.
#[inline(always)]
fn fetch(head: &Head, set: &Set) {
    for way in used_ways(head) {
        prefetch(&set[way]);
    }
}

/// The ways that hold a flow. Which they are is random, and eight branches on that
/// would cost more than the reading.
#[inline(always)]
fn used_ways(head: &Head) -> impl Iterator<Item = usize> {
    let mut used = 0u32;
    for (way, tag) in head.tags.iter().enumerate() {
        used |= u32::from(*tag != 0) << way;
    }
    std::iter::from_fn(move || {
        let way = used.trailing_zeros() as usize;
        used &= used.wrapping_sub(1);
        (way < WAYS).then_some(way)
    })
}

/// The positions of the bits that are 1.
struct Bits<'a> {
    words: &'a [u64],
    /// The next word.
    word: usize,
    /// What is left of the one before it.
    rest: u64,
}

impl<'a> Bits<'a> {
    fn new(words: &'a [u64]) -> Self {
        Self { words, word: 0, rest: 0 }
    }
}

impl Iterator for Bits<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.rest == 0 {
            self.rest = *self.words.get(self.word)?;
            self.word += 1;
        }
        let bit = self.rest.trailing_zeros() as usize;
        self.rest &= self.rest - 1;
        Some((self.word - 1) * 64 + bit)
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

fn map<T: bytemuck::Pod>(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_found_in_order() {
        let words = [0, 1 << 63 | 1, 0, 0b110];
        assert_eq!(Bits::new(&words).collect::<Vec<_>>(), [64, 127, 193, 194]);
        assert_eq!(Bits::new(&[]).next(), None);
    }
}
