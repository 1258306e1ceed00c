//! An agent that is killed again and again: what it takes with it is lost{crash}, to the packet.
//! Needs root, a BPF file system at /sys/fs/bpf, the agent's binary and libchdb.
//! `FLOW_KILLS=100` for more rounds, `FLOW_KILLS_AT_EACH=100` for more at each failpoint.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_agent::clock::wall_clock;
use flow_tests::bin_path::flow_agent;
use flow_tests::explained::explained;
use flow_tests::faults::{self, Outcome};
use flow_tests::lab::Side;
use flow_tests::ledger::Ledger;
use flow_tests::mortal::Mortal;
use flow_tests::pins::Pins;
use flow_tests::process::Agent;
use flow_tests::rig::{self, Rig};
use flow_tests::tally::{Count, Tally};
use flow_tests::traffic::{self, Ends};
use flow_tests::wild::Dice;
use rustix::process::Signal;
use tempfile::TempDir;

const AT_ONCE: Duration = Duration::from_secs(10);

/// A lab whose agent is killed: its pins and its spool stay.
struct Killed {
    rig: Rig,
    mortal: Mortal,
    folder: TempDir,
    pins: Pins,
}

impl Killed {
    fn new(test: &str) -> Result<Self> {
        let (mortal, pins) = (Mortal::new()?, Pins::new(test));
        Ok(Self { rig: Rig::new()?, mortal, folder: TempDir::new()?, pins })
    }

    fn agent(&self) -> Result<Agent> {
        self.agent_of(&flow_agent())
    }

    /// One that dies at a failpoint once it is armed.
    fn mortal(&self, failpoint: &str) -> Result<Agent> {
        self.agent_of(&self.mortal.binary(failpoint)?)
    }

    fn burst(&self, port: u16) -> Result<()> {
        let (left, right) = (&self.rig.lab.left, &self.rig.lab.right);
        traffic::ask(Ends::v4((left, 0), (right, 0), port), 50, 3, 40, 200)?;
        self.rig.lab.wait_quiet()
    }

    /// Flows leave the cache after parts of a second, so every stage has something to lose.
    fn agent_of(&self, binary: &Path) -> Result<Agent> {
        let file = self.folder.path().join("agent.toml");
        let text = "drain_interval_ms = 20\nidle_timeout_s = 1\nactive_timeout_s = 1\n[batch]\nage_ms = 200\n\
            min_rows = 10\n";
        fs::write(&file, text)?;
        let spool = self.folder.path().join("spool");
        let path = |path: &Path| path.to_str().map(str::to_owned).context("a path in UTF-8");
        let (file, spool) = (path(&file)?, path(&spool)?);
        let more = ["--config", &file, "--spool-dir", &spool, "--pin-dir", self.pins.path()];
        rig::agent_of(binary, &self.rig.lab, ("tc", "xdp"), self.rig.store.url(), &more)
    }
}

fn pause(most_ms: usize, dice: &mut Dice) {
    // Nobody sends: receiving is waiting.
    let (_sender, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(Duration::from_millis(dice.below(most_ms) as u64));
}

/// Dice of another seed each time, which is told.
fn dice() -> Dice {
    let seed = u64::from(std::process::id()) ^ wall_clock();
    println!("seed {seed}");
    Dice::new(seed)
}

fn rounds() -> u64 {
    std::env::var("FLOW_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// Nothing is sent while no agent is there, so every packet that was sent is explained.
#[test]
fn what_a_killed_agent_held_is_the_gap() -> Result<()> {
    let killed = Killed::new("gap")?;
    let (lab, mut dice) = (&killed.rig.lab, dice());
    let tallies = (Tally::start(&lab.left)?, Tally::start(&lab.right)?);
    for round in 0..rounds() {
        let agent = killed.agent()?;
        for burst in 0..=dice.below(5) {
            let port = 1_000 + (round % 1_000 * 10) as u16 + burst as u16;
            killed.burst(port)?;
            pause(500, &mut dice);
        }
        agent.kill()?;
    }
    let log = killed.agent()?.stop()?;
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    let url = killed.rig.store.url();
    let left = explained(url, &lab.left, Some(&counts.0)).inspect_err(|_| println!("{log}"))?;
    let right = explained(url, &lab.right, Some(&counts.1)).inspect_err(|_| println!("{log}"))?;
    ensure!(left + right > 0, "a kill lost nothing at all: it was never in the way");
    let proof = format!("{left} and {right} packets were lost by {} kills", rounds());
    let sent = counts.0.total.packets + counts.1.total.packets;
    faults::record("agent_killed_at_random", &proof, Outcome::compare(url, sent)?)
}

/// Traffic goes on while it is killed: what hooks were given is explained, whatever it was.
#[test]
fn killed_under_load_what_was_seen_is_explained() -> Result<()> {
    let killed = Killed::new("load")?;
    let (lab, mut dice) = (&killed.rig.lab, dice());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| -> Result<()> {
            let ports = (1_024..60_000).cycle().take_while(|_| !stop.load(Ordering::Relaxed));
            for port in ports {
                traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), port), 20, 3, 40, 200)?;
            }
            Ok(())
        });
        let mut kills = || -> Result<()> {
            for _ in 0..rounds() {
                let agent = killed.agent()?;
                pause(1_500, &mut dice);
                agent.kill()?;
            }
            Ok(())
        };
        let done = kills();
        stop.store(true, Ordering::Relaxed);
        load.join().expect("no panic")?;
        done
    })?;
    killed.agent()?.stop()?;
    for side in [&lab.left, &lab.right] {
        let lost = explained(killed.rig.store.url(), side, None)?;
        println!("{}: {lost} packets were lost by {} kills", side.interface, rounds());
    }
    Ok(())
}

/// Where an agent dies, and whether what it held there is all that is lost by name `crash` after
/// the drain. It is not where a batch is between two stages: the next agent finds that batch in
/// the spool, or its torn end.
const FAILPOINTS: [(&str, bool); 12] = [
    ("drain::flipped", true),
    ("drain::read", true),
    ("drain::closed", true),
    ("batch::arrived", true),
    ("batch::frozen", true),
    ("spool::begun", false),
    ("spool::written", false),
    ("delivery::taken", true),
    ("delivery::carried", true),
    ("estate::prepared", true),
    ("estate::done", false),
    ("books::frozen", true),
];

/// At every other failpoint something is on the wire then; in the next round at the others.
#[test]
fn killed_at_every_stage_it_loses_what_it_held() -> Result<()> {
    const UNTIL_BOOKS: Duration = Duration::from_secs(20);
    let killed = Killed::new("stages")?;
    let lab = &killed.rig.lab;
    let url = killed.rig.store.url();
    let lost = || -> Result<[Count; 2]> {
        let of = |side: &Side| Ledger::undelivered(url, side.interface, "crash");
        Ok([of(&lab.left)?, of(&lab.right)?])
    };
    killed.agent()?.stop()?; // the tables are there
    let mut dumps = 0;
    let rounds = flow_tests::setting("FLOW_KILLS_AT_EACH", 1) as usize;
    let all = (0..rounds).flat_map(|round| {
        FAILPOINTS.iter().enumerate().map(move |(place, it)| ((round + place) % 2 == 0, it))
    });
    for (number, (is_busy, &(failpoint, dump))) in (0..).zip(all) {
        let before = lost()?;
        let agent = killed.mortal(failpoint)?;
        killed.burst(2_000 + number)?;
        if is_busy {
            killed.mortal.arm()?;
            killed.burst(4_000 + number)?;
        } else {
            killed.burst(4_000 + number)?;
            killed.mortal.arm()?;
        }
        let (code, log) = agent.ended(UNTIL_BOOKS).context(failpoint)?;
        ensure!(code.is_none(), "{failpoint}: it ended by itself, {code:?}:\n{log}");
        let held =
            [killed.mortal.held(lab.left.interface)?, killed.mortal.held(lab.right.interface)?];
        killed.mortal.disarm();
        let log = killed.agent()?.stop()?;
        for (side, (held, (before, after))) in [&lab.left, &lab.right]
            .into_iter()
            .zip(held.into_iter().zip(before.into_iter().zip(lost()?)))
        {
            explained(url, side, None).with_context(|| format!("{failpoint}:\n{log}"))?;
            let told = Count {
                packets: after.packets - before.packets,
                octets: after.octets - before.octets,
            };
            println!("{failpoint} {}: held {held:?}, told {told:?}", side.interface);
            ensure!(!dump || told == held, "{failpoint}: {held:?} were held, {told:?} are told");
            dumps += held.packets;
        }
    }
    ensure!(dumps > 0, "nothing was ever held");
    Ok(())
}

/// The heirs of a dead agent die themselves while they take over: nothing is taken twice.
#[test]
fn killed_while_it_takes_over_nothing_is_taken_twice() -> Result<()> {
    let killed = Killed::new("heirs")?;
    let lab = &killed.rig.lab;
    let tallies = (Tally::start(&lab.left)?, Tally::start(&lab.right)?);
    let first = killed.agent()?;
    killed.burst(4_000)?;
    first.kill()?;
    for failpoint in ["start::inherited", "start::taken", "start::recovered"] {
        killed.mortal.arm()?;
        let agent = killed.mortal(failpoint);
        ensure!(agent.is_err(), "{failpoint}: it lives");
        killed.mortal.disarm();
    }
    let last = killed.mortal("stop::stored")?;
    killed.burst(4_001)?;
    killed.mortal.arm()?;
    last.signal(Signal::TERM)?;
    let (code, log) = last.ended(AT_ONCE)?;
    ensure!(code.is_none(), "it ended by itself, {code:?}:\n{log}");
    killed.mortal.disarm();
    killed.agent()?.stop()?;
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    let url = killed.rig.store.url();
    explained(url, &lab.left, Some(&counts.0))?;
    explained(url, &lab.right, Some(&counts.1))?;
    let proof = "three starts and one stop ended at the failpoints that were armed";
    let sent = counts.0.total.packets + counts.1.total.packets;
    faults::record("heirs_killed", proof, Outcome::compare(url, sent)?)
}
