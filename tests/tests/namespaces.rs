//! Interfaces in namespaces that come and go, of processes, and with the same index: what is
//! stored under each name is what passed there. Needs root, the agent's binary and libchdb.

use std::process::{Child, Command};
use std::sync::mpsc::TryRecvError;

use anyhow::{Context, Result};
use flow_tests::faults::{self, Outcome};
use flow_tests::lab::Namespace;
use flow_tests::pairs::{End, Pair};
use flow_tests::process::Agent;
use flow_tests::rig::Rig;
use flow_tests::sql;
use flow_tests::tally::Count;
use flow_tests::watched::{SOON, agent, none_unknown, nothing_left, spaces, stored};

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
        let pair = Pair::new(u16::from(10 + number), end, End::new(there, &far))?;
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
    none_unknown(&rig)?;
    let outcome = Outcome::compare(rig.store.url(), wired.packets + wireless.packets)?;
    faults::record("namespace_deleted", "the other ends of its wires are gone, twice", outcome)
}

fn interface_exists(name: &str) -> bool {
    // Sysfs shows the namespace of the process; this asks that of the thread.
    let known = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    known.lines().any(|line| line.trim_start().starts_with(&format!("{name}:")))
}
