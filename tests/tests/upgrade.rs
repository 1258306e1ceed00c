//! Agents that take over from each other while packets flow: each packet is counted by one of them,
//! and one that cannot take over changes nothing. `FLOW_UPGRADES` sets how many there are,
//! `FLOW_OTHER_LAYOUT_BIN` names an agent with tables of another layout for every other one. Needs
//! root, Linux 6.6, a BPF file system at /sys/fs/bpf, the agent's binary and libchdb.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::explained::explained;
use flow_tests::faults::{self, Outcome};
use flow_tests::hooks;
use flow_tests::lab::Lab;
use flow_tests::mortal::Mortal;
use flow_tests::pins::Pins;
use flow_tests::process::Agent;
use flow_tests::rig::{self, Rig};
use flow_tests::tally::Tally;
use flow_tests::traffic::{self, Ends, Sent};
use rustix::process::Signal;
use tempfile::TempDir;

/// For an agent that delivers, on a busy machine.
const SOON: Duration = Duration::from_mins(1);
/// Native XDP and TC, at both sides of the switch.
const ATTACH: (&str, &str) = ("tc", "xdp");

/// What agents that follow each other have in common.
struct Upgrades {
    rig: Rig,
    pins: Pins,
    folder: TempDir,
}

impl Upgrades {
    fn new(test: &str) -> Result<Self> {
        Ok(Self { rig: Rig::new()?, pins: Pins::new(test), folder: TempDir::new()? })
    }

    fn arguments(&self) -> Result<Vec<String>> {
        self.arguments_at(self.pins.path())
    }

    fn arguments_at(&self, pins: &str) -> Result<Vec<String>> {
        let spool = self.folder.path().join("spool");
        let spool = spool.to_str().context("a path in UTF-8")?;
        let words = ["--take-over", "--pin-dir", pins, "--spool-dir", spool];
        let times = ["--drain-interval", "100", "--idle-timeout", "1"];
        Ok(words.iter().chain(&times).map(|word| (*word).to_owned()).collect())
    }

    /// The next version: it is ready when the one before has ended.
    fn next(&self) -> Result<Agent> {
        self.next_of(&flow_agent())
    }

    /// The same of a binary of the caller's choice.
    fn next_of(&self, binary: &Path) -> Result<Agent> {
        let arguments = self.arguments()?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        rig::agent_of(binary, &self.rig.lab, ATTACH, self.rig.store.url(), &arguments)
    }

    /// The next version, which dies at a failpoint before it is ready.
    fn next_dies(&self, mortal: &Mortal, failpoint: &str) -> Result<()> {
        let Err(error) = self.next_of(&mortal.binary(failpoint)?) else {
            bail!("{failpoint}: it lives");
        };
        ensure!(error.to_string().contains("SIGKILL"), "{failpoint}: {error}");
        Ok(())
    }

    /// The next version, which is refused: its exit code and what it says.
    fn refused(&self, interfaces: &[&str], arguments: &[String]) -> Result<(Option<i32>, String)> {
        // One that is not refused would meter for ever.
        let mut command = Command::new("timeout");
        command.arg("60").arg(flow_agent()).args([
            "run",
            "--state-file",
            "",
            "--store",
            self.rig.store.url(),
        ]);
        command.args(interfaces.iter().flat_map(|interface| ["--interface", interface]));
        let output = command.args(arguments).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Runs `changes` while both ends of the wire are busy, stops the agent that it returns, and
    /// compares every flow, and the ledger, with the wire.
    fn exact(&self, changes: impl FnOnce() -> Result<Agent>) -> Result<()> {
        let mut last = None;
        let counts = rig::tally(&self.rig.lab, |lab| {
            let sent = busy(lab, || {
                last = Some(changes()?);
                Ok(())
            })?;
            lab.wait_quiet()?;
            Ok(sent)
        })?;
        let log = last.context("there is one")?.stop()?;
        rig::exact(&self.rig.lab, self.rig.store.url(), &counts)
            .inspect_err(|_| println!("the last agent said:\n{log}"))?;
        assert_eq!(self.pins.folders(), Vec::<String>::new(), "nothing is left");
        for side in [&self.rig.lab.left, &self.rig.lab.right] {
            assert_eq!(hooks::attached(side)?, Vec::<String>::new());
        }
        Ok(())
    }
}

/// UDP as fast as two threads can, and short TCP connections, until `work` is done.
fn busy(lab: &Lab, work: impl FnOnce() -> Result<()>) -> Result<Sent> {
    let done = AtomicBool::new(false);
    let until_done = |traffic: &(dyn Fn(u16) -> Result<Sent> + Sync)| -> Result<Sent> {
        let mut sent = Sent::default();
        for round in (0..1_000).cycle() {
            sent.add(traffic(10_000 + round)?);
            if done.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(sent)
    };
    let (left, right) = (&lab.left, &lab.right);
    let datagrams = |port| traffic::stream(Ends::v4((left, 0), (right, 0), port), 500, 200);
    let connections = |port| traffic::short(Ends::v6((left, 1), (right, 1), port), 5, 100, 2_000);
    thread::scope(|scope| {
        let threads =
            [scope.spawn(|| until_done(&datagrams)), scope.spawn(|| until_done(&connections))];
        let worked = work();
        done.store(true, Ordering::Relaxed);
        let mut sent = Sent::default();
        for thread in threads {
            sent.add(thread.join().expect("traffic does not panic")?);
        }
        worked.map(|()| sent)
    })
}

#[test]
fn every_packet_is_counted_once_however_often_agents_change() -> Result<()> {
    const FEW: usize = 8;
    let upgrades = match std::env::var("FLOW_UPGRADES") {
        Ok(number) => number.parse().context("FLOW_UPGRADES")?,
        Err(_) => FEW,
    };
    let other = std::env::var_os("FLOW_OTHER_LAYOUT_BIN");
    let rig = Upgrades::new("upgrades")?;
    // With nobody to take over from it starts as usual.
    let mut agent = rig.next()?;
    rig.exact(|| {
        for number in 1..=upgrades {
            let left = &rig.rig.lab.left;
            let (before, tags) = (hooks::program_ids(left)?, hooks::program_tags(left)?);
            // To the other layout and back.
            let next = match &other {
                Some(other) if number % 2 == 1 => rig.next_of(Path::new(other))?,
                _ => rig.next()?,
            };
            let log = next.log();
            ensure!(log.contains("its agent has ended"), "{number}: {log}");
            let (code, log) = std::mem::replace(&mut agent, next).ended(SOON)?;
            ensure!(code == Some(0) && log.contains("has taken over"), "{number}: {code:?} {log}");
            ensure!(hooks::program_ids(left)? != before, "{number}: other programs");
            let differ = hooks::program_tags(left)? != tags;
            ensure!(differ == other.is_some(), "{number}: programs of another layout are others");
        }
        println!("{upgrades} agents have taken over; of another layout: {other:?}");
        Ok(agent)
    })
}

/// Bad configuration, an interface that is not there, no privilege to load, a hook that cannot be
/// taken over when others have been: each is said, and the agent that runs counts every packet.
#[test]
fn a_new_version_that_is_refused_leaves_the_old_one_metering() -> Result<()> {
    let rig = Upgrades::new("refused")?;
    let (left, right) = (&rig.rig.lab.left, &rig.rig.lab.right);
    let old = rig.next()?;
    rig.exact(|| {
        let bad = rig.folder.path().join("bad.toml");
        std::fs::write(&bad, "[run]\ndrain_every = 3\n")?;
        let bad = ["--config", bad.to_str().context("a path in UTF-8")?].map(str::to_owned);
        let arguments = rig.arguments()?;
        let specs = [left.spec(ATTACH.0), right.spec(ATTACH.1)];
        let good = [specs[0].as_str(), specs[1].as_str()];
        let (code, said) = rig.refused(&good, &[&arguments[..], &bad].concat())?;
        ensure!(code == Some(2) && said.contains("drain_every"), "{code:?} {said}");
        let (code, said) =
            rig.refused(&[good[0], &left.spec("tc").replace("veth", "eth")], &arguments)?;
        ensure!(code == Some(2) && said.contains("there is no interface"), "{code:?} {said}");
        ensure!(!old.log().contains("takes over"), "it was not even asked: {}", old.log());

        // The left end is taken over by then, and given back.
        let (code, said) = rig.refused(&[good[0], &right.spec("tc")], &arguments)?;
        ensure!(
            code == Some(1) && said.contains("to be relieved meters it by native XDP"),
            "{said}"
        );
        old.wait_log("this one goes on", SOON)?;

        // What the one that was refused had counted meanwhile is in its tables still.
        let next = rig.next()?;
        let (code, log) = old.ended(SOON)?;
        ensure!(code == Some(0), "{log}");
        Ok(next)
    })
}

/// Where a successor dies before the agent that runs has ended.
const BEFORE_THE_END: [&str; 4] =
    ["take_over::asked", "take_over::ready", "take_over::inherited", "take_over::replaced"];

/// What those that were killed had counted until then is in their tables: nothing at all is lost.
#[test]
fn a_successor_that_is_killed_leaves_the_old_one_metering() -> Result<()> {
    let (rig, mortal) = (Upgrades::new("successors")?, Mortal::new()?);
    let old = rig.next()?;
    rig.exact(|| {
        mortal.arm()?;
        for (before, failpoint) in BEFORE_THE_END.into_iter().enumerate() {
            rig.next_dies(&mortal, failpoint)?;
            let times = || old.log().matches("this one goes on").count();
            old.wait_until(failpoint, SOON, || Ok(times() == before + 1))?;
        }
        let next = rig.next()?;
        let (code, log) = old.ended(SOON)?;
        ensure!(code == Some(0), "{code:?}: {log}");
        Ok(next)
    })
}

/// Who dies while one agent takes over from another: where the old one, where the new one; and
/// whether the hooks stay, so that packets may come meanwhile.
const DEATHS: [(Option<&str>, Option<&str>, bool); 7] = [
    (Some("hand_over::asked"), None, false),
    (Some("hand_over::offered"), None, true),
    (Some("hand_over::relieved"), None, true),
    // Whether the new one looks before it hears of the death, and so dies, too, is chance.
    (Some("hand_over::offered"), Some("take_over::ready"), false),
    // Whether the old one has heard of it is chance.
    (None, Some("take_over::told"), false),
    (None, Some("start::inherited"), false),
    (None, Some("start::recovered"), false),
];

#[test]
fn whoever_is_killed_while_agents_change_what_was_held_is_the_gap() -> Result<()> {
    let (rig, mortal) = (Upgrades::new("deaths")?, Mortal::new()?);
    let (lab, url) = (&rig.rig.lab, rig.rig.store.url());
    let talk = |number| {
        traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), number), 50, 3, 40, 200)?;
        lab.wait_quiet()
    };
    let binary = |failpoint: Option<&str>| {
        failpoint.map_or_else(|| Ok(flow_agent()), |failpoint| mortal.binary(failpoint))
    };
    let tallies = (Tally::start(&lab.left)?, Tally::start(&lab.right)?);
    for (number, (of_old, of_new, hooks_stay)) in (2_000..).zip(DEATHS) {
        let case = format!("{of_old:?} {of_new:?}");
        let old = rig.next_of(&binary(of_old)?)?;
        talk(number)?;
        let mut next = None;
        let mut change = || -> Result<()> {
            mortal.arm()?;
            match of_new {
                Some(failpoint) if of_old.is_some() => {
                    match rig.next_of(&mortal.binary(failpoint)?) {
                        Ok(agent) => next = Some(agent),
                        Err(error) => ensure!(error.to_string().contains("SIGKILL"), "{error}"),
                    }
                }
                Some(failpoint) => rig.next_dies(&mortal, failpoint)?,
                None => next = Some(rig.next()?),
            }
            mortal.disarm();
            Ok(())
        };
        if hooks_stay { busy(lab, change).map(drop) } else { change() }.context(case.clone())?;
        let next = next.map_or_else(|| rig.next(), Ok)?;
        let (code, log) = old.ended(SOON)?;
        ensure!(code.is_none() == of_old.is_some(), "{case}: {code:?}: {log}");
        talk(number + 100)?;
        let log = next.stop()?;
        for side in [&lab.left, &lab.right] {
            explained(url, side, None).with_context(|| format!("{case}:\n{log}"))?;
        }
        assert_eq!(rig.pins.folders(), Vec::<String>::new(), "{case}: something is left");
    }
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    let lost =
        [explained(url, &lab.left, Some(&counts.0))?, explained(url, &lab.right, Some(&counts.1))?];
    println!("{lost:?} packets were lost by {} deaths", DEATHS.len());
    let sent = counts.0.total.packets + counts.1.total.packets;
    let proof = format!("{} changes, each with an agent that ended at its failpoint", DEATHS.len());
    faults::record("killed_while_agents_change", &proof, Outcome::compare(url, sent)?)
}

/// Somebody stops the agent that runs at some moment of a take-over: it ends as ever, and the new
/// one meters.
#[test]
fn an_agent_that_is_stopped_meanwhile_is_taken_over_all_the_same() -> Result<()> {
    let rig = Upgrades::new("stopped")?;
    let lab = &rig.rig.lab;
    let counts = rig::tally(lab, |lab| {
        let mut sent = Sent::default();
        let mut agent = rig.next()?;
        for number in 0..6 {
            // Nothing is on the wire meanwhile: there may be a moment without hooks.
            let ends = Ends::v4((&lab.left, 0), (&lab.right, 0), 2_000 + number);
            sent.add(traffic::ask(ends, 50, 3, 40, 200)?);
            lab.wait_quiet()?;
            let next = thread::scope(|scope| {
                scope.spawn(|| {
                    // Nobody sends: receiving is waiting.
                    let (_sender, never) = mpsc::channel::<()>();
                    let _ = never.recv_timeout(Duration::from_millis(300) * u32::from(number));
                    // One that has ended needs no signal.
                    let _ = agent.signal(Signal::TERM);
                });
                rig.next()
            })?;
            let (code, log) = std::mem::replace(&mut agent, next).ended(SOON)?;
            ensure!(code == Some(0), "{number}: {code:?}: {log}");
        }
        agent.stop()?;
        Ok(sent)
    })?;
    rig::exact(lab, rig.rig.store.url(), &counts)
}

/// Agents that do not meter what the new one asks for stay as they are; without a folder for pins
/// agents do not find each other.
#[test]
fn an_agent_at_other_interfaces_is_left_alone() -> Result<()> {
    let rig = Upgrades::new("others")?;
    let start = |spec: &str| {
        let arguments = ["--interface", spec, "--store", rig.rig.store.url()];
        let more = ["--take-over", "--pin-dir", rig.pins.path(), "--drain-interval", "100"];
        Agent::start(&flow_agent(), &[&arguments[..], &more].concat())
    };
    let (left, right) = (&rig.rig.lab.left, &rig.rig.lab.right);
    let first = start(&left.spec("tc"))?;
    let second = start(&right.spec("tc"))?;
    first.wait_log("this one goes on", SOON)?;
    let counts = rig::tally(&rig.rig.lab, |lab| busy(lab, || lab.wait_quiet().or(Ok(()))))?;
    first.stop()?;
    second.stop()?;
    rig::exact(&rig.rig.lab, rig.rig.store.url(), &counts)?;

    let (code, said) = rig.refused(&[&left.spec("tc")], &rig.arguments_at("")?)?;
    ensure!(code == Some(1) && said.contains("pin_dir"), "{code:?} {said}");
    Ok(())
}
