//! The agent's ledger, as stored: what was seen and what became of it.

use anyhow::{Context, Result};

use crate::sql;
use crate::tally::Count;

/// The kernel side of one interface's ledger, summed over its intervals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Given to the hooks.
    pub seen: Count,
    /// In a flow.
    pub metered: Count,
    /// Not in a flow, for a reason that is not a loss (not IP, malformed).
    pub not_metered: Count,
    /// Lost, with a reason.
    pub lost: Count,
}

impl Ledger {
    /// Reads it for the interfaces whose name ends so.
    pub fn read(url: &str, interface: &str) -> Result<Self> {
        let query = format!(
            "SELECT toString(stage), sum(packets), sum(octets) FROM flow.ledger \
             WHERE endsWith(interface, '{interface}') GROUP BY stage"
        );
        let mut ledger = Self::default();
        for row in sql::rows(url, &query)? {
            let [stage, packets, octets] = row.as_slice() else {
                continue;
            };
            let number = |text: &str| {
                text.parse::<u64>().with_context(|| format!("the ledger has a row {row:?}"))
            };
            let count = Count { packets: number(packets)?, octets: number(octets)? };
            match stage.as_str() {
                "seen" => ledger.seen = count,
                "metered" => ledger.metered = count,
                "not_metered" => ledger.not_metered = count,
                "lost" => ledger.lost = count,
                _ => {} // the agent's own stages
            }
        }
        Ok(ledger)
    }

    /// Packets and octets that were seen and are nowhere: 0, or something is wrong.
    pub fn unaccounted(&self) -> (i64, i64) {
        let of = |field: fn(&Count) -> u64| {
            let known = [self.metered, self.not_metered, self.lost];
            let known: u64 = known.iter().map(field).sum();
            field(&self.seen).cast_signed() - known.cast_signed()
        };
        (of(|count| count.packets), of(|count| count.octets))
    }
}
