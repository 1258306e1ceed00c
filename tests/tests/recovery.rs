//! An agent that is killed: the next one stores what it had counted, or says that it is lost.
//! Needs root, a BPF file system at /sys/fs/bpf, the agent's binary and libchdb.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use aya::programs::{TestRun, TestRunOptions};
use flow_agent::attach::{Kernel, PinFolder, TableSize};
use flow_agent::clock::wall_clock;
use flow_agent::drain::{Drain, Leftover};
use flow_common::Lost;
use flow_common::table::{InterfaceEntry, names};
use flow_tests::rig::{self, Rig};
use flow_tests::tally::Tally;
use flow_tests::traffic::{self, Ends};
use rustix::process::Signal;

const AT_ONCE: Duration = Duration::from_secs(10);

/// A folder for the pins of one test, gone with what is in it at the end.
struct Pins(PathBuf);

impl Pins {
    fn new(test: &str) -> Self {
        Self(PathBuf::from(format!("/sys/fs/bpf/flow-test-{}-{test}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("made of a text")
    }

    /// Names of the folders of agents.
    fn folders(&self) -> Vec<String> {
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        fs::read_dir(&self.0).map_or(Vec::new(), |entries| entries.flatten().map(name).collect())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // There is nothing to remove after a test that has passed but the folder.
        drop(fs::remove_dir_all(&self.0));
    }
}

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
    first.signal(Signal::KILL)?;
    first.ended(AT_ONCE)?;
    assert_eq!(pins.folders(), ["0"], "the tables outlive the agent");

    let second = rig.agent_with(("tc", "xdp"), &arguments)?;
    talk(5353)?;
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    let log = second.stop()?;
    rig::exact(&rig.lab, rig.store.url(), &counts)
        .inspect_err(|_| println!("the second agent said:\n{log}"))?;
    assert!(log.contains("packets of an agent that was killed"), "{log}");
    assert_eq!(pins.folders(), Vec::<String>::new(), "nothing is left");
    Ok(())
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
    let size = TableSize {
        cpus: aya::util::nr_cpus().expect("the CPUs are known") as u32,
        sets_per_region: 256,
        interfaces: 16,
        tunnels: false,
    };
    let entry = InterfaceEntry::ethernet(1);
    let dead = |parent: &Path| {
        let mut kernel = Kernel::load(size, 7).unwrap_or_else(|error| panic!("{error}"));
        let folder = PinFolder::create(parent, &kernel).unwrap_or_else(|error| panic!("{error}"));
        kernel.set_interface(1, entry).expect("the map takes it");
        let mut drain = Drain::new(&mut kernel, 1).unwrap_or_else(|error| panic!("{error}"));
        drain.set_name(1, "blue/eth7").unwrap_or_else(|error| panic!("{error}"));
        run(&mut kernel, 30, 53);
        // More flows than there is room for, even if a second CPU takes half of them.
        (0..FLOWS as u16).for_each(|flow| run(&mut kernel, 1, 1_000 + flow));
        assert!(drain.fill_level().evicted >= 1.0, "some were lost for lack of room");
        let _never_read = drain.flip(wall_clock).unwrap_or_else(|error| panic!("{error}"));
        run(&mut kernel, 12, 53);
        drop(folder); // as at the end of a process: unlocked, not removed
    };
    dead(&pins.0);

    let mut kernel = Kernel::load(size, 7).unwrap_or_else(|error| panic!("{error}"));
    let mut drain = Drain::new(&mut kernel, 1).unwrap_or_else(|error| panic!("{error}"));
    let clock = drain.clock(wall_clock).unwrap_or_else(|error| panic!("{error}"));
    for time in ["first", "second"] {
        let folders = PinFolder::abandoned(&pins.0).unwrap_or_else(|error| panic!("{error}"));
        let [folder] = &folders[..] else { panic!("one folder: {folders:?}") };
        let mut leftover = Leftover::open(folder).unwrap_or_else(|error| panic!("{error}"));
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
    for folder in PinFolder::abandoned(&pins.0).unwrap_or_else(|error| panic!("{error}")) {
        folder.remove().unwrap_or_else(|error| panic!("{error}"));
    }
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
