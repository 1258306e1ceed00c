//! The whole agent on real traffic: what is in ClickHouse is what was on the wire.
//!
//! Each scenario makes a lab, meters both ends, sends more than 1,000 flows and
//! 200,000 packets in both directions, and compares every flow at both ends with an
//! independent tally. Needs root, the agent's binary and libchdb.

use anyhow::Result;
use flow_tests::lab::Lab;
use flow_tests::process::naming;
use flow_tests::rig::{self, Rig};
use flow_tests::tally::Counts;
use flow_tests::traffic::{self, Ends};
use flow_tests::{hooks, sql};
use rustix::process::Signal;
use tempfile::TempDir;

const FLOWS: usize = 1_000;
const PACKETS: u64 = 200_000;

fn enough(counts: &Counts) {
    // A flow is two keys, one for each direction; one-way flows are one.
    assert!(counts.flows.len() / 2 >= FLOWS, "only {} flows", counts.flows.len() / 2);
    assert!(counts.total.packets >= PACKETS, "only {} packets", counts.total.packets);
}

#[test]
fn xdp_at_one_end_and_tc_at_the_other_store_what_was_on_the_wire() -> Result<()> {
    let rig = Rig::new()?;
    let (left, right) = rig.meter(("xdp", "tc"), traffic::mixed)?;
    enough(&left);
    enough(&right);
    assert!(right.super_ingress > 0, "segmentation offload reaches the TC end");
    Ok(())
}

#[test]
fn tc_at_both_ends_stores_what_was_on_the_wire_with_super_packets_both_ways() -> Result<()> {
    let rig = Rig::new()?;
    let (left, right) = rig.meter(("tc", "tc"), traffic::mixed)?;
    enough(&left);
    enough(&right);
    for counts in [&left, &right] {
        assert!(counts.super_ingress > 0 && counts.super_egress > 0, "offload is on");
    }
    Ok(())
}

#[test]
fn auto_on_veth_keeps_segmentation_offload_and_stores_what_was_on_the_wire() -> Result<()> {
    let rig = Rig::new()?;
    let (left, right) = rig.meter(("auto", "auto"), traffic::mixed)?;
    enough(&left);
    for counts in [&left, &right] {
        assert!(counts.super_ingress > 0 && counts.super_egress > 0, "auto turned offload off");
    }
    Ok(())
}

#[test]
fn a_stopped_agent_leaves_its_flows_in_the_store_and_nothing_on_the_interfaces() -> Result<()> {
    let rig = Rig::new()?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    for signal in [Signal::INT, Signal::TERM] {
        let agent = rig.agent(("xdp", "tc"))?;
        assert!(!hooks::attached(left)?.is_empty() && !hooks::attached(right)?.is_empty());
        traffic::short(Ends::v4((left, 0), (right, 0), 8080), 20, 100, 1_000)?;
        // At once: no timeout has passed, all of it is still in the kernel or the cache.
        agent.stop_with(signal)?;
        assert_eq!(hooks::attached(left)?, Vec::<String>::new());
        assert_eq!(hooks::attached(right)?, Vec::<String>::new());
    }
    let connections = sql::number(
        rig.store.url(),
        "SELECT uniqExact(src_port) FROM flow.flows WHERE dst_port = 8080 AND packets > 0 \
         AND reverse_packets > 0 AND endsWith(interface, 'veth-left')",
    )?;
    assert_eq!(connections, 40);
    // The wire still works without the agent.
    traffic::ping(Ends::v4((left, 0), (right, 0), 0), 3, 56)?;
    rig.store.stop();
    Ok(())
}

#[test]
fn the_embedded_store_has_what_was_on_the_wire_and_ends_with_the_agent() -> Result<()> {
    let lab = Lab::new()?;
    let folder = TempDir::with_prefix("flow-embedded-")?;
    let store = format!("embedded:{}", folder.path().join("data").display());
    let agent = rig::agent(&lab, ("xdp", "tc"), &store, &[])?;
    let data = folder.path().display().to_string();
    assert_eq!(naming(&data)?.len(), 2, "the agent and its store");
    let counts = rig::tally(&lab, |lab| {
        let (left, right) = (&lab.left, &lab.right);
        let mut sent = traffic::bulk(Ends::v4((left, 0), (right, 0), 5201), 20 << 20, 50 << 20)?;
        sent.add(traffic::short(Ends::v6((right, 1), (left, 1), 443), 200, 500, 5_000)?);
        sent.add(traffic::ask(Ends::v4((left, 2), (right, 2), 53), 200, 2, 40, 300)?);
        Ok(sent)
    })?;
    agent.stop()?;
    assert_eq!(naming(&data)?, Vec::<String>::new(), "still running");
    rig::exact(&lab, &store, &counts)?;
    assert_eq!(naming(&data)?, Vec::<String>::new(), "flow-agent query left its store");
    Ok(())
}
