//! Programs on every CPU at once, as fast as they can, while another thread drains as fast as it
//! can: no packet is lost or doubled. Needs root.
//!
//! `FLOW_EXACTNESS_PACKETS` sets how many packets (`cargo xtask test --long`: a thousand million).

use std::collections::BTreeMap;

use flow_agent::bench::generator::{Generator, Hook, PACKETS, Plan};
use flow_agent::bench::rig::{self, Rig};
use flow_agent::bench::workload::{Distribution, workload};
use flow_agent::drain::Balance;
use flow_tests::setting;

const FLOWS: u32 = 1 << 16;

#[test]
fn every_packet_of_every_cpu_is_counted_while_draining() {
    let packets = setting("FLOW_EXACTNESS_PACKETS", 50_000_000);
    // What the flow's number overwrites is the end of the source address.
    let plan = Plan { flow_offset: 26, churn: 0x0100_0193, ..Plan::default() };
    let mut generator = Generator::load(plan).unwrap_or_else(|error| panic!("{error}"));
    let flows = workload(Distribution::Zipf, FLOWS, PACKETS as usize, 7);
    generator.set_workload(&flows).unwrap_or_else(|error| panic!("{error}"));
    let Rig { kernel: _kernel, mut drain } = {
        let rig = Rig::new(FLOWS).unwrap_or_else(|error| panic!("{error}"));
        for hook in Hook::ALL {
            let program = rig.program(hook).unwrap_or_else(|error| panic!("{error}"));
            generator.set_target(hook, Some(&program)).unwrap_or_else(|error| panic!("{error}"));
        }
        rig
    };
    let cpus = rig::allowed_cpus().unwrap_or_else(|error| panic!("{error}"));
    let rounds = packets.div_ceil(u64::from(PACKETS) * cpus.len() as u64);
    let sent = rounds * u64::from(PACKETS);

    // A frame for each CPU: its number is in the destination address.
    let send = |cpu: usize| {
        let frame = frame(cpu);
        rig::pin(cpu).unwrap_or_else(|error| panic!("{error}"));
        for round in 0..rounds {
            let hook = if round % 4 == 3 { Hook::Tc } else { Hook::Xdp };
            generator.vary(hook, &frame, PACKETS).unwrap_or_else(|error| panic!("{error}"));
        }
    };
    let mut by_cpu: BTreeMap<[u8; 16], (u64, u64)> = BTreeMap::new();
    let (mut total, mut drains, mut rows) = (Balance::default(), 0, 0);
    std::thread::scope(|scope| {
        let send = &send;
        let senders: Vec<_> = cpus.iter().map(|cpu| scope.spawn(move || send(*cpu))).collect();
        let mut deltas = Vec::new();
        let mut last = false;
        while !last {
            last = senders.iter().all(std::thread::ScopedJoinHandle::is_finished);
            // After the last packet both generations have to be read.
            for _ in 0..=u8::from(last) {
                deltas.clear();
                let sums = rig::drain(&mut drain, &mut deltas)
                    .unwrap_or_else(|error| panic!("drain {drains}: {error}"));
                total.merge(&sums.balance);
                // What was lost has no address.
                for delta in deltas.iter().filter(|delta| delta.key.dst.is_mapped()) {
                    let cpu = by_cpu.entry(delta.key.dst.octets()).or_default();
                    cpu.0 += delta.packets;
                    cpu.1 += delta.octets;
                }
                rows += deltas.len();
                drains += 1;
            }
        }
    });
    let lost: u64 = total.lost.iter().map(|count| count.packets).sum();
    println!(
        "{} packets on {} CPUs, {drains} drains, {rows} rows, {lost} lost",
        sent * cpus.len() as u64,
        cpus.len()
    );
    assert_eq!(total.seen.packets, sent * cpus.len() as u64, "{total:?}");
    assert_eq!(total.metered.packets + lost, total.seen.packets, "{total:?}");
    assert_eq!(total.unaccounted(), (0, 0), "{total:?}");
    assert_eq!(by_cpu.len(), cpus.len(), "{by_cpu:?}");
    // What a CPU's rows lack was lost: nothing when the drain gets its time, for the flows fit.
    let missing: u64 = by_cpu.values().map(|(packets, _)| sent - packets).sum();
    assert_eq!(missing, lost, "{by_cpu:?}");
    assert!(by_cpu.values().all(|(packets, octets)| *octets == packets * 50), "{by_cpu:?}");
    assert!(rows > 2 * FLOWS as usize, "the flows change");
    assert!(drains > 20, "only {drains} drains happened while packets came");
}

/// Ethernet, IPv4 and UDP to 10.1.x.y, where x.y is the CPU.
fn frame(cpu: usize) -> Vec<u8> {
    let [high, low] = (cpu as u16).to_be_bytes();
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 1, high, low]);
    frame.extend([0x9c, 0x40, 0x01, 0xbb, 0, 30, 0, 0]);
    frame.resize(64, 0);
    frame
}
