//! Many flows at the same time, on default settings: each is stored exactly, or what is
//! lost is lost under a reason. Needs root, the agent's binary and libchdb.

use anyhow::{Context, Result};
use flow_tests::ledger::Ledger;
use flow_tests::rig::{self, Rig};
use flow_tests::sql;
use flow_tests::tally::Count;
use flow_tests::traffic::{self, Ends};
use tempfile::TempDir;

const UDP_FLOWS: u64 = 2_000;
const TCP_CONNECTIONS: u64 = 500;
const DATAGRAMS: u64 = 100_000;

#[test]
fn thousands_of_open_flows_are_stored_exactly() -> Result<()> {
    let rig = Rig::new()?;
    let (left, _) = rig.meter(("xdp", "tc"), |lab| {
        let (left, right) = (&lab.left, &lab.right);
        // One address and one server port: only the source port tells the flows apart.
        let mut sent =
            traffic::ask_together(Ends::v4((left, 0), (right, 0), 53), UDP_FLOWS, 20, 60, 200)?;
        let tcp = Ends::v4((left, 0), (right, 0), 443);
        sent.add(traffic::together(tcp, TCP_CONNECTIONS, 10, 300, 1_000)?);
        // The other way, so that XDP meets the questions and TC the answers.
        let back = Ends::v6((right, 0), (left, 0), 53);
        sent.add(traffic::ask_together(back, UDP_FLOWS, 20, 60, 200)?);
        Ok(sent)
    })?;
    assert_eq!(left.by_key().len() as u64, 2 * (2 * UDP_FLOWS + TCP_CONNECTIONS));
    Ok(())
}

#[test]
fn a_flood_is_metered_or_lost_under_a_reason() -> Result<()> {
    flood(&[])
}

#[test]
fn a_flood_into_small_tables_is_metered_or_lost_under_a_reason() -> Result<()> {
    let folder = TempDir::new()?;
    let config = folder.path().join("small.toml");
    std::fs::write(&config, "table_memory_mib = 4\ndrain_interval_ms = 5000\n")?;
    flood(&["--config", config.to_str().context("a path in UTF-8")?])
}

fn flood(more: &[&str]) -> Result<()> {
    let rig = Rig::new()?;
    let agent = rig.agent_with(("xdp", "tc"), more)?;
    let counts = rig::tally(&rig.lab, |lab| {
        traffic::flood(Ends::v4((&lab.right, 0), (&lab.left, 0), 0), DATAGRAMS, 20)
    })?;
    agent.stop()?;
    for (side, counts) in [(&rig.lab.left, &counts.0), (&rig.lab.right, &counts.1)] {
        let end = side.interface;
        assert!(counts.total.packets >= DATAGRAMS, "{end}: the wire has not all of the flood");
        // Reading the ledger fails on a loss without a reason.
        let ledger = Ledger::read(rig.store.url(), end)?;
        assert_eq!(ledger.seen, counts.total, "{end}: {ledger:?}");
        assert_eq!(ledger.unaccounted(), (0, 0), "{end}: {ledger:?}");
        // Flows that found no place are stored without addresses: lost, but in the totals.
        let overflow = Ledger::lost(rig.store.url(), end, "ring_full")?;
        assert_eq!(stored(&rig, end, "src_ip = '::' AND dst_ip = '::'")?, overflow, "{end}");
        let mut drained = ledger.metered;
        drained.add(overflow);
        assert_eq!(ledger.drained, drained, "{end}: {ledger:?}");
        assert_eq!(ledger.acknowledged, drained, "{end}: {ledger:?}");
        assert_eq!(stored(&rig, end, "1")?, drained, "{end}: {ledger:?}");
        println!("{end}: {} of {} lost", ledger.lost.packets, ledger.seen.packets);
    }
    Ok(())
}

/// What the rows of an interface that are like this add up to.
fn stored(rig: &Rig, interface: &str, like: &str) -> Result<Count> {
    let sum = |column: &str| {
        let query = format!(
            "SELECT sum({column} + reverse_{column}) FROM flow.flows \
             WHERE endsWith(interface, '{interface}') AND {like}"
        );
        sql::number(rig.store.url(), &query)
    };
    Ok(Count { packets: sum("packets")?, octets: sum("bytes")? })
}
