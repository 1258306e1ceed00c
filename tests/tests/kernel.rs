//! The eBPF programs in the running kernel, driven by test runs. Needs root.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use etherparse::PacketBuilder;
use flow_agent::attach::{Kernel, TableSize};
use flow_agent::delta::Delta;
use flow_agent::drain::{Balance, Drain};
use flow_common::table::{InterfaceEntry, WAYS, names};
use flow_common::{Count, Lost, NotMetered};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Test runs say that packets come from `lo`.
const TEST_RUN_IFINDEX: u32 = 1;

struct Bench {
    kernel: Kernel,
    drain: Drain,
}

impl Bench {
    /// Programs and tables; `lo` is interface 1, as an Ethernet that is metered in both directions.
    fn new(sets_per_region: u32) -> Self {
        let cpus = aya::util::nr_cpus().expect("the CPUs are known") as u32;
        Self::with_cpus(cpus, sets_per_region)
    }

    fn with_cpus(cpus: u32, sets_per_region: u32) -> Self {
        let size = TableSize { cpus, sets_per_region, interfaces: 16, tunnels: false };
        let mut kernel = Kernel::load(size, 7).unwrap_or_else(|error| panic!("{error}"));
        let entry = InterfaceEntry::ethernet(1);
        kernel.set_interface(TEST_RUN_IFINDEX, entry).expect("the map takes it");
        let drain = Drain::new(&mut kernel, 1).unwrap_or_else(|error| panic!("{error}"));
        Self { kernel, drain }
    }

    fn xdp(&mut self, frame: &[u8]) {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        let result = self.kernel.xdp().expect("loaded").test_run(options).expect("runs");
        assert_eq!(result.return_value, 2, "XDP_PASS");
    }

    fn tc(&mut self, program: &str, frame: &[u8]) {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        let program = self.kernel.classifier(program).expect("loaded");
        let result = program.test_run(options).expect("runs");
        assert_eq!(result.return_value.cast_signed(), -1, "TCX_NEXT, which is TC_ACT_UNSPEC");
    }

    fn drain(&mut self) -> (Vec<Delta>, Vec<Balance>) {
        let mut deltas = Vec::new();
        let balances = self
            .drain
            .drain(flow_agent::clock::wall_clock, &mut deltas)
            .unwrap_or_else(|error| panic!("{error}"))
            .balances;
        for balance in &balances {
            assert_eq!(balance.unaccounted(), (0, 0), "{balance:?}");
        }
        (deltas, balances)
    }
}

fn udp(src_port: u16, dst_port: u16, payload: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(src_port, dst_port)
        .write(&mut frame, &vec![0; payload])
        .expect("valid");
    frame
}

#[test]
fn every_program_loads_within_the_verifiers_limit() {
    let bench = Bench::new(256);
    let mut programs = 0;
    // The clock's is loaded by itself: the drain has it.
    let attached = |name: &str| name != names::READ_CLOCK;
    for (name, program) in bench.kernel.ebpf.programs().filter(|(name, _)| attached(name)) {
        let info = program.info().expect("loaded");
        let verified = info.verified_instruction_count().expect("5.16 or later");
        println!("{name}: {verified} instructions verified");
        assert!(verified < 900_000, "{name} is near the verifier's limit of a million");
        programs += 1;
    }
    assert_eq!(programs, 3);
    // Constants outside .rodata are relocated wrongly by aya: a pointer to one reads garbage.
    let stray = bench.kernel.ebpf.maps().find(|(name, _)| name.starts_with(".rodata."));
    assert!(stray.is_none(), "constants in {:?}", stray.map(|(name, _)| name));
}

#[test]
fn every_hook_meters_and_passes() {
    let mut bench = Bench::new(256);
    let frame = udp(4000, 53, 100);
    bench.xdp(&frame);
    bench.xdp(&frame);
    bench.tc(names::TC_INGRESS, &frame);
    bench.tc(names::TC_EGRESS, &frame);
    let (mut deltas, balances) = bench.drain();
    deltas.sort_by_key(|delta| delta.key.direction);
    let counts: Vec<_> = deltas.iter().map(|d| (d.key.direction, d.packets, d.octets)).collect();
    assert_eq!(counts, [(1, 3, 3 * 128), (2, 1, 128)]);
    assert_eq!(balances[1].seen.packets, 4);
    let (deltas, balances) = bench.drain();
    assert!(deltas.is_empty() && balances.iter().all(|b| *b == Balance::default()));
}

#[test]
fn what_is_not_metered_is_counted_by_reason() {
    let mut bench = Bench::new(256);
    let mut arp = vec![0xff; 60];
    arp[12..14].copy_from_slice(&0x0806u16.to_be_bytes());
    let mut lldp = arp.clone();
    lldp[12..14].copy_from_slice(&0x88ccu16.to_be_bytes());
    let mut other = arp.clone();
    other[12..14].copy_from_slice(&0x1234u16.to_be_bytes());
    let mut malformed = udp(1, 2, 40);
    malformed[14] = 0x44;
    let truncated = &udp(1, 2, 40)[..20];
    let mut labels = vec![0; 60];
    labels[12..14].copy_from_slice(&0x8847u16.to_be_bytes());
    for frame in [&arp, &lldp, &other, &malformed, &labels] {
        bench.xdp(frame);
        bench.tc(names::TC_EGRESS, frame);
    }
    // A TC test run refuses so short a frame.
    bench.xdp(truncated);
    bench.xdp(truncated);
    let (deltas, balances) = bench.drain();
    assert!(deltas.is_empty());
    let by_rule = [NotMetered::Filtered, NotMetered::NotSampled, NotMetered::OwnTraffic];
    for reason in NotMetered::ALL.iter().filter(|reason| !by_rule.contains(reason)) {
        let count = balances[1].not_metered[*reason as usize].packets;
        assert_eq!(count, 2, "{}", reason.label());
    }
}

#[test]
fn an_unknown_interface_is_counted_as_lost() {
    let mut bench = Bench::new(256);
    bench.kernel.set_interface(TEST_RUN_IFINDEX, InterfaceEntry::default()).expect("taken");
    bench.xdp(&udp(1, 2, 3));
    let (deltas, balances) = bench.drain();
    assert!(deltas.is_empty());
    assert_eq!(balances[0].lost[Lost::NoInterface as usize].packets, 1);
}

/// Tables for CPU 0 alone: what comes on another one is counted, and named.
#[test]
fn a_packet_on_a_cpu_without_tables_is_counted_as_lost() {
    let mut bench = Bench::with_cpus(1, 256);
    let before = sched_getaffinity(None).expect("the affinity is known");
    let other = (1..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu));
    let other = other.expect("this test needs a second CPU");
    let mut only = CpuSet::new();
    only.set(other);
    sched_setaffinity(None, &only).expect("the CPU is allowed");
    bench.xdp(&udp(1, 2, 3));
    sched_setaffinity(None, &before).expect("the CPUs are allowed");
    let (deltas, balances) = bench.drain();
    assert!(deltas.is_empty());
    assert_eq!(balances[1].seen.packets, 1);
    assert_eq!(balances[1].lost[Lost::NoRegion as usize].packets, 1);
}

#[test]
fn fragments_join_their_first_in_the_kernel() {
    let mut bench = Bench::new(256);
    let mut first = udp(4000, 53, 64);
    first[18..20].copy_from_slice(&77u16.to_be_bytes());
    first[20] = 0x20;
    let mut later = first.clone();
    (later[20], later[21]) = (0, 9);
    let mut orphan = later.clone();
    orphan[19] = 78;
    bench.xdp(&first);
    bench.xdp(&later);
    bench.tc(names::TC_INGRESS, &later);
    bench.xdp(&orphan);
    let (deltas, balances) = bench.drain();
    let by_port: BTreeMap<u16, u64> =
        deltas.iter().map(|delta| (delta.key.dst_port, delta.packets)).collect();
    assert_eq!(by_port, BTreeMap::from([(0, 1), (53, 3)]));
    assert_eq!(balances[1].fragments_without_ports, 1);
}

/// Far more flows than places: what leaves a set goes on the list of evicted flows,
/// and when that is full it is counted as lost, in rows without addresses as well. No
/// packet is ever unexplained.
#[test]
fn an_overflowing_table_stays_exact() {
    const SETS: u32 = 256;
    let mut bench = Bench::new(SETS);
    let places = SETS * WAYS as u32;
    // The list has a place for each set.
    let flows = places + 4 * SETS;
    let mut sums: BTreeMap<(u16, u16), (u64, u64)> = BTreeMap::new();
    let mut lost = Count::default();
    for flow in 0..flows {
        bench.xdp(&udp(flow as u16, (flow >> 16) as u16 + 1000, 10));
    }
    for _ in 0..2 {
        let (deltas, balances) = bench.drain();
        for delta in deltas {
            let sum = sums.entry((delta.key.src_port, delta.key.dst_port)).or_default();
            sum.0 += delta.packets;
            sum.1 += delta.octets;
        }
        lost.merge(balances[1].lost[Lost::RingFull as usize]);
    }
    let overflow = sums.remove(&(0, 0)).expect("the list holds fewer than that");
    assert_eq!(overflow, (lost.packets, lost.octets));
    assert!(sums.values().all(|sum| *sum == (1, 38)), "each of the other flows is whole");
    assert_eq!(sums.len() as u64 + lost.packets, u64::from(flows));
    assert!(sums.len() as u32 > places, "the list carried some");
}

/// Programs run on two CPUs while the tables are drained as fast as possible. When the drain is
/// held up, sets become full and flows are evicted: these too are whole.
#[test]
fn draining_under_load_loses_and_doubles_nothing() {
    const RUNS: u16 = 2000;
    const REPEAT: u32 = 200;
    const DRAINS: u32 = 10;
    const MOST_ROUNDS: u32 = 200;
    let Bench { kernel, mut drain } = Bench::new(1024);
    let drains = AtomicU32::new(0);
    // Sends rounds of all flows until enough drains have seen packets come; says how many. By TC:
    // repeated test runs of XDP programs wait for the kernel at each beginning and end.
    let send = |sender: u16| {
        let program = kernel.ebpf.program(names::TC_INGRESS).expect("in the object");
        let program: &SchedClassifier = program.try_into().expect("a TC program");
        let mut rounds = 0;
        while rounds == 0 || rounds < MOST_ROUNDS && drains.load(Relaxed) < DRAINS {
            for run in 0..RUNS {
                let frame = udp(run, 1000 + sender, 10);
                let options = TestRunOptions {
                    data_in: Some(&frame),
                    repeat: REPEAT,
                    ..TestRunOptions::default()
                };
                program.test_run(options).expect("runs");
            }
            rounds += 1;
        }
        rounds
    };
    let mut metered: BTreeMap<(u16, u16), u64> = BTreeMap::new();
    let rounds = std::thread::scope(|scope| {
        let senders = [scope.spawn(|| send(0)), scope.spawn(|| send(1))];
        let mut last = false;
        while !last {
            last = senders.iter().all(std::thread::ScopedJoinHandle::is_finished);
            // After the last packet both generations have to be read.
            for _ in 0..=u8::from(last) {
                let mut deltas = Vec::new();
                let drained = drain
                    .drain(flow_agent::clock::wall_clock, &mut deltas)
                    .unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(drained.balances[1].unaccounted(), (0, 0));
                assert_eq!(drained.balances[1].lost, Balance::default().lost);
                for delta in deltas {
                    let flow = (delta.key.src_port, delta.key.dst_port);
                    *metered.entry(flow).or_default() += delta.packets;
                }
                drains.fetch_add(1, Relaxed);
            }
        }
        senders.map(|sender| sender.join().expect("sends"))
    });
    assert_eq!(metered.len(), 2 * usize::from(RUNS));
    for ((run, port), packets) in metered {
        let sent = rounds[usize::from(port - 1000)] * REPEAT;
        assert_eq!(packets, u64::from(sent), "of {run} to {port}");
    }
    let drains = drains.into_inner();
    assert!(drains >= DRAINS, "only {drains} drains happened while packets came");
}
