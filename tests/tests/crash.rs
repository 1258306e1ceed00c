//! An agent that is killed again and again: what it takes with it is lost{crash}, to the packet.
//! Needs root, a BPF file system at /sys/fs/bpf, the agent's binary and libchdb.
//! `FLOW_KILLS=100` for more rounds.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_agent::clock::wall_clock;
use flow_tests::lab::Side;
use flow_tests::ledger::Ledger;
use flow_tests::process::Agent;
use flow_tests::rig::Rig;
use flow_tests::sql;
use flow_tests::tally::{Counts, Tally};
use flow_tests::traffic::{self, Ends};
use flow_tests::wild::Dice;
use rustix::process::Signal;

const AT_ONCE: Duration = Duration::from_secs(10);

/// A lab whose agent is killed: its pins and its spool stay.
struct Killed {
    rig: Rig,
    folder: tempfile::TempDir,
    pins: PathBuf,
}

impl Killed {
    fn new(test: &str) -> Result<Self> {
        let pins = PathBuf::from(format!("/sys/fs/bpf/flow-crash-{}-{test}", std::process::id()));
        Ok(Self { rig: Rig::new()?, folder: tempfile::tempdir()?, pins })
    }

    /// Flows leave the cache after parts of a second, so every stage has something to lose.
    fn agent(&self) -> Result<Agent> {
        let file = self.folder.path().join("agent.toml");
        let text = "drain_interval_ms = 20\nidle_timeout_s = 1\nactive_timeout_s = 1\n[batch]\nage_ms = 200\n\
            min_rows = 10\n";
        std::fs::write(&file, text)?;
        let spool = self.folder.path().join("spool");
        let path = |path: &Path| path.to_str().map(str::to_owned).context("a path in UTF-8");
        let (file, spool, pins) = (path(&file)?, path(&spool)?, path(&self.pins)?);
        let more = ["--config", &file, "--spool-dir", &spool, "--pin-dir", &pins];
        self.rig.agent_with(("tc", "xdp"), &more)
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.pins));
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

/// Packets of an interface in the store, and rows that are there more than once.
fn stored(url: &str, interface: &str) -> Result<(u64, u64)> {
    let query = format!(
        "SELECT sum(packets + reverse_packets), count() - uniqExact(batch_id, flow_start, flow_end, \
         src_ip, dst_ip, src_port, dst_port, protocol, direction, vlan_id) FROM flow.flows \
         WHERE endsWith(interface, '{interface}')"
    );
    let rows = sql::rows(url, &query)?;
    let row = rows.first().context("one row")?;
    Ok((row[0].parse()?, row[1].parse()?))
}

/// What must hold at one end; answers how much was lost by the kills.
fn check(url: &str, side: &Side, wire: Option<&Counts>) -> Result<u64> {
    let ledger = Ledger::read(url, side.interface)?;
    ensure!(ledger.unaccounted() == (0, 0), "{}: {ledger:?}", side.interface);
    ensure!(ledger.in_flight() == (0, 0), "{}: {ledger:?}", side.interface);
    let (packets, twice) = stored(url, side.interface)?;
    ensure!(twice == 0, "{}: {twice} rows are there twice", side.interface);
    ensure!(packets == ledger.acknowledged.packets, "{packets} packets stored, {ledger:?}");
    let lost = ledger.lost.packets + ledger.undelivered.packets;
    if let Some(wire) = wire {
        let sent = wire.total.packets + wire.other;
        ensure!(ledger.seen.packets == sent, "{sent} packets were sent: {ledger:?}");
        let gap = wire.total.packets - packets;
        ensure!(gap == lost, "{gap} packets are missing, {lost} were told: {ledger:?}");
    }
    Ok(lost)
}

/// Nothing is sent while no agent is there, so every packet that was sent is explained.
#[test]
fn what_a_killed_agent_held_is_the_gap() -> Result<()> {
    let killed = Killed::new("gap")?;
    let (lab, mut dice) = (&killed.rig.lab, dice());
    let tallies = (Tally::start(&lab.left)?, Tally::start(&lab.right)?);
    for round in 0..rounds() {
        let agent = killed.agent()?;
        for burst in 0..1 + dice.below(5) {
            let port = 1_000 + (round % 1_000 * 10) as u16 + burst as u16;
            traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), port), 50, 3, 40, 200)?;
            lab.wait_quiet()?;
            pause(500, &mut dice);
        }
        agent.signal(Signal::KILL)?;
        agent.ended(AT_ONCE)?;
    }
    let log = killed.agent()?.stop()?;
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    let url = killed.rig.store.url();
    let left = check(url, &lab.left, Some(&counts.0)).inspect_err(|_| println!("{log}"))?;
    let right = check(url, &lab.right, Some(&counts.1)).inspect_err(|_| println!("{log}"))?;
    println!("{left} and {right} packets were lost by {} kills", rounds());
    ensure!(left + right > 0, "a kill lost nothing at all: it was never in the way");
    Ok(())
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
                agent.signal(Signal::KILL)?;
                agent.ended(AT_ONCE)?;
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
        let lost = check(killed.rig.store.url(), side, None)?;
        println!("{}: {lost} packets were lost by {} kills", side.interface, rounds());
    }
    Ok(())
}
