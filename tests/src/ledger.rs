//! The agent's ledger, as stored: what was seen and what became of it.

use anyhow::{Context, Result, bail};

use crate::sql;
use crate::tally::Count;

/// One interface's ledger, summed over its intervals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Given to the hooks.
    pub seen: Count,
    /// In a flow.
    pub metered: Count,
    /// Not in a flow, for a reason that is not a loss (not IP, malformed).
    pub not_metered: Count,
    /// Lost in the kernel, with a reason.
    pub lost: Count,
    /// Taken over from the kernel.
    pub drained: Count,
    /// In the spool when an agent started.
    pub recovered: Count,
    /// In the store.
    pub acknowledged: Count,
    /// Lost by the agent: the spool was full or failed, or the store did not take it in time.
    pub undelivered: Count,
    /// Refused by the store, in a file.
    pub quarantined: Count,
    /// Of those, what somebody has sent again.
    pub resent: Count,
    /// In the spool when an agent ended.
    pub spooled: Count,
    /// Later fragments whose first was not seen: metered with ports 0.
    pub fragments_without_ports: Count,
}

impl Ledger {
    /// Reads it for the interfaces whose name ends so.
    pub fn read(url: &str, interface: &str) -> Result<Self> {
        let query = format!(
            "SELECT stage, reason, sum(packets), sum(octets) FROM flow.ledger \
             WHERE endsWith(interface, '{interface}') GROUP BY stage, reason"
        );
        let mut ledger = Self::default();
        for row in sql::rows(url, &query)? {
            let [stage, reason, packets, octets] = row.as_slice() else {
                bail!("the ledger has a row {row:?}");
            };
            let number = |text: &str| {
                text.parse::<u64>().with_context(|| format!("the ledger has a row {row:?}"))
            };
            let sum = match (stage.as_str(), reason.as_str()) {
                ("seen", "") => &mut ledger.seen,
                ("metered", "") => &mut ledger.metered,
                ("not_metered", reason) if !reason.is_empty() => &mut ledger.not_metered,
                ("lost", reason) if !reason.is_empty() => &mut ledger.lost,
                ("drained", "") => &mut ledger.drained,
                ("acknowledged", "") => &mut ledger.acknowledged,
                ("recovered", "") => &mut ledger.recovered,
                ("spooled", "") => &mut ledger.spooled,
                ("undelivered", "quarantined" | "uncertain") => &mut ledger.quarantined,
                ("resent", "quarantined" | "uncertain") => &mut ledger.resent,
                ("undelivered", reason) if !reason.is_empty() => &mut ledger.undelivered,
                ("note", "fragment_without_ports") => &mut ledger.fragments_without_ports,
                _ => bail!("the ledger has an unknown stage or no reason: {row:?}"),
            };
            sum.add(Count { packets: number(packets)?, octets: number(octets)? });
        }
        Ok(ledger)
    }

    /// What was not metered at an interface for one reason.
    pub fn not_metered(url: &str, interface: &str, reason: &str) -> Result<Count> {
        Self::of_reason(url, interface, "not_metered", reason)
    }

    /// What was lost in the kernel at an interface for one reason.
    pub fn lost(url: &str, interface: &str, reason: &str) -> Result<Count> {
        Self::of_reason(url, interface, "lost", reason)
    }

    /// What the agent lost at an interface for one reason.
    pub fn undelivered(url: &str, interface: &str, reason: &str) -> Result<Count> {
        Self::of_reason(url, interface, "undelivered", reason)
    }

    fn of_reason(url: &str, interface: &str, stage: &str, reason: &str) -> Result<Count> {
        let query = format!(
            "SELECT sum(packets), sum(octets) FROM flow.ledger WHERE stage = '{stage}' \
             AND reason = '{reason}' AND endsWith(interface, '{interface}')"
        );
        let rows = sql::rows(url, &query)?;
        let [packets, octets] = rows.first().map(Vec::as_slice).context("one row")? else {
            bail!("two columns are expected: {rows:?}");
        };
        Ok(Count { packets: packets.parse()?, octets: octets.parse()? })
    }

    /// Packets and octets that were seen and are nowhere: 0, or something is wrong.
    pub fn unaccounted(&self) -> (i64, i64) {
        difference(&[self.seen], &[self.metered, self.not_metered, self.lost])
    }

    /// Packets and octets that were drained and are nowhere: 0 once the agent has ended.
    pub fn in_flight(&self) -> (i64, i64) {
        let ends = [self.acknowledged, self.undelivered, self.quarantined, self.spooled];
        difference(&[self.drained, self.recovered], &ends)
    }
}

fn difference(whole: &[Count], parts: &[Count]) -> (i64, i64) {
    let of = |field: fn(&Count) -> u64| {
        let sum = |counts: &[Count]| counts.iter().map(field).sum::<u64>().cast_signed();
        sum(whole) - sum(parts)
    };
    (of(|count| count.packets), of(|count| count.octets))
}
