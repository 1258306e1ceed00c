//! Flows with many packets, in bounded memory (Space-Saving: Metwally, Agrawal, El Abbadi, 2005).
//!
//! It is fed with records as they leave, not with packets; what open flows have counted since is
//! added when somebody asks. Every flow with more than a 256th of the packets of a window is in
//! its list, with at most `error` packets too many. Newcomers are pruned by the thousand, which
//! costs less than to look for the smallest each time.

use std::collections::HashMap;

use flow_common::FlowKey;
use flow_common::key::KeyWords;
use foldhash::fast::RandomState;

/// Flows that stay in a list.
const PLACES: usize = 256;

/// Flows in a list before it is pruned.
const MOST: usize = PLACES + 1024;

/// After so long a new list is begun; the one before is kept.
const WINDOW_NS: u64 = 300_000_000_000;

/// Packets, and how many of them may be another flow's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub packets: u64,
    pub error: u64,
}

/// Bounded sums by flow.
#[derive(Debug, Default)]
struct Sketch {
    /// Senders choose the keys, so the hash has a seed.
    sums: HashMap<KeyWords, Sum, RandomState>,
    /// What a flow that is not in the list may have had at most.
    floor: u64,
}

impl Sketch {
    fn add(&mut self, key: &FlowKey, packets: u64) {
        let newcomer = Sum { packets: self.floor, error: self.floor };
        self.sums.entry(*key.words()).or_insert(newcomer).packets += packets;
        if self.sums.len() > MOST {
            self.prune();
        }
    }

    #[cold]
    fn prune(&mut self) {
        let mut sums: Vec<(KeyWords, Sum)> = self.sums.drain().collect();
        let order = |(a_key, a): &(KeyWords, Sum), (b_key, b): &(KeyWords, Sum)| {
            b.packets.cmp(&a.packets).then_with(|| a_key.cmp(b_key))
        };
        let (_, (_, largest), _) = sums.select_nth_unstable_by(PLACES, order);
        self.floor = largest.packets;
        sums.truncate(PLACES);
        self.sums.extend(sums);
    }
}

/// The lists of this window and the one before.
#[derive(Debug, Default)]
pub struct Hot {
    current: Sketch,
    previous: Sketch,
    began_ns: u64,
}

impl Hot {
    /// Adds the packets of a record.
    pub fn add(&mut self, key: &FlowKey, packets: u64) {
        self.current.add(key, packets);
    }

    /// Begins a new window when it is time.
    pub fn turn(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.began_ns) >= WINDOW_NS {
            self.began_ns = now_ns;
            self.previous = std::mem::take(&mut self.current);
        }
    }

    /// The sums of both windows.
    pub fn sums(&self) -> HashMap<FlowKey, Sum, RandomState> {
        let mut sums: HashMap<FlowKey, Sum, RandomState> = HashMap::default();
        for (key, Sum { packets, error }) in self.previous.sums.iter().chain(&self.current.sums) {
            let sum = sums.entry(bytemuck::must_cast(*key)).or_default();
            sum.packets += packets;
            sum.error += error;
        }
        sums
    }

    /// Memory that it takes at most, octets: two lists, each in a table of 2,048 places.
    pub const fn bytes() -> u64 {
        2 * 2048 * (size_of::<(KeyWords, Sum)>() as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use flow_common::random::SplitMix64;

    use super::*;

    fn key(flow: u32) -> FlowKey {
        FlowKey { src: flow.to_be_bytes().into(), ..FlowKey::default() }
    }

    #[test]
    fn heavy_flows_are_found_among_a_flood_and_forgotten_two_windows_later() {
        let (mut hot, mut random) = (Hot::default(), SplitMix64::new(1));
        hot.turn(WINDOW_NS);
        let mut exact = [0; 20];
        for i in 0..50_000 {
            hot.add(&key(1_000_000 + i), 1);
            let flow = random.next() as usize % 20;
            exact[flow] += 10;
            hot.add(&key(flow as u32), 10);
        }
        let sums = hot.sums();
        for (flow, packets) in exact.into_iter().enumerate() {
            let sum = sums[&key(flow as u32)];
            assert!((packets..=packets + sum.error).contains(&sum.packets), "{sum:?} {packets}");
        }
        assert!(sums.len() <= MOST);
        hot.turn(2 * WINDOW_NS);
        assert_eq!(hot.sums().len(), sums.len());
        hot.turn(3 * WINDOW_NS);
        assert!(hot.sums().is_empty());
    }
}
