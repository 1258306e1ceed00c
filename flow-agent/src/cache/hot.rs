//! Flows with many packets, in bounded memory (Space-Saving: Metwally, Agrawal, El Abbadi, 2005).
//!
//! It is fed with records as they leave, not with packets; what open flows have counted since is
//! added when somebody asks. Every flow with more than a 256th of the packets of a window is in
//! its list, with at most `error` packets too many.

use std::collections::HashMap;

use flow_common::FlowKey;
use foldhash::fast::FixedState;

/// Flows in a list.
const PLACES: usize = 256;

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
    places: Vec<(FlowKey, Sum)>,
    by_key: HashMap<FlowKey, usize, FixedState>,
}

impl Sketch {
    fn add(&mut self, key: &FlowKey, packets: u64) {
        if let Some(place) = self.by_key.get(key) {
            self.places[*place].1.packets += packets;
            return;
        }
        if self.places.len() < PLACES {
            self.by_key.insert(*key, self.places.len());
            self.places.push((*key, Sum { packets, error: 0 }));
            return;
        }
        // The smallest gives way; the newcomer may have had as many before.
        let smallest = self.places.iter().enumerate().min_by_key(|(_, (_, sum))| sum.packets);
        let Some((place, (gone, sum))) = smallest else { return };
        let error = sum.packets;
        self.by_key.remove(gone);
        self.by_key.insert(*key, place);
        self.places[place] = (*key, Sum { packets: error + packets, error });
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
    pub fn sums(&self) -> HashMap<FlowKey, Sum, FixedState> {
        let mut sums: HashMap<FlowKey, Sum, FixedState> = HashMap::default();
        for (key, Sum { packets, error }) in self.previous.places.iter().chain(&self.current.places)
        {
            let sum = sums.entry(*key).or_default();
            sum.packets += packets;
            sum.error += error;
        }
        sums
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
        assert!(sums.len() <= PLACES);
        hot.turn(2 * WINDOW_NS);
        assert_eq!(hot.sums().len(), sums.len());
        hot.turn(3 * WINDOW_NS);
        assert!(hot.sums().is_empty());
    }
}
