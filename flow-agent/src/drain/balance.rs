//! The kernel side's books for one interface over one generation.

use flow_common::{Count, InterfaceCounters, Lost, NotMetered, Overflow};

/// `seen = metered + not_metered + lost`, if all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Every packet that a hook was given, counted in the kernel.
    pub seen: Count,
    /// The packets of the rows that were drained, summed here.
    pub metered: Count,
    /// Those of them that the interface received, all of those of `lo`; it sent the others.
    pub received: Count,
    /// Packets without a flow, by [`NotMetered`].
    pub not_metered: [Count; NotMetered::COUNT],
    /// Packets whose flow was lost in the kernel, by [`Lost`].
    pub lost: [Count; Lost::COUNT],
    /// The same as `lost` for a full list of evicted flows, by direction and protocol.
    pub overflow: Overflow,
    /// Later fragments that were metered with ports 0.
    pub fragments_without_ports: u64,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            seen: Count::default(),
            metered: Count::default(),
            received: Count::default(),
            not_metered: Default::default(),
            lost: Default::default(),
            overflow: Overflow::ZERO,
            fragments_without_ports: 0,
        }
    }
}

impl Balance {
    /// Adds what the kernel counted on one CPU.
    pub fn add_counters(&mut self, counters: &InterfaceCounters) {
        self.seen.merge(counters.seen);
        for (sum, count) in self.not_metered.iter_mut().zip(counters.not_metered) {
            sum.merge(count);
        }
        self.lost[Lost::NoInterface as usize].merge(counters.no_interface);
        self.add_overflow(&counters.overflow);
        self.fragments_without_ports += counters.fragments_without_ports;
    }

    fn add_overflow(&mut self, overflow: &Overflow) {
        let sums = self.overflow.counts.as_flattened_mut().iter_mut();
        for (sum, count) in sums.zip(overflow.counts.as_flattened()) {
            sum.merge(*count);
            self.lost[Lost::RingFull as usize].merge(*count);
        }
    }

    /// Adds another generation or CPU.
    pub fn merge(&mut self, other: &Self) {
        self.seen.merge(other.seen);
        self.metered.merge(other.metered);
        self.received.merge(other.received);
        for (sum, count) in self.not_metered.iter_mut().zip(other.not_metered) {
            sum.merge(count);
        }
        for (sum, count) in self.lost.iter_mut().zip(other.lost) {
            sum.merge(count);
        }
        let sums = self.overflow.counts.as_flattened_mut().iter_mut();
        for (sum, count) in sums.zip(other.overflow.counts.as_flattened()) {
            sum.merge(*count);
        }
        self.fragments_without_ports += other.fragments_without_ports;
    }

    /// What is in flows and overflow rows was perhaps given on already by an agent that was
    /// killed, perhaps not: it is lost, reason `crash`.
    pub fn lose_flows(&mut self) {
        self.metered = Count::default();
        self.received = Count::default();
        self.overflow = Overflow::ZERO;
        self.lost[Lost::RingFull as usize] = Count::default();
        let (packets, octets) = self.unaccounted();
        self.lost[Lost::Crash as usize] =
            Count { packets: packets.max(0) as u64, octets: octets.max(0) as u64 };
    }

    /// Packets and octets that no count explains; negative when too many were explained.
    pub fn unaccounted(&self) -> (i64, i64) {
        let mut packets = self.seen.packets as i64 - self.metered.packets as i64;
        let mut octets = self.seen.octets as i64 - self.metered.octets as i64;
        for count in self.not_metered.iter().chain(&self.lost) {
            packets -= count.packets as i64;
            octets -= count.octets as i64;
        }
        (packets, octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_explains_some_of_what_was_seen() {
        let mut balance = Balance::default();
        balance.seen.add(10, 1000);
        assert_eq!(balance.unaccounted(), (10, 1000));
        balance.metered.add(7, 800);
        balance.not_metered[NotMetered::Arp as usize].add(2, 60);
        balance.lost[Lost::RingFull as usize].add(1, 140);
        assert_eq!(balance.unaccounted(), (0, 0));
        let copy = balance;
        balance.merge(&copy);
        assert_eq!(balance.unaccounted(), (0, 0));
        assert_eq!(balance.seen.packets, 20);
    }
}
