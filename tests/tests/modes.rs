//! Every way to attach, and packets that the two hooks meet in different shapes: what is
//! stored is what was on the wire. Needs root, the agent's binary and libchdb.

use std::time::Duration;

use anyhow::Result;
use etherparse::{PacketBuilder, PacketBuilderStep, VlanHeader, VlanId};
use flow_tests::bin_path::flow_agent;
use flow_tests::faults::{self, Outcome};
use flow_tests::lab::Side;
use flow_tests::ledger::Ledger;
use flow_tests::process::Agent;
use flow_tests::rig::{self, Rig};
use flow_tests::sql;
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::tally::{Counts, PacketSocket, Tally};
use flow_tests::traffic::{self, Ends, Sent};
use serde_json::json;

/// Frames of each kind.
const FRAMES: u64 = 5;

#[test]
fn generic_xdp_stores_what_was_on_the_wire() -> Result<()> {
    let rig = Rig::new()?;
    // Nothing larger than a segment: generic XDP sees a super-packet as one packet.
    rig.meter(("xdp-generic", "xdp-generic"), |lab| {
        let (left, right) = (&lab.left, &lab.right);
        let mut sent = traffic::short(Ends::v4((left, 0), (right, 0), 80), 100, 200, 1_000)?;
        sent.add(traffic::short(Ends::v6((right, 0), (left, 0), 80), 100, 1_000, 200)?);
        sent.add(traffic::ask(Ends::v4((left, 1), (right, 1), 53), 100, 2, 40, 1_200)?);
        sent.add(traffic::ping(Ends::v6((right, 0), (left, 0), 0), 20, 1_000)?);
        Ok(sent)
    })?;
    Ok(())
}

#[test]
fn loopback_is_metered_once() -> Result<()> {
    let rig = Rig::new()?;
    let (left, url) = (&rig.lab.left, rig.store.url());
    let interface = format!("{}/lo", left.namespace.name());
    let arguments = ["--interface", &interface, "--store", url, "--drain-interval", "100"];
    let agent = Agent::start(&flow_agent(), &[&arguments[..], &ANY_PORT].concat())?;
    let status = Status::of(&agent)?;
    let tally = Tally::start_on(&left.namespace, "lo")?;
    traffic::short(Ends::v4((left, 0), (left, 1), 80), 100, 200, 5_000)?;
    traffic::bulk(Ends::v6((left, 0), (left, 1), 5201), 10 << 20, 50 << 20)?;
    traffic::ask(Ends::v6((left, 1), (left, 2), 53), 100, 2, 40, 1_200)?;
    traffic::ping(Ends::v4((left, 0), (left, 1), 0), 20, 56)?;
    let counts = tally.stop()?.ingress();
    // It has no direction there; the page shows it as received, live and in the past.
    let patience = Duration::from_secs(30);
    let (packets, octets) = (counts.total.packets, counts.total.octets);
    agent.wait_until("all is drained", patience, || {
        let traffic = status.json("/api/v1/overview")?["traffic"].take();
        let said =
            |side: &str| (traffic[side]["packets"].as_u64(), traffic[side]["octets"].as_u64());
        Ok(said("received") == (Some(packets), Some(octets)) && said("sent").0 == Some(0))
    })?;
    agent.wait_until("all is stored", patience, || {
        status.invalidate(&json!({ "all": true }))?;
        Ok(status.json("/api/v1/status")?["packets"]["in_flight"] == 0)
    })?;
    let past = status.json("/api/v1/history?hours=1")?;
    let sum = |column: usize| -> u64 {
        let points = past["points"].as_array().into_iter().flatten();
        points.filter_map(|point| point[column].as_u64()).sum()
    };
    assert_eq!([sum(1), sum(2), sum(3), sum(4)], [packets, octets, 0, 0], "{past}");
    agent.stop()?;
    rig::exact_at(url, "/lo", &counts)
}

#[test]
fn vlan_tags_are_the_same_at_both_ends() -> Result<()> {
    let rig = Rig::new()?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let counts = rig.meter(("xdp", "tc"), |_| {
        tagged(left, right, 1000)?;
        tagged(right, left, 2000)?;
        Ok(Sent::default())
    })?;
    for side in [left, right] {
        let rows = sql::text(
            rig.store.url(),
            &format!(
                "SELECT src_port, vlan_id, inner_vlan_id, sum(packets) FROM flow.flows \
                 WHERE endsWith(interface, '{}') GROUP BY ALL ORDER BY ALL",
                side.interface
            ),
        )?;
        let expected = "1001\t100\t0\t5\n1002\t200\t300\t5\n\
                        2001\t100\t0\t5\n2002\t200\t300\t5\n";
        assert_eq!(rows, expected, "{}", side.interface);
    }
    recorded("vlan_tags", "the rows have one tag and two", &rig, &counts)
}

/// Sends frames with one tag, from port `base + 1`, and with two, from `base + 2`.
fn tagged(from: &Side, to: &Side, base: u16) -> Result<()> {
    let address = |side: &Side| match side.v4(0) {
        std::net::IpAddr::V4(address) => address.octets(),
        std::net::IpAddr::V6(_) => unreachable!("v4 is IPv4"),
    };
    let id = |number| VlanId::try_new(number).expect("12 bits");
    let ethernet = || PacketBuilder::ethernet2(from.mac(), to.mac());
    from.namespace.enter(|| {
        let socket = PacketSocket::open(from.interface)?;
        let send = |link: PacketBuilderStep<VlanHeader>, port| {
            let packet = link.ipv4(address(from), address(to), 64).udp(port, 9);
            let mut frame = Vec::new();
            packet.write(&mut frame, &[0x77; 100])?;
            for _ in 0..FRAMES {
                socket.send(&frame)?;
            }
            anyhow::Ok(())
        };
        send(ethernet().single_vlan(id(100)), base + 1)?;
        send(ethernet().double_vlan(id(200), id(300)), base + 2)
    })
}

#[test]
fn fragments_join_the_flow_of_their_datagram() -> Result<()> {
    let rig = Rig::new()?;
    let counts = rig.meter(("xdp", "tc"), |lab| {
        let (left, right) = (&lab.left, &lab.right);
        let mut sent = traffic::ask(Ends::v4((left, 0), (right, 0), 53), 50, 3, 4_000, 9_000)?;
        sent.add(traffic::ask(Ends::v6((left, 1), (right, 1), 53), 50, 3, 4_000, 9_000)?);
        sent.add(traffic::ping(Ends::v4((right, 0), (left, 0), 0), 20, 4_000)?);
        sent.add(traffic::ping(Ends::v6((right, 0), (left, 0), 0), 20, 4_000)?);
        Ok(sent)
    })?;
    for counts in [&counts.0, &counts.1] {
        // Each question is three packets, each answer seven, each ping three.
        assert_eq!(counts.later_fragments, 2 * 50 * 3 * (2 + 6) + 2 * 20 * 2 * 2);
    }
    for side in [&rig.lab.left, &rig.lab.right] {
        let ledger = Ledger::read(rig.store.url(), side.interface)?;
        assert_eq!(ledger.fragments_without_ports.packets, 0, "{}", side.interface);
    }
    let proof = format!("the tally saw {} later fragments", counts.0.later_fragments);
    recorded("fragments", &proof, &rig, &counts)
}

/// Records strange packets that were metered at both ends.
fn recorded(name: &str, proof: &str, rig: &Rig, counts: &(Counts, Counts)) -> Result<()> {
    let sent = counts.0.total.packets + counts.1.total.packets;
    faults::record(name, proof, Outcome::compare(rig.store.url(), sent)?)
}
