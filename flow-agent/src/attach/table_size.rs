//! How large the tables are: from memory, CPUs and interfaces to numbers of sets.

use flow_common::table::{Entry, GENERATIONS, Head, Set, TcpSet, TunnelSet, WAYS};
use flow_common::{InterfaceCounters, Tunnel};

use super::AttachError;

/// How large the flow tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// CPUs that get a region of each generation.
    pub cpus: u32,
    /// Sets in a region, a power of two.
    pub sets_per_region: u32,
    /// Interface numbers are below this.
    pub interfaces: u32,
    /// Packets in tunnels are metered as what the tunnels carry, which takes more memory.
    pub tunnels: bool,
}

impl TableSize {
    /// Sets for 8 Mi flows a CPU: beyond this, more memory is of no use.
    const MOST_SETS: u32 = 1 << 20;
    /// Sets for 2 Ki flows a CPU: below this a table is of no use.
    const FEWEST_SETS: u32 = 1 << 8;

    /// Interfaces that there is always room for: they may come later.
    const FEWEST_INTERFACES: u32 = 256;
    /// Interfaces that there may be at most.
    const MOST_INTERFACES: u32 = 4096;

    /// Memory for the tables when nothing is said, in bytes, and at least for each CPU.
    const DEFAULT_BYTES: u64 = 128 << 20;
    const DEFAULT_BYTES_PER_CPU: u64 = 1 << 20;

    /// The tables of a host that has `found` interfaces to meter now: in `budget_bytes` of
    /// memory; if nothing is said, in 128 MiB, or in as much as its CPUs and interfaces need.
    ///
    /// # Errors
    /// Not even the smallest tables fit into what was said.
    pub fn of_host(
        cpus: u32,
        found: usize,
        tunnels: bool,
        budget_bytes: Option<u64>,
    ) -> Result<Self, AttachError> {
        let default = Self::DEFAULT_BYTES.max(u64::from(cpus) * Self::DEFAULT_BYTES_PER_CPU);
        let budget = budget_bytes.unwrap_or(default);
        let interfaces = Self::interfaces_for(found, cpus, budget);
        let least = Self { cpus, sets_per_region: Self::FEWEST_SETS, interfaces, tunnels }.bytes();
        let budget = if budget_bytes.is_none() { budget.max(least) } else { budget };
        Self::for_budget(cpus, interfaces, tunnels, budget)
    }

    /// Interface numbers for a host that has `found` interfaces to meter now: for twice as
    /// many, and for more if their counters take no more than a 16th of the memory.
    fn interfaces_for(found: usize, cpus: u32, budget_bytes: u64) -> u32 {
        let region = budget_bytes / 16 / u64::from(GENERATIONS * cpus);
        let affordable = (region / size_of::<InterfaceCounters>() as u64).max(1).ilog2();
        let twice = u32::try_from(found).unwrap_or(u32::MAX).saturating_mul(2);
        twice
            .max(1 << affordable.min(31))
            .clamp(Self::FEWEST_INTERFACES, Self::MOST_INTERFACES)
            .next_power_of_two()
    }

    /// The largest tables that `cpus` CPUs can have in `budget_bytes` of memory.
    ///
    /// # Errors
    /// Not even the smallest tables fit.
    pub fn for_budget(
        cpus: u32,
        interfaces: u32,
        tunnels: bool,
        budget_bytes: u64,
    ) -> Result<Self, AttachError> {
        let size = |sets_per_region| Self { cpus, sets_per_region, interfaces, tunnels };
        let mut sets = Self::MOST_SETS;
        while size(sets).bytes() > budget_bytes {
            sets /= 2;
            if sets < Self::FEWEST_SETS {
                let least = size(Self::FEWEST_SETS).bytes();
                return Err(AttachError::TableMemory { cpus, least_mib: least.div_ceil(1 << 20) });
            }
        }
        Ok(size(sets))
    }

    /// Kernel memory of all regions, in bytes.
    pub fn bytes(self) -> u64 {
        let of = |count: u32, size: usize| u64::from(count) * size as u64;
        let region = of(self.sets_per_region, size_of::<Set>())
            + of(self.sets_per_region, size_of::<Head>())
            + of(self.sets_per_region, size_of::<TcpSet>())
            + of(self.dirty_words(), size_of::<u64>())
            + of(self.evicted_per_region(), size_of::<Entry>())
            + of(self.interfaces, size_of::<InterfaceCounters>())
            + of(self.tunnel_sets(), size_of::<TunnelSet>())
            + of(self.evicted_tunnels(), size_of::<Tunnel>());
        u64::from(self.regions()) * region
    }

    /// Regions of all generations.
    pub fn regions(self) -> u32 {
        GENERATIONS * self.cpus
    }

    /// Flows that a region's sets hold when all are full.
    pub fn flows_per_region(self) -> u32 {
        self.sets_per_region * WAYS as u32
    }

    /// Words of a region's bitmap of sets that hold a flow.
    pub fn dirty_words(self) -> u32 {
        self.sets_per_region / 64
    }

    /// Sets of tunnels in a region.
    pub fn tunnel_sets(self) -> u32 {
        if self.tunnels { self.sets_per_region } else { 0 }
    }

    /// Tunnels of evicted flows in a region.
    pub fn evicted_tunnels(self) -> u32 {
        if self.tunnels { self.evicted_per_region() } else { 0 }
    }

    /// Flows that may leave the full sets of a region between two drains.
    pub fn evicted_per_region(self) -> u32 {
        self.sets_per_region
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_use_the_budget_and_never_more() {
        for cpus in [1, 2, 3, 64, 256] {
            for mib in [8, 128, 1000, 1 << 16] {
                let budget = mib << 20;
                let Ok(size) = TableSize::for_budget(cpus, 512, false, budget) else {
                    assert!(mib < u64::from(cpus), "{cpus} CPUs have a place in {mib} MiB");
                    continue;
                };
                assert!(size.sets_per_region.is_power_of_two());
                assert!(size.bytes() <= budget);
                let larger = TableSize { sets_per_region: size.sets_per_region * 2, ..size };
                assert!(
                    larger.bytes() > budget || size.sets_per_region == TableSize::MOST_SETS,
                    "{cpus} CPUs, {mib} MiB"
                );
            }
        }
    }

    #[test]
    fn a_budget_that_is_too_small_says_what_is_needed() {
        let error = TableSize::for_budget(64, 512, true, 1 << 20).expect_err("64 CPUs need more");
        assert!(error.to_string().contains("64 CPUs need at least"), "{error}");
    }

    #[test]
    fn without_a_budget_there_are_tables_on_any_host() {
        for cpus in [1, 2, 64, 161, 256, 512, 4096] {
            for (found, tunnels) in [(0, false), (1, true), (600, false), (5000, true)] {
                let size = TableSize::of_host(cpus, found, tunnels, None)
                    .unwrap_or_else(|error| panic!("{cpus} CPUs, {found} interfaces: {error}"));
                assert!(size.interfaces as usize > found.min(4000), "{size:?}");
                if cpus <= 128 && found <= 1 {
                    assert!(size.bytes() <= 128 << 20, "{size:?}");
                }
            }
        }
        let large = TableSize::of_host(512, 1, true, None).expect("checked above");
        assert!(large.bytes() <= 512 << 20, "1 MiB for each CPU is enough: {large:?}");
        let said = TableSize::of_host(512, 1, false, Some(128 << 20));
        assert!(said.is_err(), "what was said is not exceeded");
    }
}
