//! A flood of random tuples on a live interface, at the rate that this machine can send: ledger
//! and an independent program on the same interface agree to the packet, every loss has a
//! reason, and flows that were there before stay exact. Needs root, the agent's binary, libchdb.
//!
//! `FLOW_FLOOD_PACKETS` sets how many packets (`cargo xtask test --long`: four million).

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use aya::programs::tc::{TcAttachOptions, TcAttachType};
use aya::programs::{LinkOrder, SchedClassifier, Xdp, XdpMode};
use flow_agent::bench::generator::{
    Counter, Generator, Plan, Traffic, WATCHED, WATCHED_ALONE, WATCHED_FIRST, WATCHED_PORT,
};
use flow_common::Count;
use flow_tests::attack;
use flow_tests::bin_path::flow_agent;
use flow_tests::faults::{self, Outcome};
use flow_tests::lab::Side;
use flow_tests::ledger::Ledger;
use flow_tests::peak::Peak;
use flow_tests::process::Agent;
use flow_tests::rig::Rig;
use flow_tests::{setting, sql};
use tempfile::TempDir;

/// More than a million random tuples.
const PACKETS: u64 = 1_200_000;

/// The counter is a TC program behind ours: XDP passes everything on to it.
#[test]
fn a_flood_metered_by_xdp_is_exact_or_lost_under_a_reason() -> Result<()> {
    let (generator, rig, _, sent) = flood("xdp", Counter::TcIngress, "")?;
    watched_are_exact(&generator, &rig)?;
    recorded("flood_by_xdp", &rig, sent)
}

/// The counter is an XDP program before ours.
#[test]
fn a_flood_metered_by_tc_is_exact_or_lost_under_a_reason() -> Result<()> {
    let (generator, rig, _, sent) = flood("tc", Counter::Xdp, "")?;
    watched_are_exact(&generator, &rig)?;
    recorded("flood_by_tc", &rig, sent)
}

/// Tables that cannot hold it, emptied rarely: much is lost, and all of it is named.
#[test]
fn a_flood_into_tables_that_are_far_too_small_is_lost_under_a_reason() -> Result<()> {
    let small = "table_memory_mib = 4\ndrain_interval_ms = 5000\n";
    let (_, rig, ledger, sent) = flood("xdp", Counter::TcIngress, small)?;
    ensure!(ledger.lost.packets > 0, "nothing was lost: {ledger:?}");
    ensure!(ledger.lost.octets == 46 * ledger.lost.packets, "other octets were lost: {ledger:?}");
    recorded("flood_into_small_tables", &rig, sent)
}

/// SYNs of a real attacker, by a raw socket; the driver counts them. A million in the whole suite.
#[test]
fn a_syn_flood_is_exact_or_lost_under_a_reason() -> Result<()> {
    let syns = if faults::all() { 1_000_000 } else { 60_000 };
    let rig = Rig::new()?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let IpAddr::V4(target) = left.v4(0) else { anyhow::bail!("v4 is IPv4") };
    let agent = rig.agent(("tc", "tc"))?;
    let peak = Peak::of(agent.id());
    let before = (left.received()?, right.received()?);
    attack::syn_flood(right, (target, 80), syns)?;
    rig.lab.wait_quiet()?;
    let after = (left.received()?, right.received()?);
    let packets = after.0.0 - before.0.0 + after.1.0 - before.1.0;
    let most = peak.stop()?;
    let log = agent.stop()?;
    ensure!(packets >= u64::from(syns), "{packets} packets arrived");
    ensure!(most < 600 << 20, "{} MiB of memory", most >> 20);
    // Both ends are metered: each packet was seen twice.
    let outcome = Outcome::compare(rig.store.url(), 2 * packets);
    let outcome = outcome.inspect_err(|_| println!("the agent said:\n{log}"))?;
    let proof = format!("the drivers counted {packets} packets; memory {} MiB at most", most >> 20);
    faults::record("syn_flood", &proof, outcome)
}

/// What an independent program has counted is the proof of the flood.
fn recorded(name: &str, rig: &Rig, sent: Count) -> Result<()> {
    let proof = format!("a program of its own counted {} packets", sent.packets);
    faults::record(name, &proof, Outcome::compare(rig.store.url(), sent.packets)?)
}

/// Sends a flood to an agent with this configuration; the books are compared with the counter.
fn flood(
    attach: &str,
    counter: Counter,
    settings: &str,
) -> Result<(Generator, Rig, Ledger, Count)> {
    let packets = setting("FLOW_FLOOD_PACKETS", PACKETS);
    let rig = Rig::new()?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let output_ifindex = right.index()?;
    let mut generator = Generator::load(Plan { output_ifindex, ..Plan::default() })?;
    count(&mut generator, left, counter)?;
    count(&mut generator, left, Counter::TcEgress)?;
    // How fast the store takes a million rows is not what is tested here.
    let folder = TempDir::new()?;
    let config = folder.path().join("patient.toml");
    std::fs::write(&config, format!("{settings}[spool]\nmax_mib = 65536\n"))?;
    let config = config.to_str().context("a path in UTF-8")?;
    let interface = left.spec(attach);
    let arguments = ["--config", config, "--interface", &interface, "--store", rig.store.url()];
    let agent = Agent::start(&flow_agent(), &arguments)?;
    let frame = right.to_nobody(0, 0);
    let send =
        |packets| right.namespace.enter(|| Ok(generator.send(Traffic::Flood, &frame, packets)?));
    send(WATCHED_ALONE)?;
    let took = send(u32::try_from(packets)?)?;
    rig.lab.wait_quiet()?;
    let wire = counted(&generator, counter)?;
    let log = agent.stop()?;

    let end = left.interface;
    let ledger = Ledger::read(rig.store.url(), end)?;
    println!(
        "{attach}: {packets} packets sent in {took:?}, {} came, {} lost in the kernel, {} on the \
         way to the store",
        wire.packets, ledger.lost.packets, ledger.undelivered.packets
    );
    let said = || format!("{ledger:?}; the agent said:\n{log}");
    ensure!(wire.packets > packets * 9 / 10, "only {} packets came", wire.packets);
    let seen = Count { packets: ledger.seen.packets, octets: ledger.seen.octets };
    ensure!(seen == wire, "{wire:?} were counted, the ledger differs: {}", said());
    // Reading the ledger fails on a loss without a reason.
    ensure!(ledger.unaccounted() == (0, 0), "not all is explained: {}", said());
    ensure!(ledger.in_flight() == (0, 0), "drained, but not stored or lost: {}", said());
    ensure!(ledger.not_metered.packets == 0, "all of it is IP: {}", said());
    let stored = sql::number(
        rig.store.url(),
        &format!(
            "SELECT sum(packets + reverse_packets) FROM flow.flows WHERE endsWith(interface, '{end}')"
        ),
    )?;
    ensure!(stored == ledger.acknowledged.packets, "{stored} packets are stored: {}", said());
    Ok((generator, rig, ledger, wire))
}

/// Each of the flows that were there before the flood has in the store what came of it.
fn watched_are_exact(generator: &Generator, rig: &Rig) -> Result<()> {
    let interface = rig.lab.left.interface;
    let last = WATCHED_FIRST + WATCHED - 1;
    let query = format!(
        "SELECT if(dst_port = {WATCHED_PORT}, src_port, dst_port) AS port, \
         sum(packets + reverse_packets), sum(bytes + reverse_bytes) FROM flow.flows \
         WHERE endsWith(interface, '{interface}') \
         AND (dst_port = {WATCHED_PORT} AND src_port BETWEEN {WATCHED_FIRST} AND {last} \
         OR src_port = {WATCHED_PORT} AND dst_port BETWEEN {WATCHED_FIRST} AND {last}) \
         GROUP BY port"
    );
    let mut stored = BTreeMap::new();
    for row in sql::rows(rig.store.url(), &query)? {
        let [port, packets, octets] = &row[..] else { anyhow::bail!("a row {row:?}") };
        let count = Count { packets: packets.parse()?, octets: octets.parse()? };
        stored.insert(port.parse::<u16>()?, count);
    }
    let mut different = Vec::new();
    for flow in 0..WATCHED {
        let wire = generator.watched(flow)?;
        ensure!(wire.packets >= u64::from(WATCHED_ALONE / 2) / u64::from(WATCHED), "{wire:?}");
        let stored = stored.get(&(WATCHED_FIRST + flow)).copied().unwrap_or_default();
        if stored != wire {
            different.push(format!("flow {flow}: stored {stored:?}, came {wire:?}"));
        }
    }
    ensure!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    Ok(())
}

/// Attaches a counter to an end of the wire; it goes when the generator is dropped.
fn count(generator: &mut Generator, side: &Side, counter: Counter) -> Result<()> {
    side.namespace.enter(|| {
        let program = generator.ebpf.program_mut(counter.program()).context("no such counter")?;
        let direction = match counter {
            Counter::Xdp => {
                let program: &mut Xdp = program.try_into()?;
                program.attach(side.interface, XdpMode::Driver)?;
                return Ok(());
            }
            Counter::TcIngress => TcAttachType::Ingress,
            Counter::TcEgress => TcAttachType::Egress,
        };
        let program: &mut SchedClassifier = program.try_into()?;
        let last = TcAttachOptions::TcxOrder(LinkOrder::last());
        program.attach_with_options(side.interface, direction, last)?;
        Ok(())
    })
}

/// What came and left.
fn counted(generator: &Generator, counter: Counter) -> Result<Count> {
    let mut sum = generator.counted(counter)?;
    sum.merge(generator.counted(Counter::TcEgress)?);
    Ok(sum)
}
