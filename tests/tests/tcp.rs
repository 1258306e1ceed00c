//! What is told of TCP: handshake times and retransmitted segments, in the kernel, live and in
//! replay. Needs root and the agent's binary.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions};
use etherparse::PacketBuilder;
use flow_agent::attach::{Kernel, TableSize};
use flow_agent::clock::wall_clock;
use flow_agent::delta::Delta;
use flow_agent::drain::Drain;
use flow_common::table::{InterfaceEntry, names};
use flow_tests::lab::Side;
use flow_tests::made::{Pcap, folder_with, lines, replay};
use flow_tests::rig::Rig;
use flow_tests::sql;
use flow_tests::tally::Tally;
use flow_tests::traffic::{self, Ends};

/// Test runs say that packets come from `lo`.
const TEST_RUN_IFINDEX: u32 = 1;

/// Sequence number, payload octets, flags.
type Segment = (u32, usize, &'static str);

/// One direction of a connection, and how many of its segments were sent before.
const SEGMENTS: [Segment; 12] = [
    (99, 0, "S"),
    (99, 0, "S"), // a SYN again
    (100, 0, "A"),
    (100, 500, "A"),
    (600, 500, "A"),
    (100, 500, "A"), // again
    (600, 500, "A"), // again
    (600, 700, "A"), // has something new
    (1299, 1, "A"),  // keeps the connection alive
    (1299, 0, "A"),
    (1300, 100, "AF"),
    (1300, 100, "AF"), // again
];
const REPEATED: u64 = 3;

fn frame((seq, payload, flags): Segment) -> Vec<u8> {
    let mut builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(50_000, 443, seq, 1000);
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'A' => builder.ack(1),
            'R' => builder.rst(),
            _ => builder.fin(),
        };
    }
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0; payload]).expect("valid");
    frame
}

/// The one flow that the kernel side makes of these.
fn metered(segments: &[Segment]) -> Delta {
    let cpus = aya::util::nr_cpus().expect("the CPUs are known") as u32;
    let size = TableSize { cpus, sets_per_region: 256, interfaces: 16, tunnels: false };
    let mut kernel = Kernel::load(size, 7).unwrap_or_else(|error| panic!("{error}"));
    let entry = InterfaceEntry::ethernet(1);
    kernel.set_interface(TEST_RUN_IFINDEX, entry).expect("the map takes it");
    let mut drain = Drain::new(&mut kernel, 1).unwrap_or_else(|error| panic!("{error}"));
    let program = kernel.classifier(names::TC_INGRESS).expect("loaded");
    for segment in segments {
        let frame = frame(*segment);
        let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
        program.test_run(options).expect("runs");
    }
    let mut deltas = Vec::new();
    let drained = drain.drain(wall_clock, &mut deltas);
    let drained = drained.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(drained.balances[1].unaccounted(), (0, 0));
    assert_eq!(deltas.len(), 1, "{deltas:?}");
    deltas.remove(0)
}

#[test]
fn the_kernel_counts_repeated_segments() {
    let delta = metered(&SEGMENTS);
    assert_eq!((u64::from(delta.retransmits), delta.syn_packets), (REPEATED, 2));
    assert!(delta.first_ns <= delta.ack_ns && delta.syn_ns < delta.ack_ns, "{delta:?}");
}

/// A reset's sequence number may be anything: what begins with one is known from a SYN on.
#[test]
fn kernel_and_replay_agree_on_what_begins_with_a_reset() {
    let twice = [(100, 500, "A"), (100, 500, "A")];
    for (first, expected) in [("R", 0), ("AR", 0), ("A", 1), ("S", 1), ("", 1)] {
        let mut segments = vec![(9_000, 0, first)];
        if first == "A" || first == "S" {
            segments[0].0 = 99;
        }
        segments.extend(twice);
        let delta = metered(&segments);
        let mut pcap = Pcap::new();
        for segment in &segments {
            pcap.add(0, &frame(*segment));
        }
        let (_folder, file) = folder_with("made.pcap", &pcap.0);
        let rows = lines(&replay(&[], &file));
        let replayed = rows.iter().map(|row| row["retransmits"].as_u64().expect("a number"));
        let counts = (u64::from(delta.retransmits), replayed.sum::<u64>());
        assert_eq!(counts, (expected, expected), "{first:?} first");
    }
}

#[test]
fn replay_counts_repeated_syns_and_segments_over_records() {
    let mut pcap = Pcap::new();
    // Half a minute between two: the flow lasts longer than the active timeout.
    for (nth, segment) in SEGMENTS.into_iter().enumerate() {
        pcap.add(nth as u32 * 10_000_000, &frame(segment));
    }
    let (_folder, file) = folder_with("made.pcap", &pcap.0);
    let rows = lines(&replay(&[], &file));
    ensure_several(rows.len());
    let retransmits = rows.iter().map(|row| row["retransmits"].as_u64().expect("a number"));
    assert_eq!(retransmits.sum::<u64>(), 1 + REPEATED);
}

fn ensure_several(rows: usize) {
    assert!(rows > 1, "the flow lasts longer than the active timeout");
}

/// Each end measures its own round trip: who began from SYN to SYN-ACK, who answered from there
/// to the ACK.
#[test]
fn both_ends_time_the_handshake() -> Result<()> {
    let rig = Rig::new()?;
    rig.meter(("tc", "tc"), |lab| {
        traffic::short(Ends::v4((&lab.left, 0), (&lab.right, 0), 80), 20, 100, 100)
    })?;
    let rows = sql::rows(
        rig.store.url(),
        "SELECT direction, count(), countIf(handshake_rtt_ns BETWEEN 1 AND 1e9) \
         FROM flow.flows WHERE protocol = 6 GROUP BY direction",
    )?;
    let counts: BTreeMap<_, _> =
        rows.iter().map(|row| (row[0].as_str(), [row[1].as_str(), row[2].as_str()])).collect();
    let expected = BTreeMap::from([("egress", ["20"; 2]), ("ingress", ["20"; 2])]);
    ensure!(counts == expected, "{counts:?}");
    Ok(())
}

/// Super-packets of more than 64 KiB: IPv6 has a header for their length that is not on the wire.
/// Native XDP at the other end makes the kernel segment them behind the program that counts them,
/// and before the packet socket. Segments that the other end has no room for are lost behind both.
#[test]
fn big_tcp_counts_as_its_segments() -> Result<()> {
    let rig = Rig::new()?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    left.namespace.ip(&format!("link set {} gso_max_size 180000\n", left.interface))?;
    let agent = rig.agent(("tc", "xdp"))?;
    let tally = Tally::start(left)?;
    let before = ipv6_sent(left)?;
    traffic::bulk(Ends::v6((left, 0), (right, 0), 5201), 50 << 20, 500 << 20)?;
    let super_packets = ipv6_sent(left)? - before;
    rig.lab.wait_quiet()?;
    let segments = tally.stop()?.egress();
    agent.stop()?;
    ensure!(segments.super_egress == 0, "the tally is to see what is on the wire");
    // More than an ordinary super-packet holds, each.
    let mean = segments.total.octets / super_packets.max(1);
    ensure!(mean > 0xffff, "{super_packets} super-packets of {mean} octets were sent");
    let sent = sql::rows(
        rig.store.url(),
        &format!(
            "SELECT sum(packets), sum(bytes) FROM flow.flows \
             WHERE endsWith(interface, '{}') AND direction = 'egress'",
            left.interface
        ),
    )?;
    let segments = [segments.total.packets, segments.total.octets];
    assert_eq!(sent, [segments.map(|count| count.to_string())]);
    Ok(())
}

/// IPv6 packets that a side's IP layer has sent, a super-packet counted once.
fn ipv6_sent(side: &Side) -> Result<u64> {
    let counters =
        side.namespace.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp6")?))?;
    let count = counters.lines().find_map(|line| line.strip_prefix("Ip6OutRequests"));
    Ok(count.context("the kernel does not count IPv6 packets")?.trim().parse()?)
}
