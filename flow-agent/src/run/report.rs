//! The last words: what became of everything since the start.

use crate::Error;
use crate::ledger::{Entry, Ledger};
use crate::sink::Outcome;

/// Says how it ended.
///
/// # Errors
/// Records were left over.
pub fn report(ledger: &Ledger, outcome: Outcome) -> Result<(), Error> {
    let sum = |wanted: fn(&Entry) -> bool| -> u64 {
        let totals = ledger.totals();
        totals.iter().filter(|(entry, _)| wanted(entry)).map(|(_, count)| count.packets).sum()
    };
    let undelivered = sum(|entry| matches!(entry, Entry::LostRecord(_)));
    tracing::info!(
        seen = sum(|entry| *entry == Entry::Seen),
        metered = sum(|entry| *entry == Entry::Metered),
        not_metered = sum(|entry| matches!(entry, Entry::NotMetered(_))),
        lost = sum(|entry| matches!(entry, Entry::Lost(_))),
        unaccounted = ledger.unaccounted().0,
        acknowledged = sum(|entry| *entry == Entry::Acknowledged),
        undelivered,
        rows = outcome.rows,
        "stopped; packets since the start"
    );
    let (packets, octets) = ledger.in_flight();
    if (packets, octets) != (0, 0) {
        tracing::error!(packets, octets, "records are neither stored nor lost: this is a bug");
    }
    if undelivered > 0 {
        let source = outcome.undelivered.map(|(_, source)| source);
        return Err(Error::Undelivered { packets: undelivered, source });
    }
    Ok(())
}
