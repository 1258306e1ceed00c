//! The books: from the kernel's balance to the ledger, and what is said at the end.

use std::sync::Arc;

use flow_common::{Count, Lost};

use crate::Error;
use crate::drain::Balance;
use crate::ledger::{Counts, Entry, Ledger, LostRecord};
use crate::sink::Outcome;
use crate::spool::LossReason;

/// Enters one interface's kernel balance, and says what was lost.
pub fn enter(counts: &mut Counts, interface: &Arc<str>, balance: &Balance) {
    warn_of_loss(interface, balance);
    let mut add = |entry, count: Count| {
        if count != Count::default() {
            counts.entry((interface.clone(), entry)).or_default().merge(count);
        }
    };
    add(Entry::Seen, balance.seen);
    add(Entry::Metered, balance.metered);
    // Overflow rows are drained, too: packets without addresses instead of none.
    let mut drained = balance.metered;
    drained.merge(balance.lost[Lost::RingFull as usize]);
    add(Entry::Drained, drained);
    for (reason, count) in balance.not_metered.iter().enumerate() {
        add(Entry::NotMetered(reason as u8), *count);
    }
    for (reason, count) in balance.lost.iter().enumerate() {
        add(Entry::Lost(reason as u8), *count);
    }
    let fragments = Count { packets: balance.fragments_without_ports, octets: 0 };
    add(Entry::FragmentWithoutPorts, fragments);
    let (packets, octets) = balance.unaccounted();
    if (packets, octets) != (0, 0) {
        tracing::error!(%interface, packets, octets, "the ledger does not balance: this is a bug");
    }
}

/// Says how it ended; an error when records were lost.
pub fn report(ledger: &Ledger, outcome: Outcome) -> Result<(), Error> {
    let sum = |wanted: fn(&Entry) -> bool| -> u64 {
        let totals = ledger.totals();
        totals.iter().filter(|(entry, _)| wanted(entry)).map(|(_, count)| count.packets).sum()
    };
    let aside = |entry: &Entry| {
        use LostRecord::{Quarantined, Uncertain};
        matches!(entry, Entry::LostRecord(Quarantined | Uncertain))
    };
    // A torn batch was lost with the agent before, as what is lost by name `crash`.
    let lost_in_spool = |entry: &Entry| {
        use LostRecord::Spool;
        matches!(entry, Entry::LostRecord(Spool(reason)) if *reason != LossReason::Torn)
    };
    let undelivered = |entry: &Entry| *entry == Entry::LostRecord(UNDELIVERED);
    let (undelivered, lost) = (sum(undelivered), sum(lost_in_spool));
    tracing::info!(
        seen = sum(|entry| *entry == Entry::Seen),
        metered = sum(|entry| *entry == Entry::Metered),
        not_metered = sum(|entry| matches!(entry, Entry::NotMetered(_))),
        lost = sum(|entry| matches!(entry, Entry::Lost(_))),
        unaccounted = ledger.unaccounted().0,
        recovered = sum(|entry| *entry == Entry::Recovered),
        acknowledged = sum(|entry| *entry == Entry::Acknowledged),
        quarantined = sum(aside),
        spooled = sum(|entry| *entry == Entry::Spooled),
        undelivered = lost,
        rows = outcome.rows,
        "stopped; packets since the start"
    );
    let (packets, octets) = ledger.in_flight();
    if (packets, octets) != (0, 0) {
        tracing::error!(packets, octets, "records are neither stored nor lost: this is a bug");
    }
    if let Some((left, dir)) = &outcome.left {
        tracing::warn!(
            "{} rows in {} batches wait in {dir} for the next agent{}",
            left.rows,
            left.batches,
            outcome.given_up.as_ref().map_or(String::new(), |error| format!(": {error}"))
        );
    }
    if outcome.books_lost > 0 {
        let rows = outcome.books_lost;
        tracing::error!("the last {rows} rows of ledger and latency are lost: no disk took them");
    }
    match lost {
        0 => match outcome.given_up {
            Some(error) if outcome.books_lost > 0 => Err(error.into()),
            _ => Ok(()),
        },
        // Only a spool without a disk ends like this.
        packets if packets == undelivered => {
            Err(Error::Undelivered { packets, source: outcome.given_up })
        }
        packets => Err(Error::Undelivered { packets, source: None }),
    }
}

const UNDELIVERED: LostRecord = LostRecord::Spool(LossReason::Undelivered);

/// Says what was lost in the kernel, and what helps.
fn warn_of_loss(name: &str, balance: &Balance) {
    for (reason, count) in Lost::ALL.iter().zip(&balance.lost) {
        if count.packets > 0 {
            let remedy = match reason {
                Lost::RingFull => "raise table_memory_mib or lower drain_interval_ms",
                Lost::NoRegion => "restart the agent: CPUs were added",
                Lost::NoInterface => "please report it",
                Lost::Crash => "an agent was killed while it drained them",
            };
            tracing::warn!(
                "{name}: {} packets are not in any flow, reason {}; {remedy}",
                count.packets,
                reason.label()
            );
        }
    }
}
