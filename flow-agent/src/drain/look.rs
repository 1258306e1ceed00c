//! A look into the tables while they are written: for questions about single flows.
//!
//! Nothing is changed and nobody waits. What is read may be torn: packets and octets of an
//! entry may differ by a packet that is being counted. It costs more the more flows there are
//! in the tables, because the hash of a flow needs its interface, direction and tags, which
//! who asks does not know.

use aya::maps::Map;
use flow_common::table::{Entry, Head, HotLine, Region, Set, TunnelSet, names};
use flow_common::{FlowKey, Tunnel};

use super::DrainError;
use crate::attach::{Kernel, TableSize};
use crate::mapped::MappedArray;

/// Mappings of the tables for looking only.
pub struct Look {
    size: TableSize,
    sets: MappedArray<Set>,
    heads: MappedArray<Head>,
    dirty: MappedArray<u64>,
    regions: MappedArray<Region>,
    evicted: MappedArray<Entry>,
    tunnels: MappedArray<TunnelSet>,
    evicted_tunnels: MappedArray<Tunnel>,
}

/// An entry of the tables: packets of one direction of a flow on one CPU.
#[derive(Clone, Copy, Debug)]
pub struct SeenFlow {
    /// Its counters.
    pub hot: HotLine,
    /// `CLOCK_BOOTTIME` in ns of its first packet.
    pub first_ns: u64,
    /// The tunnel that it came in.
    pub tunnel: Tunnel,
}

/// How often an entry is read again whose place was given to another flow meanwhile.
const TRIES: usize = 4;

impl Look {
    /// Maps the tables once more; to be called before the drain takes them.
    ///
    /// # Errors
    /// A table is missing or cannot be mapped.
    pub fn new(kernel: &Kernel) -> Result<Self, DrainError> {
        let size = kernel.size;
        let regions = size.regions() as usize;
        let per_region = |count: u32| regions * count as usize;
        let sets = per_region(size.sets_per_region);
        Ok(Self {
            size,
            sets: map(kernel, names::SETS, sets)?,
            heads: map(kernel, names::HEADS, sets)?,
            dirty: map(kernel, names::DIRTY, per_region(size.dirty_words()))?,
            regions: map(kernel, names::REGIONS, regions)?,
            evicted: map(kernel, names::EVICTED, per_region(size.evicted_per_region()))?,
            tunnels: map(kernel, names::TUNNELS, per_region(size.tunnel_sets()).max(1))?,
            evicted_tunnels: map(
                kernel,
                names::EVICTED_TUNNELS,
                per_region(size.evicted_tunnels()).max(1),
            )?,
        })
    }

    /// The entries whose key is `wanted`, at most so many. Those of a generation that is
    /// being drained are among them until the drain has given them on.
    pub fn find(&self, most: usize, wanted: impl Fn(&FlowKey) -> bool) -> Vec<SeenFlow> {
        let regions = 0..self.size.regions() as usize;
        let found = regions.flat_map(|region| {
            self.in_sets(region, &wanted).chain(self.in_evicted(region, &wanted))
        });
        found.take(most).collect()
    }

    fn in_sets<'a>(
        &'a self,
        region: usize,
        wanted: &'a impl Fn(&FlowKey) -> bool,
    ) -> impl Iterator<Item = SeenFlow> + 'a {
        let words = self.size.dirty_words() as usize;
        let first = region * self.size.sets_per_region as usize;
        let dirty = (0..words).flat_map(move |word| {
            let bits = self.dirty.glance(region * words + word);
            (0..64).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| word * 64 + bit)
        });
        dirty.flat_map(move |index| self.in_set(first + index, wanted))
    }

    fn in_set<'a>(
        &'a self,
        index: usize,
        wanted: &'a impl Fn(&FlowKey) -> bool,
    ) -> impl Iterator<Item = SeenFlow> + 'a {
        let ways = self.sets.glance(index).into_iter().enumerate();
        let used = ways.filter(|(_, hot)| hot.packets > 0 && wanted(&hot.key));
        used.filter_map(move |(way, hot)| self.entry(index, way, hot))
    }

    /// An entry whose key was the same before and after its other parts were read.
    fn entry(&self, index: usize, way: usize, mut hot: HotLine) -> Option<SeenFlow> {
        for _ in 0..TRIES {
            let first_ns = self.heads.glance(index).first_ns[way];
            let tunnel =
                if self.size.tunnels { self.tunnels.glance(index)[way] } else { Tunnel::NONE };
            let again = self.sets.glance(index)[way];
            if again.packets == 0 || again.key != hot.key {
                // Its flow has left this place: for the list of evicted flows, or drained.
                return None;
            }
            if again.packets >= hot.packets {
                return Some(SeenFlow { hot: again, first_ns, tunnel });
            }
            hot = again;
        }
        None
    }

    fn in_evicted<'a>(
        &'a self,
        region: usize,
        wanted: &'a impl Fn(&FlowKey) -> bool,
    ) -> impl Iterator<Item = SeenFlow> + 'a {
        let most = self.size.evicted_per_region() as usize;
        let count = (self.regions.glance(region).evicted as usize).min(most);
        let tunnels = self.size.evicted_tunnels() as usize;
        (0..count).filter_map(move |position| {
            let Entry { hot, first_ns, .. } = self.evicted.glance(region * most + position);
            let tunnel = if position < tunnels {
                self.evicted_tunnels.glance(region * tunnels + position)
            } else {
                Tunnel::NONE
            };
            wanted(&hot.key).then_some(SeenFlow { hot, first_ns, tunnel })
        })
    }
}

fn map<T: bytemuck::Pod>(
    kernel: &Kernel,
    name: &'static str,
    len: usize,
) -> Result<MappedArray<T>, DrainError> {
    let Some(Map::Array(data)) = kernel.ebpf.map(name) else {
        return Err(DrainError::Map { problem: format!("map {name} is missing or no array") });
    };
    MappedArray::new(data.fd(), len).map_err(|source| DrainError::Mapping {
        map: name,
        bytes: (len * size_of::<T>()) as u64,
        source,
    })
}
