//! An agent that is killed: the next one stores what it had counted, or says that it is lost.
//! Needs root, a BPF file system at /sys/fs/bpf, the agent's binary and libchdb.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use aya::maps::{Array, Map, MapData};
use aya::programs::tc::{self, NlOptions, TcAttachOptions, TcAttachType};
use aya::programs::{TestRun, TestRunOptions};
use flow_agent::attach::{Kernel, PinFolder, Selection, TableSize, Watcher};
use flow_agent::clock::wall_clock;
use flow_agent::drain::{Drain, Leftover};
use flow_common::Lost;
use flow_common::table::{GenerationState, InterfaceEntry, Journal, names};
use flow_tests::faults::{self, Outcome};
use flow_tests::lab::Lab;
use flow_tests::ledger::Ledger;
use flow_tests::pins::Pins;
use flow_tests::rig::{self, Rig};
use flow_tests::sql;
use flow_tests::tally::Tally;
use flow_tests::traffic::{self, Ends};

/// The interval is so long that the first agent never drains: all is in the kernel's
/// tables when it is killed. The second agent takes it over, beside what it meters.
#[test]
fn the_next_agent_stores_what_a_killed_one_had_counted() -> Result<()> {
    let pins = Pins::new("killed");
    let rig = Rig::new()?;
    let arguments = ["--pin-dir", pins.path(), "--drain-interval", "60000"];
    let tallies = (Tally::start(&rig.lab.left)?, Tally::start(&rig.lab.right)?);
    let talk = |port| {
        traffic::ask(Ends::v4((&rig.lab.left, 0), (&rig.lab.right, 0), port), 50, 3, 40, 200)
    };

    let first = rig.agent_with(("tc", "xdp"), &arguments)?;
    talk(53)?;
    rig.lab.wait_quiet()?;
    assert_eq!(pins.folders(), ["0"]);
    first.kill()?;
    assert_eq!(pins.folders(), ["0"], "the tables outlive the agent");

    let second = rig.agent_with(("tc", "xdp"), &arguments)?;
    talk(5353)?;
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    let log = second.stop()?;
    rig::exact(&rig.lab, rig.store.url(), &counts)
        .inspect_err(|_| println!("the second agent said:\n{log}"))?;
    assert!(log.contains("packets of an agent that was killed"), "{log}");
    assert_eq!(pins.folders(), Vec::<String>::new(), "nothing is left");
    let sent = counts.0.total.packets + counts.1.total.packets;
    let outcome = Outcome::compare(rig.store.url(), sent)?;
    let proof = "the log of the next agent: packets of an agent that was killed";
    faults::record("agent_killed_with_full_tables", proof, outcome)
}

/// The kernel's number of an interface.
fn index_of(spec: &str) -> Result<u32> {
    let selection = Selection { include: vec![spec.parse()?], ..Selection::default() };
    let scan = Watcher::new(selection)?.scan()?;
    Ok(scan.found.first().context("it is there")?.place.ifindex)
}

/// Small tables.
fn size() -> TableSize {
    TableSize {
        cpus: aya::util::nr_cpus().expect("the CPUs are known") as u32,
        sets_per_region: 256,
        interfaces: 16,
        tunnels: false,
    }
}

/// Two agents at a time have a folder each, and do not take each other's tables.
#[test]
fn a_living_agent_keeps_its_tables() -> Result<()> {
    let pins = Pins::new("living");
    let rig = Rig::new()?;
    let start = |side: &flow_tests::lab::Side| {
        let spec = side.spec("tc");
        let arguments = ["--interface", &spec, "--store", rig.store.url()];
        let more = ["--pin-dir", pins.path(), "--drain-interval", "60000"];
        let all = [&arguments[..], &more].concat();
        flow_tests::process::Agent::start(&flow_tests::bin_path::flow_agent(), &all)
    };
    let left = start(&rig.lab.left)?;
    let counts = rig::tally(&rig.lab, |lab| {
        let sent = traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 20, 3, 40, 200)?;
        lab.wait_quiet()?;
        Ok(sent)
    })?;
    let right = start(&rig.lab.right)?;
    let mut folders = pins.folders();
    folders.sort();
    assert_eq!(folders, ["0", "1"]);
    let log = right.stop()?;
    assert!(!log.contains("that was killed"), "{log}");
    assert_eq!(pins.folders(), ["0"]);
    left.stop()?;
    assert_eq!(pins.folders(), Vec::<String>::new());
    rig::exact_at(rig.store.url(), rig.lab.left.interface, &counts.0)
}

/// Killed between the flip and the end of the drain: some may have gone on, so the
/// whole generation is lost, to the packet; the other one is taken over.
#[test]
fn what_was_being_drained_is_lost_by_name() {
    const FLOWS: u64 = 6_000;
    let pins = Pins::new("draining");
    let size = size();
    let (mut kernel, mut drain, folder) = dead(pins.folder());
    run(&mut kernel, 30, 53);
    // More flows than there is room for, even if a second CPU takes half of them.
    (0..FLOWS as u16).for_each(|flow| run(&mut kernel, 1, 1_000 + flow));
    assert!(drain.fill_level().evicted >= 1.0, "some were lost for lack of room");
    let _never_read = drain.flip(wall_clock).unwrap_or_else(|error| panic!("{error}"));
    run(&mut kernel, 12, 53);
    drop((kernel, drain, folder)); // as at the end of a process: unlocked, not removed

    let mut kernel = Kernel::load(size, 7).unwrap_or_else(|error| panic!("{error}"));
    let mut drain = Drain::new(&mut kernel, 1).unwrap_or_else(|error| panic!("{error}"));
    let clock = drain.clock(wall_clock).unwrap_or_else(|error| panic!("{error}"));
    for time in ["first", "second"] {
        let folders = PinFolder::abandoned(pins.folder()).unwrap_or_else(|error| panic!("{error}"));
        let [folder] = &folders[..] else { panic!("one folder: {folders:?}") };
        let mut leftover = Leftover::open(folder, &[]).unwrap_or_else(|error| panic!("{error}"));
        let mut packets = 0;
        let books = leftover
            .read(&clock, |flow, _| packets += u64::from(flow.hot.packets))
            .unwrap_or_else(|error| panic!("{error}"));
        if time == "first" {
            let [(name, balance)] = &books[..] else { panic!("one interface: {books:?}") };
            assert_eq!((name.as_str(), packets), ("blue/eth7", 12));
            assert_eq!(balance.seen.packets, FLOWS + 42);
            assert_eq!(balance.metered.packets, 12);
            assert_eq!(balance.lost[Lost::Crash as usize].packets, FLOWS + 30);
            // No overflow rows went on, so none may be expected in the store.
            assert_eq!(balance.lost[Lost::RingFull as usize].packets, 0);
            assert_eq!(balance.unaccounted(), (0, 0));
        } else {
            // An agent that is killed while it takes over has perhaps stored them.
            assert_eq!(packets, 0, "nothing is taken twice");
        }
    }
    for folder in PinFolder::abandoned(pins.folder()).unwrap_or_else(|error| panic!("{error}")) {
        folder.remove().unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Neither a store that is away nor a table that cannot be pinned leaves memory behind.
#[test]
fn a_start_that_fails_leaves_no_tables() -> Result<()> {
    const STORE: i32 = 4;
    let pins = Pins::new("failed");
    let lab = Lab::new()?;
    let mut command = Command::new(flow_tests::bin_path::flow_agent());
    command.args(["run", "--interface", &lab.left.spec("tc"), "--pin-dir", pins.path()]);
    let away = ["--store", "http://127.0.0.1:1", "--spool-dir", ""];
    let output = command.args(away).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(STORE), "{errors}");
    assert!(pins.folder().is_dir(), "it did pin its tables: {errors}");
    assert_eq!(pins.folders(), Vec::<String>::new());

    let mut kernel = Kernel::load(size(), 7)?;
    kernel.ebpf.take_map(names::NAMES).context("it is there")?;
    let refused = PinFolder::create(pins.folder(), &kernel).expect_err("a table is missing");
    assert!(refused.to_string().contains(names::NAMES), "{refused}");
    assert_eq!(pins.folders(), Vec::<String>::new());
    Ok(())
}

/// Before Linux 6.6 the filters of a killed agent stay: they are detached where the next
/// agent meters, and what they had counted is stored. Elsewhere the tables are not touched.
#[test]
fn filters_that_a_killed_agent_left_are_detached_first() -> Result<()> {
    let pins = Pins::new("filters");
    let rig = Rig::new()?;
    let side = &rig.lab.left;
    let mut kernel = Kernel::load(size(), 7)?;
    let mut folder = PinFolder::create(pins.folder(), &kernel)?;
    folder.keep();
    let name = format!("{}/{}", side.namespace.name(), side.interface);
    kernel.set_name(1, &name)?;
    let drain = Drain::new(&mut kernel, 1)?;
    side.namespace.enter(|| {
        let entry = InterfaceEntry::ethernet(1);
        kernel.set_interface(index_of(&side.spec("tc"))?, entry)?;
        tc::qdisc_add_clsact(side.interface)?;
        let program = kernel.classifier(names::TC_INGRESS)?;
        let options = TcAttachOptions::Netlink(NlOptions::default());
        let link = program.attach_with_options(side.interface, TcAttachType::Ingress, options)?;
        // As in a process that is killed.
        std::mem::forget(program.take_link(link)?);
        Ok(())
    })?;
    drop((kernel, drain, folder));
    let talk =
        || traffic::ask(Ends::v4((&rig.lab.left, 0), (&rig.lab.right, 0), 53), 20, 3, 40, 200);
    talk()?;
    rig.lab.wait_quiet()?;

    let start = |side: &flow_tests::lab::Side| {
        let arguments = ["--interface", &side.spec("tc"), "--store", rig.store.url()];
        let all = [&arguments[..], &["--pin-dir", pins.path()]].concat();
        flow_tests::process::Agent::start(&flow_tests::bin_path::flow_agent(), &all)
    };
    let log = start(&rig.lab.right)?.stop()?;
    assert!(log.contains("still count in them"), "{log}");
    assert_eq!(pins.folders(), ["0"], "as they were");

    let log = start(side)?.stop()?;
    assert!(log.contains("a filter of a killed agent removed"), "{log}");
    assert!(log.contains("packets of an agent that was killed"), "{log}");
    assert_eq!(pins.folders(), Vec::<String>::new());
    let ledger = Ledger::read(rig.store.url(), &name)?;
    assert!(ledger.metered.packets >= 60, "{ledger:?}");
    assert_eq!((ledger.unaccounted(), ledger.in_flight()), ((0, 0), (0, 0)), "{ledger:?}");
    Ok(())
}

/// What an agent has that is to be killed: its interface 1 has the index 1.
fn dead(parent: &Path) -> (Kernel, Drain, PinFolder) {
    let mut kernel = Kernel::load(size(), 7).unwrap_or_else(|error| panic!("{error}"));
    let mut folder = PinFolder::create(parent, &kernel).unwrap_or_else(|error| panic!("{error}"));
    folder.keep();
    kernel.set_name(1, "blue/eth7").expect("the map takes it");
    let entry = InterfaceEntry::ethernet(1);
    kernel.set_interface(1, entry).expect("the map takes it");
    let drain = Drain::new(&mut kernel, 1).unwrap_or_else(|error| panic!("{error}"));
    (kernel, drain, folder)
}

/// Killed while the sampling changes, between the flip and the end of the grace period:
/// both generations are taken over, each with its own weight.
#[test]
fn each_generation_keeps_its_sampling_weight() -> Result<()> {
    let pins = Pins::new("weights");
    let rig = Rig::new()?;
    let (mut kernel, mut drain, folder) = dead(pins.folder());
    run(&mut kernel, 30, 53);
    let _never_read = drain.flip(wall_clock)?;
    run(&mut kernel, 12, 5353);
    let map = Map::from_map_data(MapData::from_pin(folder.table(names::JOURNAL))?)?;
    let mut map: Array<MapData, [u32; 10]> = map.try_into()?;
    let mut journal: Journal = bytemuck::cast(map.get(&0, 0)?);
    journal.states = [GenerationState::Filling as u32; 2];
    journal.sampling = [1, 10];
    map.set(0, bytemuck::cast::<_, [u32; 10]>(journal), 0)?;
    drop((kernel, drain, folder));
    // Killed before it had pinned anything.
    fs::create_dir(pins.folder().join("7"))?;

    let agent = rig.agent_with(("tc", "tc"), &["--pin-dir", pins.path()])?;
    let log = agent.stop()?;
    assert!(log.contains("42 packets of an agent that was killed"), "{log}");
    let rows = "SELECT interface, dst_port, sampling, sum(packets) FROM flow.flows \
                GROUP BY ALL ORDER BY dst_port";
    let rows = sql::text(rig.store.url(), rows)?;
    assert_eq!(rows, "blue/eth7\t53\t1\t30\nblue/eth7\t5353\t10\t12\n", "{log}");
    assert_eq!(pins.folders(), Vec::<String>::new());
    Ok(())
}

/// Sends a datagram to this port so many times through the XDP program.
fn run(kernel: &mut Kernel, packets: u32, port: u16) {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(4000, port)
        .write(&mut frame, &[0; 100])
        .expect("valid");
    let options =
        TestRunOptions { data_in: Some(&frame), repeat: packets, ..TestRunOptions::default() };
    let program = kernel.ebpf.program(names::XDP_INGRESS).expect("in the object");
    let program: &aya::programs::Xdp = program.try_into().expect("an XDP program");
    program.test_run(options).expect("runs");
}
