//! What came of a fault: what is stored compared with what was sent.
//!
//! What must hold: each row once, each rollup the same sums as the table, the ledger balanced, and
//! every packet that was sent stored or lost under a reason.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{sql, stored};

/// The end of a test of a fault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Packets that were sent, by a count that is not the agent's; of packets that are not
    /// stored but compared with a reference, how many those were.
    pub sent: u64,
    /// Packets in the table, and in each rollup.
    pub stored: u64,
    /// Packets that are in no row, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Rows that are there twice.
    pub duplicates: u64,
    /// Packets that the ledger does not explain.
    pub unaccounted: i64,
    /// What a person reads who started it in vain: the exit code and the sentence.
    pub refused: Option<(i32, String)>,
}

impl Outcome {
    /// Compares a store with what was sent; an error unless everything agrees.
    pub fn compare(store: &str, sent: u64) -> Result<Self> {
        let outcome = Self::read(store, sent)?;
        outcome.check()?;
        Ok(outcome)
    }

    /// The agent refused to start, in one sentence, and nothing was left behind.
    pub fn refused(code: i32, errors: &str) -> Result<Self> {
        let sentence = errors.lines().find_map(|line| line.strip_prefix("flow-agent: "));
        let sentence = sentence.with_context(|| format!("no sentence says why: {errors}"))?;
        ensure!(code != 0, "it is no refusal: {errors}");
        Ok(Self { refused: Some((code, sentence.to_owned())), ..Self::default() })
    }

    /// So many packets were compared with a reference, and it agreed to all of them.
    pub fn agreed(packets: u64) -> Result<Self> {
        ensure!(packets > 0, "nothing was compared");
        Ok(Self { sent: packets, stored: packets, ..Self::default() })
    }

    fn read(store: &str, sent: u64) -> Result<Self> {
        let [forward, _, backward, _] = stored::agreed(store)?;
        let rows = sql::rows(
            store,
            "SELECT stage, reason, sum(packets) FROM flow.ledger GROUP BY stage, reason",
        )?;
        let mut outcome = Self { sent, stored: forward + backward, ..Self::default() };
        for row in &rows {
            let [stage, reason, packets] = row.as_slice() else { bail!("a row {row:?}") };
            let packets: u64 = packets.parse()?;
            let sign: i64 = match stage.as_str() {
                "seen" => 1,
                "metered" | "not_metered" | "lost" => -1,
                _ => 0,
            };
            outcome.unaccounted += sign * packets.cast_signed();
            // What left a full list is in rows without addresses.
            let is_lost = stage == "lost" && reason != "ring_full" || stage == "undelivered";
            if is_lost && packets > 0 {
                *outcome.lost.entry(reason.clone()).or_default() += packets;
            }
        }
        for row in rows.iter().filter(|row| row[0] == "resent") {
            if let Some(lost) = outcome.lost.get_mut(&row[1]) {
                *lost -= row[2].parse::<u64>()?;
            }
        }
        outcome.lost.retain(|_, packets| *packets > 0);
        Ok(outcome)
    }

    fn check(&self) -> Result<()> {
        let lost: u64 = self.lost.values().sum();
        ensure!(self.sent > 0, "nothing was sent: {self:?}");
        ensure!(self.duplicates == 0 && self.unaccounted == 0, "{self:?}");
        ensure!(self.stored + lost == self.sent, "sent is not stored or lost: {self:?}");
        Ok(())
    }
}
