//! Tunnels: the programs with and without `decapsulate`, super-packets, and replay. Needs root and
//! the agent's binary.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Result, ensure};
use aya::programs::{TestRun, TestRunOptions};
use flow_agent::attach::{Kernel, TableSize};
use flow_agent::drain::Drain;
use flow_common::table::{InterfaceEntry, names};
use flow_tests::bin_path::flow_agent;
use flow_tests::lab::Side;
use flow_tests::made::{Pcap, folder_with, lines};
use flow_tests::reference::Tunnel;
use flow_tests::rig::Rig;
use flow_tests::sql;
use flow_tests::tally::{PacketSocket, Tally};
use flow_tests::traffic::{self, Ends};
use flow_tests::tunnelled::{self, INNER, INNER_HEADERS, Made, PORTS};
use serde_json::{Value, json};

/// Test runs say that packets come from `lo`.
const TEST_RUN_IFINDEX: u32 = 1;

fn kernel(decapsulate: bool) -> Kernel {
    let cpus = aya::util::nr_cpus().expect("the CPUs are known") as u32;
    let size = TableSize { cpus, sets_per_region: 256, interfaces: 16, tunnels: decapsulate };
    Kernel::load(size, 7).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_program_loads_with_decapsulation() {
    for decapsulate in [false, true] {
        let kernel = kernel(decapsulate);
        // The clock's program is a load of its own.
        let metering = kernel.ebpf.programs().filter(|(name, _)| *name != names::READ_CLOCK);
        for (name, program) in metering {
            let info = program.info().expect("loaded");
            let verified = info.verified_instruction_count().expect("5.16 or later");
            let octets = info.size_translated().expect("the kernel says so");
            println!(
                "{name}, decapsulate {decapsulate}: {verified} instructions verified, \
                 {octets} octets"
            );
            assert!(verified < 900_000, "{name} is near the verifier's limit of a million");
        }
    }
}

/// The context of a super-packet (`struct __sk_buff`), where the kernel takes one for a test run.
fn super_packet(segment_size: u32, segments: u32) -> [u8; 192] {
    let mut context = [0; 192];
    context[164..168].copy_from_slice(&segments.to_ne_bytes());
    context[176..180].copy_from_slice(&segment_size.to_ne_bytes());
    context
}

/// What the kernel would send of a super-packet has the outer and the inner headers each time.
#[test]
fn a_tunnels_super_packet_counts_as_its_segments() {
    const PAYLOAD: usize = 2_500;
    const SEGMENT: usize = 1_000;
    for (decapsulate, told) in [(false, 3), (false, 0), (true, 3)] {
        let mut kernel = kernel(decapsulate);
        let entry = InterfaceEntry::ethernet(1);
        kernel.set_interface(TEST_RUN_IFINDEX, entry).expect("the map takes it");
        let mut drain = Drain::new(&mut kernel, 1).unwrap_or_else(|error| panic!("{error}"));
        for Made { frame, tunnel, headers } in tunnelled::frames(PAYLOAD, true) {
            let options = TestRunOptions {
                data_in: Some(&frame),
                ctx_in: Some(&super_packet(SEGMENT as u32, told)),
                ..TestRunOptions::default()
            };
            let program = kernel.classifier(names::TC_EGRESS).expect("loaded");
            program.test_run(options).expect("runs");
            let mut deltas = Vec::new();
            let drained = drain.drain(|| 0, &mut deltas);
            let drained = drained.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(drained.balances[1].unaccounted(), (0, 0));
            let [delta] = &deltas[..] else { panic!("one flow: {deltas:?}") };
            let headers = if decapsulate { INNER_HEADERS } else { headers };
            let expected = (3, (PAYLOAD + 3 * headers) as u64);
            assert_eq!((delta.packets, delta.octets), expected, "{tunnel:?}, {decapsulate}");
            assert_eq!(delta.key.protocol == 6, decapsulate, "{tunnel:?}");
        }
    }
}

/// TCP through VXLAN: the sender's program sees super-packets, the receiver's interface counts
/// what really came.
#[test]
fn vxlan_super_packets_are_what_the_other_end_receives() -> Result<()> {
    let rig = Rig::new()?;
    let received = through_vxlan(&rig, &[])?;
    assert_eq!(sent(&rig, "protocol = 17 AND dst_port = 4789")?, received);
    Ok(())
}

/// An overlay at both ends, one TCP transfer through it, metered by an agent with these arguments.
/// Returns packets and IP octets of what the right end received.
fn through_vxlan(rig: &Rig, arguments: &[&str]) -> Result<(u64, u64)> {
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    overlay(left, right)?;
    overlay(right, left)?;
    // Behind the programs the sender's interface takes single packets only. Set after the overlay
    // was made, which goes on with super-packets.
    left.namespace.ip(&format!("link set {} gso_max_segs 1\n", left.interface))?;
    rig.lab.wait_quiet()?;

    let agent = rig.agent_with(("tc", "tc"), arguments)?;
    let before = right.received()?;
    // Shows what the sender's stack hands down.
    let tally = Tally::start_on(&left.namespace, "vx")?;
    let ends = Ends {
        client: left,
        from: "10.78.0.1".parse()?,
        server: right,
        to: "10.78.0.2:5201".parse()?,
    };
    traffic::bulk(ends, 20 << 20, 100 << 20)?;
    rig.lab.wait_quiet()?;
    let after = right.received()?;
    let super_packets = tally.stop()?.super_egress;
    ensure!(super_packets > 100, "only {super_packets} super-packets were sent");
    agent.stop()?;
    Ok((after.0 - before.0, after.1 - before.1))
}

/// Packets and octets that left the left end, in rows of this kind.
fn sent(rig: &Rig, condition: &str) -> Result<(u64, u64)> {
    let sum = |column: &str| {
        sql::number(
            rig.store.url(),
            &format!(
                "SELECT sumIf({column}, direction = 'egress') \
                   + sumIf(reverse_{column}, direction = 'ingress') FROM flow.flows \
                 WHERE endsWith(interface, '{}') AND {condition}",
                rig.lab.left.interface
            ),
        )
    };
    Ok((sum("packets")?, sum("bytes")?))
}

/// A VXLAN interface `vx` with 10.78.0.N for side N.
fn overlay(side: &Side, other: &Side) -> Result<()> {
    let (local, remote) = (side.v4(0), other.v4(0));
    let (here, there) = (side.mac()[5], other.mac()[5]);
    side.namespace.ip(&format!(
        "link add vx type vxlan id 7 local {local} remote {remote} dstport 4789 dev {}\n\
         link set vx address 02:00:00:00:78:{here:02x}\n\
         addr add 10.78.0.{here}/24 dev vx\n\
         link set vx up\n\
         neigh replace 10.78.0.{there} lladdr 02:00:00:00:78:{there:02x} nud permanent dev vx\n",
        side.interface
    ))
}

/// The same with tunnels opened: what counts are the packets inside.
#[test]
fn what_goes_through_vxlan_is_stored_when_tunnels_are_opened() -> Result<()> {
    const HEADERS: u64 = 20 + 8 + 8 + 14; // IP, UDP, VXLAN, Ethernet
    let rig = Rig::new()?;
    let (packets, octets) = through_vxlan(&rig, &["--decapsulate"])?;
    let inside = "tunnel_type = 'vxlan' AND tunnel_id = 7 AND protocol = 6 AND dst_port = 5201";
    assert_eq!(sent(&rig, inside)?, (packets, octets - HEADERS * packets));
    assert_eq!(sent(&rig, "1")?, (packets, octets - HEADERS * packets), "and nothing else");
    Ok(())
}

/// Every kind of tunnel through the programs of both hooks into the store.
#[test]
fn inner_flows_are_stored_with_their_tunnels() -> Result<()> {
    const TIMES: u64 = 3;
    let rig = Rig::new()?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let agent = rig.agent_with(("tc", "xdp"), &["--decapsulate"])?;
    for (side, forward, payload) in [(left, true, 100), (right, false, 60)] {
        side.namespace.enter(|| {
            let socket = PacketSocket::open(side.interface)?;
            for made in tunnelled::frames(payload, forward) {
                (0..TIMES).try_for_each(|_| socket.send(&made.frame))?;
            }
            Ok(())
        })?;
    }
    rig.lab.wait_quiet()?;
    agent.stop()?;
    for (side, direction) in [(left, "egress"), (right, "ingress")] {
        let rows = sql::rows(
            rig.store.url(),
            &format!(
                "SELECT tunnel_type, tunnel_id, IPv6NumToString(tunnel_src), \
                   IPv6NumToString(tunnel_dst), IPv6NumToString(src_ip), IPv6NumToString(dst_ip), \
                   src_port, dst_port, protocol, packets, bytes, reverse_packets, reverse_bytes, \
                   min_ttl, direction \
                 FROM flow.flows WHERE endsWith(interface, '{}') ORDER BY tunnel_type",
                side.interface
            ),
        )?;
        let expected = tunnelled::frames(0, true).into_iter().map(|made| {
            let Tunnel { kind, id, src, dst } = made.tunnel;
            let row = format!(
                "{kind} {id} ::ffff:{src} ::ffff:{dst} ::ffff:{} ::ffff:{} {} {} 6 \
                 {TIMES} {} {TIMES} {} 33 {direction}",
                INNER.0,
                INNER.1,
                PORTS.0,
                PORTS.1,
                140 * TIMES,
                100 * TIMES,
            );
            row.split(' ').map(str::to_owned).collect::<Vec<_>>()
        });
        assert_eq!(rows, expected.collect::<Vec<_>>(), "{}", side.interface);
    }
    Ok(())
}

/// At TC the headers inside may lie in a part of the packet that is not read at once.
#[test]
fn inner_headers_outside_the_linear_part_are_found() -> Result<()> {
    const PAYLOAD: usize = 5_000;
    let rig = Rig::new()?;
    let left = &rig.lab.left;
    for side in [left, &rig.lab.right] {
        side.namespace.ip(&format!("link set {} mtu 9000\n", side.interface))?;
    }
    let agent = rig.agent_with(("tc", "tc"), &["--decapsulate"])?;
    left.namespace.enter(|| {
        let socket = PacketSocket::open(left.interface)?;
        for made in tunnelled::frames(PAYLOAD, true) {
            socket.send_split(&made.frame, 42)?;
        }
        Ok(())
    })?;
    rig.lab.wait_quiet()?;
    agent.stop()?;
    let question = "SELECT tunnel_type, count(), sum(bytes) FROM flow.flows \
                    GROUP BY tunnel_type ORDER BY tunnel_type";
    let octets = (2 * (PAYLOAD + INNER_HEADERS)).to_string();
    let expected = ["vxlan", "geneve", "gre", "ipip", "gtpu"].map(|kind| [kind, "2", &octets]);
    assert_eq!(sql::rows(rig.store.url(), question)?, expected);
    Ok(())
}

/// A capture with a segment in each kind of tunnel, and an answer.
fn capture() -> Vec<u8> {
    let mut pcap = Pcap::new();
    for (micros, forward, payload) in [(0, true, 100), (500, false, 60)] {
        for made in tunnelled::frames(payload, forward) {
            pcap.add(micros, &made.frame);
        }
    }
    pcap.0
}

/// Replays, and gives of each row what is of interest here, by tunnel type.
fn rows(arguments: &[&str]) -> BTreeMap<String, Vec<Value>> {
    let (_folder, file) = folder_with("made.pcap", &capture());
    let output = Command::new(flow_agent()).arg("replay").args(arguments).arg(file).output();
    let mut rows: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in lines(&output.expect("runs")) {
        let kind = row["tunnel_type"].as_str().expect("a text").to_string();
        rows.entry(kind).or_default().push(row);
    }
    rows
}

#[test]
fn replay_opens_tunnels_when_asked_to() {
    let rows = rows(&["--decapsulate"]);
    let kinds: Vec<_> = rows.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["geneve", "gre", "gtpu", "ipip", "vxlan"]);
    for made in tunnelled::frames(0, true) {
        let tunnel = made.tunnel;
        let [row] = &rows[tunnel.kind][..] else { panic!("{}: one row", tunnel.kind) };
        let expected = json!({
            "src_ip": INNER.0, "dst_ip": INNER.1, "src_port": PORTS.0, "dst_port": PORTS.1,
            "protocol": 6, "packets": 1, "bytes": 140, "reverse_packets": 1, "reverse_bytes": 100,
            "tunnel_id": tunnel.id, "tunnel_src": tunnel.src, "tunnel_dst": tunnel.dst,
            "min_ttl": 33, "max_ttl": 33, "tcp_flags": 16, "service": "http",
        });
        for (key, value) in expected.as_object().expect("an object") {
            assert_eq!(&row[key], value, "{}: {key}", tunnel.kind);
        }
    }
}

#[test]
fn replay_meters_the_tunnels_themselves_by_default() {
    let rows = rows(&[]);
    assert_eq!(rows.keys().collect::<Vec<_>>(), ["none"]);
    for row in &rows["none"] {
        assert_eq!(row["tunnel_src"], "::");
        assert_ne!(row["protocol"], 6);
    }
    let packets = rows["none"].iter().map(|row| row["packets"].as_u64().unwrap_or(0)).sum::<u64>();
    let reverse = rows["none"].iter().map(|row| row["reverse_packets"].as_u64().unwrap_or(0));
    assert_eq!(packets + reverse.sum::<u64>(), 10);
}
