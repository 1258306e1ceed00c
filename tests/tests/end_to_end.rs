//! The whole agent on real traffic: what is in ClickHouse is what was on the wire.
//!
//! Each scenario makes a lab, meters both ends, sends more than 1,000 flows and
//! 200,000 packets in both directions, and compares every flow at both ends with an
//! independent tally. Needs root, the agent's binary and libchdb.

use anyhow::{Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::lab::{Lab, Side};
use flow_tests::ledger::Ledger;
use flow_tests::process::{Agent, Store};
use flow_tests::tally::{Counts, Tally};
use flow_tests::traffic::{self, Ends, Sent};
use flow_tests::{hooks, rows, sql};
use rustix::process::Signal;
use tempfile::TempDir;

const FLOWS: usize = 1_000;
const PACKETS: u64 = 200_000;

/// A lab with its store; both are gone when it is dropped.
struct Bench {
    lab: Lab,
    store: Store,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("flow-e2e-")?;
        let log = folder.path().join("store.log");
        let store = Store::start(&flow_agent(), &folder.path().join("data"), &log)?;
        Ok(Self { lab: Lab::new()?, store, _folder: folder })
    }

    fn agent(&self, left: &str, right: &str) -> Result<Agent> {
        let (left, right) = (self.lab.left.spec(left), self.lab.right.spec(right));
        let interfaces = ["--interface", &left, "--interface", &right];
        Agent::start(&flow_agent(), &[&interfaces[..], &["--store", self.store.url()]].concat())
    }

    /// Meters the traffic, stops the agent and compares; returns what the tallies saw.
    fn meter(
        &self,
        attach: (&str, &str),
        traffic: impl FnOnce(&Lab) -> Result<Sent>,
    ) -> Result<(Counts, Counts)> {
        let agent = self.agent(attach.0, attach.1)?;
        let tallies = (Tally::start(&self.lab.left)?, Tally::start(&self.lab.right)?);
        let sent = traffic(&self.lab)?;
        let counts = (tallies.0.stop()?, tallies.1.stop()?);
        let log = agent.stop()?;
        println!(
            "{attach:?}: {} conversations, {} octets of payload, {} packets at the left end",
            sent.conversations,
            sent.forward + sent.backward,
            counts.0.total.packets
        );
        for (side, counts) in [(&self.lab.left, &counts.0), (&self.lab.right, &counts.1)] {
            self.compare(side, counts).inspect_err(|_| println!("the agent said:\n{log}"))?;
        }
        Ok(counts)
    }

    fn compare(&self, side: &Side, counts: &Counts) -> Result<()> {
        let end = side.interface;
        let stored = rows::flows(self.store.url(), end)?;
        let different = rows::differences(&counts.by_key(), &stored);
        ensure!(different.is_empty(), "{end}, flows that differ:\n{}", different.join("\n"));
        let ledger = Ledger::read(self.store.url(), end)?;
        ensure!(ledger.unaccounted() == (0, 0), "{end}: not all is accounted for: {ledger:?}");
        ensure!(ledger.lost.packets == 0, "{end}: packets were lost: {ledger:?}");
        ensure!(ledger.metered == counts.total, "{end}: {ledger:?}, wire {:?}", counts.total);
        ensure!(ledger.not_metered.packets == counts.other, "{end}: {ledger:?}");
        Ok(())
    }
}

fn enough(counts: &Counts) {
    // A flow is two keys, one for each direction; one-way flows are one.
    assert!(counts.flows.len() / 2 >= FLOWS, "only {} flows", counts.flows.len() / 2);
    assert!(counts.total.packets >= PACKETS, "only {} packets", counts.total.packets);
}

#[test]
fn xdp_at_one_end_and_tc_at_the_other_store_what_was_on_the_wire() -> Result<()> {
    let bench = Bench::new()?;
    let (left, right) = bench.meter(("xdp", "tc"), traffic::mixed)?;
    enough(&left);
    enough(&right);
    assert!(right.super_ingress > 0, "segmentation offload reaches the TC end");
    Ok(())
}

#[test]
fn tc_at_both_ends_stores_what_was_on_the_wire_with_super_packets_both_ways() -> Result<()> {
    let bench = Bench::new()?;
    let (left, right) = bench.meter(("tc", "tc"), traffic::mixed)?;
    enough(&left);
    enough(&right);
    for counts in [&left, &right] {
        assert!(counts.super_ingress > 0 && counts.super_egress > 0, "offload is on");
    }
    Ok(())
}

#[test]
fn auto_on_veth_keeps_segmentation_offload_and_stores_what_was_on_the_wire() -> Result<()> {
    let bench = Bench::new()?;
    let (left, right) = bench.meter(("auto", "auto"), traffic::mixed)?;
    enough(&left);
    for counts in [&left, &right] {
        assert!(counts.super_ingress > 0 && counts.super_egress > 0, "auto turned offload off");
    }
    Ok(())
}

#[test]
fn a_stopped_agent_leaves_its_flows_in_the_store_and_nothing_on_the_interfaces() -> Result<()> {
    let bench = Bench::new()?;
    let (left, right) = (&bench.lab.left, &bench.lab.right);
    for signal in [Signal::INT, Signal::TERM] {
        let agent = bench.agent("xdp", "tc")?;
        assert!(!hooks::attached(left)?.is_empty() && !hooks::attached(right)?.is_empty());
        traffic::short(Ends::v4((left, 0), (right, 0), 8080), 20, 100, 1_000)?;
        // At once: no timeout has passed, all of it is still in the kernel or the cache.
        agent.stop_with(signal)?;
        assert_eq!(hooks::attached(left)?, Vec::<String>::new());
        assert_eq!(hooks::attached(right)?, Vec::<String>::new());
    }
    let connections = sql::number(
        bench.store.url(),
        "SELECT uniqExact(src_port) FROM flow.flows WHERE dst_port = 8080 AND packets > 0 \
         AND reverse_packets > 0 AND endsWith(interface, 'veth-left')",
    )?;
    assert_eq!(connections, 40);
    // The wire still works without the agent.
    traffic::ping(Ends::v4((left, 0), (right, 0), 0), 3, 56)?;
    bench.store.stop()?;
    Ok(())
}
