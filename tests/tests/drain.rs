//! The kernel side alone: what is drained from the tables while traffic runs is what
//! was on the wire, flow by flow. Needs root.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use flow_agent::attach::{Hooks, Interface, Kernel, Numbers, Scanner, Selection, TableSize};
use flow_agent::delta::Delta;
use flow_agent::drain::{Balance, Drain};
use flow_agent::names::{NameBook, Names};
use flow_tests::lab::Lab;
use flow_tests::rows;
use flow_tests::tally::{Count, Flows, Key, Tally};
use flow_tests::traffic;

const EVERY: Duration = Duration::from_millis(50);

#[test]
fn native_xdp_and_tc_are_exact() -> Result<()> {
    exact("xdp", "tc")
}

#[test]
fn tc_is_exact_with_super_packets() -> Result<()> {
    exact("tc", "tc")
}

fn exact(left: &str, right: &str) -> Result<()> {
    let lab = Lab::new()?;
    let include = vec![lab.left.spec(left).parse()?, lab.right.spec(right).parse()?];
    let selection = Selection { include, ..Selection::default() };
    let interfaces = Scanner::new(selection).scan()?.found;
    let cpus = thread::available_parallelism()?.get() as u32;
    let mut kernel = Kernel::load(
        TableSize { cpus, sets_per_region: 1 << 12, interfaces: 256, tunnels: false },
        7,
    )?;
    let mut drain = Drain::new(&mut kernel, interfaces.len())?;
    let names = NameBook::new(Names::new("host", &[""; 0]));
    let mut hooks = Hooks::new(kernel, Numbers::new(255, Duration::ZERO, names));
    hooks.want(interfaces.clone(), Instant::now());
    step(&mut hooks);
    hooks.started()?;
    let number = |interface: &Interface| hooks.number(interface.place).map(usize::from);
    let numbers: Vec<_> = interfaces.iter().filter_map(number).collect();
    assert_eq!(numbers.len(), interfaces.len(), "each is metered");
    let tallies = [Tally::start(&lab.left)?, Tally::start(&lab.right)?];

    let mut deltas = Vec::new();
    let mut balances = vec![Balance::default(); interfaces.len() + 1];
    let mut add = |drained: Vec<Balance>| {
        balances.iter_mut().zip(&drained).for_each(|(sum, balance)| sum.merge(balance));
    };
    // Generations are flipped and read while the programs write.
    thread::scope(|scope| {
        let (done, traffic_ends) = mpsc::channel();
        let lab = &lab;
        scope.spawn(move || done.send(traffic::mixed(lab)));
        loop {
            add(drain.drain(|| 0, &mut deltas)?.balances);
            match traffic_ends.recv_timeout(EVERY) {
                Ok(sent) => return sent.map(|_| ()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("no traffic")),
            }
        }
    })?;
    let wire = tallies.map(Tally::stop);
    hooks.want_none();
    step(&mut hooks);
    add(drain.drain(|| 0, &mut deltas)?.balances);

    for (side, counts) in [&lab.left, &lab.right].into_iter().zip(wire) {
        let counts = counts?;
        let position = interfaces.iter().position(|found| found.name == side.interface);
        let number = position.map_or(0, |position| numbers[position]);
        let different = rows::differences(&counts.by_key(), &flows(&deltas, number));
        ensure!(different.is_empty(), "{}: {}", side.interface, different.join("\n"));
        let balance = balances[number];
        assert_eq!(balance.unaccounted(), (0, 0), "{}", side.interface);
        let seen = Count { packets: balance.seen.packets, octets: balance.seen.octets };
        assert_eq!(seen, counts.total, "{}", side.interface);
    }
    Ok(())
}

/// Attaches and detaches until there is nothing left to do.
fn step(hooks: &mut Hooks) {
    while hooks.is_busy() {
        hooks.step(Instant::now());
    }
}

/// The deltas of one interface in the tally's terms.
fn flows(deltas: &[Delta], number: usize) -> Flows {
    let address = |octets| IpAddr::V6(Ipv6Addr::from_octets(octets)).to_canonical();
    let mut flows = Flows::new();
    for delta in deltas.iter().filter(|delta| usize::from(delta.key.interface) == number) {
        let key = delta.key;
        // The kernel keeps ICMP's type and code in the place of a port.
        let ports = if key.is_icmp() { (0, 0) } else { (key.src_port, key.dst_port) };
        let key = Key {
            source: address(key.src.octets()),
            destination: address(key.dst.octets()),
            protocol: key.protocol,
            source_port: ports.0,
            destination_port: ports.1,
        };
        let count = Count { packets: delta.packets, octets: delta.octets };
        flows.entry(key).or_default().add(count);
    }
    flows
}
