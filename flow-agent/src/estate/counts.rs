//! Counts of the ledger, as they are saved.

use std::collections::BTreeMap;
use std::sync::Arc;

use flow_common::Count;
use serde::{Deserialize, Serialize};

use crate::ledger::{Counts, Entry, FORMER_INTERFACES};

/// Packets and octets by interface and entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    lines: BTreeMap<String, BTreeMap<u8, (u64, u64)>>,
    /// Interfaces are not told apart.
    summed: bool,
}

impl Saved {
    /// Adds to them.
    pub fn add(&mut self, counts: &Counts) {
        for ((interface, entry), count) in counts {
            let name = if self.summed { FORMER_INTERFACES } else { interface };
            if !self.lines.contains_key(name) {
                self.lines.insert(name.to_owned(), BTreeMap::new());
            }
            let line = self.lines.get_mut(name).expect("just made");
            let (packets, octets) = line.entry(entry.code()).or_default();
            *packets += count.packets;
            *octets += count.octets;
        }
    }

    /// From now on interfaces are not told apart.
    pub fn sum_up(&mut self) {
        self.summed = true;
        let counts = self.counts();
        self.lines.clear();
        self.add(&counts);
    }

    /// True if interfaces are not told apart.
    pub fn is_summed(&self) -> bool {
        self.summed
    }

    /// As the ledger has them; entries of a later version are left out.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for (name, line) in &self.lines {
            let name: Arc<str> = name.as_str().into();
            for (code, (packets, octets)) in line {
                if let Some(entry) = Entry::from_code(*code) {
                    let count = Count { packets: *packets, octets: *octets };
                    counts.insert((name.clone(), entry), count);
                }
            }
        }
        counts
    }
}

impl From<&Counts> for Saved {
    fn from(counts: &Counts) -> Self {
        let mut saved = Self::default();
        saved.add(counts);
        saved
    }
}
