//! Interfaces that come, go and change while the agent runs: what is stored under each name is what passed there. Needs root, the agent's binary
//! and libchdb.

use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flow_agent::attach::{
    Hooks, InterfaceSpec, Kernel, Numbers, Scan, Selection, TableSize, Watcher,
};
use flow_agent::names::{NameBook, Names};
use flow_tests::bin_path::flow_agent;
use flow_tests::faults::{self, Outcome};
use flow_tests::hooks::attached_on;
use flow_tests::lab::{Lab, Namespace};
use flow_tests::pairs::{End, Pair};
use flow_tests::process::Agent;
use flow_tests::rig::Rig;
use flow_tests::sql;
use flow_tests::tally::Count;
use flow_tests::watched::{SOON, agent, none_unknown, nothing_left, spaces, stored};

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
    nothing_left(&[(here, "late0"), (here, "veth-left")])?;
    recorded("interface_removed_and_made_again", "the agent's log: is gone, metering", &rig, sent)
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
    let sent = Count { packets: first.packets + second.packets, ..first };
    recorded("interface_renamed", "the agent's log: is now, is left out", &rig, sent)
}

/// Records a fault of interfaces: what is stored of all of them is compared with what was sent.
fn recorded(name: &str, proof: &str, rig: &Rig, sent: Count) -> Result<()> {
    faults::record(name, proof, Outcome::compare(rig.store.url(), sent.packets)?)
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
    none_unknown(&rig)?;
    recorded("interface_moved", "its programs are gone in the new namespace", &rig, sent)
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
    // A veth has the feature.
    let tags = format!("{}/late0: its driver may take VLAN tags out", here.name());
    assert_eq!(log.matches(&tags).count(), 1, "{log}");
    let sent = pair.send(12)?;
    let log = agent.stop()?;
    assert_eq!(log.matches(&lo).count(), 1, "it is said once: {log}");
    assert_eq!(stored(&rig, &format!("{}/late0", here.name()))?, sent);

    // Named exactly, nothing is metered; each one that refuses is named.
    let lo = |namespace: &Namespace| format!("{}/lo:xdp", namespace.name());
    let (first, second, good) = (lo(here), lo(there), format!("{}/late0", here.name()));
    let mut command = Command::new(flow_agent());
    command.args(["run", "--state-file", "", "--store", rig.store.url()]);
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

/// However often it is asked again.
#[test]
fn one_that_refuses_takes_one_number() -> Result<()> {
    let lab = Lab::new()?;
    let found = |specs: &[String]| -> Result<_> {
        let include = specs.iter().map(|spec| spec.parse()).collect::<Result<_, _>>()?;
        Ok(Watcher::new(Selection { include, ..Selection::default() })?.scan()?.found)
    };
    let (bad, good) = (format!("{}/lo:xdp", lab.left.namespace.name()), lab.left.spec("tc"));
    let size =
        TableSize::for_budget(aya::util::nr_cpus().expect("known") as u32, 16, false, 64 << 20)?;
    let names = NameBook::new(Names::new("host", &[""; 0]));
    let day = Duration::from_hours(24);
    let mut hooks = Hooks::new(Kernel::load(size, 7)?, Numbers::new(2, 100 * day, names));
    let mut now = Instant::now();
    for _ in 0..5 {
        now += day;
        hooks.want(found(std::slice::from_ref(&bad))?, now);
        assert!(hooks.is_busy(), "it is asked again");
        hooks.step(now);
        assert_eq!((hooks.is_busy(), hooks.metered()), (false, 0));
    }
    hooks.want(found(&[bad, good])?, now);
    hooks.step(now);
    assert_eq!((hooks.is_busy(), hooks.metered()), (false, 1), "there is a number left");
    Ok(())
}

#[test]
fn a_hundred_interfaces() -> Result<()> {
    let usual: u16 = if faults::all() { 150 } else { 50 };
    let wanted = std::env::var("FLOW_INTERFACE_PAIRS").map_or(Ok(usual), |text| text.parse())?;
    let rig = Rig::new()?;
    let (here, there) = spaces(&rig.lab);
    let names: Vec<(String, String)> =
        (0..wanted).map(|number| (format!("many{number}"), format!("far{number}"))).collect();
    let mut pairs = Vec::new();
    for (number, (near, far)) in (0..).zip(&names) {
        pairs.push(Pair::new(number, End::new(here, near), End::new(there, far))?);
    }
    let (near, far) = (format!("{}/many*", here.name()), format!("{}/far*", there.name()));
    let expedited = || std::fs::read_to_string("/sys/kernel/rcu_expedited");
    let before = expedited()?;
    // As an agent leaves it that is killed while it attaches.
    std::fs::write("/sys/kernel/rcu_expedited", "1")?;
    std::fs::write("/run/flow-agent-rcu_expedited", "1\n")?;
    let begin = Instant::now();
    let agent = agent(&rig, &[&near, &far], &[])?;
    println!("{} interfaces: ready after {:?}", 2 * names.len(), begin.elapsed());
    assert_eq!(expedited()?, before, "it is the host's again");
    // Another number for each, so that one is not taken for another.
    let sent: Vec<Count> =
        (1..).zip(&pairs).map(|(n, pair)| pair.send(n)).collect::<Result<_>>()?;
    let log = agent.stop()?;
    assert_eq!(expedited()?, before);
    assert!(log.contains(&format!("metering {} interfaces", 2 * names.len())), "{log}");
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
    // By chance a sender has the port of a service: then it has answered.
    let rows = "SELECT interface, sum(packets + reverse_packets), sum(bytes + reverse_bytes) \
                FROM flow.flows GROUP BY interface";
    assert_eq!(sorted(&sql::text(rig.store.url(), rows)?), sorted(&expected));
    let books = "SELECT interface, sum(packets), sum(octets) FROM flow.ledger \
                 WHERE stage = 'acknowledged' GROUP BY interface";
    assert_eq!(sorted(&sql::text(rig.store.url(), books)?), sorted(&expected));
    none_unknown(&rig)?;
    for (near, far) in &names {
        nothing_left(&[(here, near), (there, far)])?;
    }
    let packets = sent.iter().map(|count| 2 * count.packets).sum();
    let proof = format!("the agent's log: metering {} interfaces", 2 * pairs.len());
    recorded("many_interfaces", &proof, &rig, Count { packets, octets: 0 })
}
