//! What must hold of an interface whose agents were killed: every packet is stored or lost by name.

use anyhow::{Context, Result, ensure};

use crate::lab::Side;
use crate::ledger::Ledger;
use crate::sql;
use crate::tally::Counts;

/// An error unless the ledger balances, the table has what it says and no row twice, and, if there
/// was no moment without hooks, both agree with the wire. Leaves the packets that were lost.
pub fn explained(url: &str, side: &Side, wire: Option<&Counts>) -> Result<u64> {
    let ledger = Ledger::read(url, side.interface)?;
    ensure!(ledger.unaccounted() == (0, 0), "{}: {ledger:?}", side.interface);
    ensure!(ledger.in_flight() == (0, 0), "{}: {ledger:?}", side.interface);
    let (packets, twice) = stored(url, side.interface)?;
    ensure!(twice == 0, "{}: {twice} rows are there twice", side.interface);
    ensure!(packets == ledger.acknowledged.packets, "{packets} packets stored, {ledger:?}");
    let lost = ledger.lost.packets + ledger.undelivered.packets;
    if let Some(wire) = wire {
        let sent = wire.total.packets + wire.other;
        ensure!(ledger.seen.packets == sent, "{sent} packets were sent: {ledger:?}");
        let gap = wire.total.packets - packets;
        ensure!(gap == lost, "{gap} packets are missing, {lost} were told: {ledger:?}");
    }
    Ok(lost)
}

/// Packets of an interface in the store, and rows that are there more than once.
fn stored(url: &str, interface: &str) -> Result<(u64, u64)> {
    // The rest of the row counts, too: what a killed agent has left of a conversation and what is
    // metered of it since may be two rows of the same moment.
    let query = format!(
        "SELECT sum(packets + reverse_packets), count() - uniqExact(sipHash128(tuple(*))) \
         FROM flow.flows WHERE endsWith(interface, '{interface}')"
    );
    let rows = sql::rows(url, &query)?;
    let row = rows.first().context("one row")?;
    Ok((row[0].parse()?, row[1].parse()?))
}
