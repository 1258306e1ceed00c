//! Interfaces that come, go and change while the agent runs, in several namespaces:
//! what is stored under each name is what passed there. Needs root, the agent's binary
//! and libchdb.

use std::fmt::Write;
use std::process::{Child, Command};
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use anyhow::{Context, Result};
use flow_agent::attach::{InterfaceSpec, Scan, Selection, Watcher};
use flow_tests::bin_path::flow_agent;
use flow_tests::hooks::attached_on;
use flow_tests::lab::{Lab, Namespace};
use flow_tests::ledger::Ledger;
use flow_tests::pairs::{End, Pair};
use flow_tests::process::Agent;
use flow_tests::rig::Rig;
use flow_tests::sql;
use flow_tests::tally::Count;

/// Until the agent has seen what has changed, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn agent(rig: &Rig, include: &[&str], more: &[&str]) -> Result<Agent> {
    let mut arguments = vec!["--store", rig.store.url()];
    arguments.extend(include.iter().flat_map(|spec| ["--interface", spec]));
    Agent::start(&flow_agent(), &[&arguments, more].concat())
}

/// What is stored for interfaces of exactly this name, in rows and in the ledger.
fn stored(rig: &Rig, interface: &str) -> Result<Count> {
    let rows = sql::rows(
        rig.store.url(),
        &format!(
            "SELECT sum(packets + reverse_packets), sum(bytes + reverse_bytes) \
             FROM flow.flows WHERE interface = '{interface}'"
        ),
    )?;
    let number = |position: usize| rows[0][position].parse::<u64>();
    let count = Count { packets: number(0)?, octets: number(1)? };
    let ledger = Ledger::read(rig.store.url(), interface)?;
    assert_eq!(ledger.unaccounted(), (0, 0), "{interface}: {ledger:?}");
    assert_eq!(ledger.in_flight(), (0, 0), "{interface}: {ledger:?}");
    assert_eq!((ledger.lost.packets, ledger.metered), (0, count), "{interface}: {ledger:?}");
    Ok(count)
}

/// Nothing was counted for an interface that the agent had not configured.
fn none_unknown(rig: &Rig) -> Result<()> {
    assert_eq!(Ledger::read(rig.store.url(), "unknown")?, Ledger::default());
    Ok(())
}

fn nothing_left(ends: &[(&Namespace, &str)]) -> Result<()> {
    for (namespace, interface) in ends {
        assert_eq!(attached_on(namespace, interface)?, Vec::<String>::new(), "{interface}");
    }
    Ok(())
}

fn spaces(lab: &Lab) -> (&Namespace, &Namespace) {
    (&lab.left.namespace, &lab.right.namespace)
}

#[test]
fn one_that_comes_later_goes_and_comes_again() -> Result<()> {
    let rig = Rig::new()?;
    let (here, there) = spaces(&rig.lab);
    let glob = format!("{}/late*", here.name());
    let agent = agent(&rig, &[&glob, &rig.lab.left.spec("tc")], &[])?;
    let log = agent.log();
    assert!(log.contains("there is no interface 'late*'"), "{log}");

    let name = format!("{}/late0", here.name());
    // The same name and the same index, at once: only the attached programs tell.
    let end = End { namespace: here, name: "late0", index: 201 };
    let pair = Pair::new(1, end, End::new(there, "far0"))?;
    agent.wait_times(&format!("metering {name} by TC"), 1, SOON)?;
    let mut sent = pair.send(50)?;
    here.ip("link del late0\n")?;
    let pair = Pair::new(1, end, End::new(there, "far0"))?;
    agent.wait_times(&format!("{name} is gone"), 1, SOON)?;
    agent.wait_times(&format!("metering {name} by TC"), 2, SOON)?;
    sent.add(pair.send(70)?);
    assert_eq!(attached_on(there, "far0")?, Vec::<String>::new(), "it was not asked for");

    agent.stop()?;
    assert_eq!(stored(&rig, &name)?, sent);
    none_unknown(&rig)?;
    nothing_left(&[(here, "late0"), (here, "veth-left")])
}

#[test]
fn one_that_changes_its_name() -> Result<()> {
    let rig = Rig::new()?;
    let (here, there) = spaces(&rig.lab);
    let glob = format!("{}/late*", here.name());
    let pair = Pair::new(1, End::new(here, "late0"), End::new(there, "far0"))?;
    let agent = agent(&rig, &[&glob], &[])?;
    let name = |name: &str| format!("{}/{name}", here.name());

    let first = pair.send(40)?;
    here.ip("link set late0 name late1\n")?;
    agent.wait_log(&format!("{} is now {}", name("late0"), name("late1")), SOON)?;
    let second = pair.send(60)?;
    here.ip("link set late1 name early0\n")?;
    agent.wait_log(&format!("{} is left out", name("late1")), SOON)?;
    wait_detached(&agent, here, "early0")?;
    pair.send(10)?;

    agent.stop()?;
    assert_eq!(stored(&rig, &name("late0"))?, first);
    assert_eq!(stored(&rig, &name("late1"))?, second);
    none_unknown(&rig)?;
    let others = "SELECT count() FROM flow.flows WHERE interface LIKE '%early%'";
    assert_eq!(sql::number(rig.store.url(), others)?, 0);
    Ok(())
}

#[test]
fn one_that_moves_to_another_namespace() -> Result<()> {
    let rig = Rig::new()?;
    let (here, there) = spaces(&rig.lab);
    let glob = format!("{}/late*", here.name());
    let pair = Pair::new(1, End::new(here, "late0"), End::new(there, "far0"))?;
    let agent = agent(&rig, &[&glob], &[])?;
    let sent = pair.send(21)?;
    here.ip(&format!("link set late0 netns {}\n", there.name()))?;
    agent.wait_log(&format!("{}/late0 is ", here.name()), SOON)?;
    wait_detached(&agent, there, "late0")?;
    agent.stop()?;
    assert_eq!(stored(&rig, &format!("{}/late0", here.name()))?, sent);
    none_unknown(&rig)
}

/// What is asked for can change while it is watched.
#[test]
fn another_selection() -> Result<()> {
    let lab = Lab::new()?;
    let (here, there) = spaces(&lab);
    let select = |namespace: &Namespace| -> Result<Selection> {
        let include = vec![format!("{}/*", namespace.name()).parse()?];
        let exclude = vec![InterfaceSpec::exclusion(&format!("{}/lo", namespace.name()))?];
        Ok(Selection { include, exclude, ..Selection::default() })
    };
    let names =
        |scan: &Scan| -> Vec<String> { scan.found.iter().map(ToString::to_string).collect() };
    let mut watcher = Watcher::new(select(here)?)?;
    assert_eq!(names(&watcher.scan()?), [format!("{}/veth-left", here.name())]);
    let mut watch = watcher.watch()?;
    watch.select(select(there)?);
    let scan = watch.wait(SOON).context("it does not look again")?;
    assert_eq!(names(&scan), [format!("{}/veth-right", there.name())]);
    Ok(())
}

fn wait_detached(agent: &Agent, namespace: &Namespace, interface: &str) -> Result<()> {
    let what = format!("nothing is on {interface}");
    agent.wait_until(&what, SOON, || Ok(attached_on(namespace, interface)?.is_empty()))
}

#[test]
fn those_that_are_left_out() -> Result<()> {
    let rig = Rig::new()?;
    let (here, there) = spaces(&rig.lab);
    let pair = Pair::new(1, End::new(here, "aa0"), End::new(there, "far0"))?;
    let glob = format!("{}/*", here.name());
    let (lo, exact) = (format!("{}/lo", here.name()), format!("{}/veth-l?ft", here.name()));
    let more = ["--exclude-interface", &lo, "--exclude-interface", &exact];
    let agent = agent(&rig, &[&glob], &more)?;
    let sent = pair.send(30)?;
    let other = Pair::new(2, End::new(here, "veth-loft"), End::new(there, "far1"))?;
    // A later one that is asked for: when it is metered, the other has been looked at.
    let last = Pair::new(3, End::new(here, "aa1"), End::new(there, "far2"))?;
    agent.wait_log(&format!("metering {}/aa1 ", here.name()), SOON)?;
    other.send(20)?;
    let sent_last = last.send(25)?;
    nothing_left(&[(here, "veth-left"), (here, "veth-loft"), (here, "lo")])?;
    agent.stop()?;
    assert_eq!(stored(&rig, &format!("{}/aa0", here.name()))?, sent);
    assert_eq!(stored(&rig, &format!("{}/aa1", here.name()))?, sent_last);
    let names = "SELECT count(DISTINCT interface) FROM flow.ledger";
    assert_eq!(sql::number(rig.store.url(), names)?, 2);
    Ok(())
}

/// A process in a namespace; killed when it is dropped.
struct Process(Child);

impl Process {
    fn start(namespace: &Namespace) -> Result<Self> {
        // A process begins in the namespace of the thread that starts it.
        let child = namespace
            .enter(|| Command::new("sleep").arg("600").spawn().context("cannot start sleep"))?;
        Ok(Self(child))
    }

    fn end(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended and was waited for.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_namespace_of_a_process() -> Result<()> {
    let rig = Rig::new()?;
    let (here, there) = spaces(&rig.lab);
    let pair = Pair::new(1, End::new(here, "late0"), End::new(there, "far0"))?;
    let mut process = Process::start(here)?;
    let name = |interface: &str| format!("pid:{}/{interface}", process.0.id());
    // The same namespace by its name: metered once, as it was asked for first.
    let (by_pid, by_name) = (name("late0"), format!("{}/late*", here.name()));
    let later = name("later");
    let agent = agent(&rig, &[&by_pid, &by_name, &name("later*")], &[])?;
    let mut sent = pair.send(30)?;
    let second = Pair::new(2, End::new(here, "later"), End::new(there, "far1"))?;
    agent.wait_log("later by TC", SOON)?;
    let sent_later = second.send(15)?;
    process.end()?;
    // Its namespace is metered by its name from now on.
    here.ip("link set lo down\n")?;
    agent.wait_times(&format!("{} is now {}/late0", by_pid, here.name()), 1, SOON)?;
    let after = pair.send(5)?;
    agent.stop()?;
    assert_eq!(stored(&rig, &by_pid)?, sent);
    sent.add(after);
    assert_eq!(stored(&rig, &format!("{}/late0", here.name()))?, after);
    let both =
        stored(&rig, &format!("{}/later", here.name()))?.packets + stored(&rig, &later)?.packets;
    assert_eq!(both, sent_later.packets);
    none_unknown(&rig)?;
    nothing_left(&[(here, "late0"), (here, "later")])
}

#[test]
fn one_index_in_two_namespaces() -> Result<()> {
    let rig = Rig::new()?;
    let (here, there) = spaces(&rig.lab);
    let end = |namespace, name| End { namespace, name, index: 301 };
    let pair = Pair::new(1, end(here, "same0"), end(there, "same1"))?;
    let (first, second) = (format!("{}/same0", here.name()), format!("{}/same1", there.name()));
    let agent =
        agent(&rig, &[&first, &format!("{second}:xdp"), &format!("{}/lo", here.name())], &[])?;
    let sent = pair.send(33)?;
    agent.stop()?;
    assert_eq!(stored(&rig, &first)?, sent);
    assert_eq!(stored(&rig, &second)?, sent);
    let direction = |name: &str| {
        let query = format!("SELECT DISTINCT direction FROM flow.flows WHERE interface = '{name}'");
        sql::text(rig.store.url(), &query)
    };
    assert_eq!(direction(&first)?, "egress\n");
    assert_eq!(direction(&second)?, "ingress\n");
    none_unknown(&rig)?;
    nothing_left(&[(here, "same0"), (there, "same1")])
}

/// The programs are loaded again and again while packets are counted and generations
/// flip as fast as they can.
#[test]
fn more_planes_while_packets_pass() -> Result<()> {
    const SPACES: u8 = 6;
    let rig = Rig::new()?;
    let (here, there) = spaces(&rig.lab);
    let base =
        Pair::new(1, End { namespace: here, name: "same0", index: 301 }, End::new(there, "far0"))?;
    let prefix = format!("flow-{}-plane", std::process::id());
    let (first, glob) = (format!("{}/same0", here.name()), format!("{prefix}*/same*"));
    let agent = agent(&rig, &[&first, &glob], &["--drain-interval", "10"])?;
    let (done, more) = std::sync::mpsc::channel::<()>();
    let (sent, others) = std::thread::scope(|scope| -> Result<_> {
        let base = &base;
        let sending = scope.spawn(move || -> Result<Count> {
            let mut sent = Count::default();
            while !matches!(more.try_recv(), Err(TryRecvError::Disconnected)) {
                sent.add(base.send(500)?);
            }
            Ok(sent)
        });
        let others = loaded(&agent, there, &prefix, SPACES);
        drop(done);
        let sent = sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        Ok((sent, others?))
    })?;
    agent.stop()?;
    assert_eq!(stored(&rig, &first)?, sent);
    for (number, sent) in others.iter().enumerate() {
        assert_eq!(&stored(&rig, &format!("{prefix}{number}/same1"))?, sent, "{number}");
    }
    none_unknown(&rig)
}

/// Makes namespaces with an interface of the same index each, and sends from them.
fn loaded(agent: &Agent, there: &Namespace, prefix: &str, spaces: u8) -> Result<Vec<Count>> {
    let mut sent = Vec::new();
    let mut namespaces = Vec::new();
    for number in 0..spaces {
        let namespace = Namespace::create(&format!("{prefix}{number}"))?;
        let far = format!("other{number}");
        let end = End { namespace: &namespace, name: "same1", index: 301 };
        let pair = Pair::new(10 + number, end, End::new(there, &far))?;
        agent.wait_log(&format!("metering {prefix}{number}/same1 by TC"), SOON)?;
        sent.push(pair.send(u64::from(number) + 5)?);
        namespaces.push(namespace);
    }
    Ok(sent)
}

#[test]
fn a_namespace_that_comes_goes_and_comes_again() -> Result<()> {
    let rig = Rig::new()?;
    let (_, there) = spaces(&rig.lab);
    let space = format!("flow-{}-late", std::process::id());
    let (by_name, by_glob) =
        (format!("{space}/eth*"), format!("{}*/wlan0", &space[..space.len() - 1]));
    let agent = agent(&rig, &[&by_name, &by_glob], &[])?;
    let (mut wired, mut wireless) = (Count::default(), Count::default());
    for times in 1..=2 {
        let namespace = Namespace::create(&space)?;
        let first = Pair::new(1, End::new(&namespace, "eth0"), End::new(there, "far0"))?;
        let second = Pair::new(2, End::new(&namespace, "wlan0"), End::new(there, "far1"))?;
        agent.wait_times(&format!("metering {space}/eth0 by TC"), times, SOON)?;
        agent.wait_times(&format!("metering {space}/wlan0 by TC"), times, SOON)?;
        wired.add(first.send(20)?);
        wireless.add(second.send(10)?);
        // The agent does not keep it alive: its end takes the other end of the wire along.
        drop(namespace);
        agent.wait_until("the namespace has ended", SOON, || {
            Ok(!there.enter(|| Ok(interface_exists("far0")))?)
        })?;
    }
    agent.stop()?;
    assert_eq!(stored(&rig, &format!("{space}/eth0"))?, wired);
    assert_eq!(stored(&rig, &format!("{space}/wlan0"))?, wireless);
    none_unknown(&rig)
}

fn interface_exists(name: &str) -> bool {
    // Sysfs shows the namespace of the process; this asks that of the thread.
    let known = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    known.lines().any(|line| line.trim_start().starts_with(&format!("{name}:")))
}

#[test]
fn those_that_refuse_are_named_and_the_others_metered() -> Result<()> {
    let rig = Rig::new()?;
    let (here, there) = spaces(&rig.lab);
    let pair = Pair::new(1, End::new(here, "late0"), End::new(there, "far0"))?;
    let glob = format!("{}/*:xdp", here.name());
    let agent = agent(&rig, &[&glob], &[])?;
    let log = agent.log();
    let lo = format!("native XDP cannot be attached to {}/lo", here.name());
    assert_eq!(log.matches(&lo).count(), 1, "{log}");
    let sent = pair.send(12)?;
    let log = agent.stop()?;
    assert_eq!(log.matches(&lo).count(), 1, "it is said once: {log}");
    assert_eq!(stored(&rig, &format!("{}/late0", here.name()))?, sent);

    // Named exactly, nothing is metered; each one that refuses is named.
    let lo = |namespace: &Namespace| format!("{}/lo:xdp", namespace.name());
    let (first, second, good) = (lo(here), lo(there), format!("{}/late0", here.name()));
    let mut command = Command::new(flow_agent());
    command.args(["run", "--store", rig.store.url()]);
    command.args(["--interface", &first, "--interface", &second, "--interface", &good]);
    let output = command.output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("flow-agent: 2 interfaces cannot be metered"), "{log}");
    for namespace in [here, there] {
        let line = format!("ERROR native XDP cannot be attached to {}/lo: ", namespace.name());
        assert_eq!(log.matches(&line).count(), 1, "{log}");
    }
    nothing_left(&[(here, "lo"), (there, "lo"), (here, "late0"), (here, "veth-left")])
}

#[test]
fn a_hundred_interfaces() -> Result<()> {
    const PAIRS: u8 = 50;
    let rig = Rig::new()?;
    let (here, there) = spaces(&rig.lab);
    let names: Vec<(String, String)> =
        (0..PAIRS).map(|number| (format!("many{number}"), format!("far{number}"))).collect();
    let mut pairs = Vec::new();
    for (number, (near, far)) in (0..).zip(&names) {
        pairs.push(Pair::new(number, End::new(here, near), End::new(there, far))?);
    }
    let (near, far) = (format!("{}/many*", here.name()), format!("{}/far*", there.name()));
    let expedited = || std::fs::read_to_string("/sys/kernel/rcu_expedited");
    let before = expedited()?;
    let agent = agent(&rig, &[&near, &far], &[])?;
    assert_eq!(expedited()?, before, "it is the host's again");
    // Another number for each, so that one is not taken for another.
    let sent: Vec<Count> =
        (1..).zip(&pairs).map(|(n, pair)| pair.send(n)).collect::<Result<_>>()?;
    let log = agent.stop()?;
    assert_eq!(expedited()?, before);
    assert!(log.contains("metering 100 interfaces"), "{log}");
    let mut expected = String::new();
    for ((near, far), count) in names.iter().zip(&sent) {
        for name in [format!("{}/{near}", here.name()), format!("{}/{far}", there.name())] {
            writeln!(expected, "{name}\t{}\t{}", count.packets, count.octets)?;
        }
    }
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let rows = "SELECT interface, sum(packets), sum(bytes) FROM flow.flows GROUP BY interface";
    assert_eq!(sorted(&sql::text(rig.store.url(), rows)?), sorted(&expected));
    let books = "SELECT interface, sum(packets), sum(octets) FROM flow.ledger \
                 WHERE stage = 'acknowledged' GROUP BY interface";
    assert_eq!(sorted(&sql::text(rig.store.url(), books)?), sorted(&expected));
    none_unknown(&rig)?;
    for (near, far) in &names {
        nothing_left(&[(here, near), (there, far)])?;
    }
    Ok(())
}
