//! A store that hangs, dies or stays away: the agent ends in time, says what is lost, and
//! loses nothing that it need not. Needs root, the agent's binary and libchdb.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flow_tests::faults::{self, Outcome};
use flow_tests::lab::Lab;
use flow_tests::ledger::Ledger;
use flow_tests::rig::{self, Rig};
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::tally::{Counts, Tally};
use flow_tests::traffic::{self, Ends, Sent};
use flow_tests::{hooks, rows, sql};
use rustix::process::Signal;
use tempfile::TempDir;

/// For a busy machine; less than the 30 s that a stopping agent waits when nothing else is said.
const PATIENCE: Duration = Duration::from_secs(25);
/// A stopping agent does not wait long for its store.
const BRIEF: &str = "delivery.stop_timeout_s = 2\n";
/// Deadline for what takes no waiting at all.
const AT_ONCE: Duration = Duration::from_secs(10);
/// Nothing is under way inside an agent that has not changed its spool for so long.
const QUIET: Duration = Duration::from_secs(2);
/// Flows are emitted quickly.
const HASTY: &str = "drain_interval_ms = 100\nidle_timeout_s = 1\nactive_timeout_s = 1\n";
/// UDP conversations of three packets each way.
fn talk(lab: &Lab, conversations: u64) -> Result<Sent> {
    traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), conversations, 3, 40, 200)
}

fn detached(lab: &Lab) -> Result<()> {
    for side in [&lab.left, &lab.right] {
        assert_eq!(hooks::attached(side)?, Vec::<String>::new(), "{}", side.interface);
    }
    Ok(())
}

fn config(folder: &TempDir, text: &str) -> Result<String> {
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text)?;
    Ok(path.to_str().context("a path in UTF-8")?.to_owned())
}

/// Records a fault: what is stored is compared with what both ends counted.
fn happened(name: &str, proof: &str, url: &str, counts: &(Counts, Counts)) -> Result<()> {
    let sent = counts.0.total.packets + counts.1.total.packets;
    faults::record(name, proof, Outcome::compare(url, sent)?)
}

/// `--spool-dir` with a folder in `folder`.
fn spool(folder: &TempDir) -> Result<[String; 2]> {
    let path = folder.path().join("spool");
    Ok(["--spool-dir".into(), path.to_str().context("a path in UTF-8")?.to_owned()])
}

fn words<const N: usize>(words: &[String; N]) -> [&str; N] {
    words.each_ref().map(String::as_str)
}

/// Batches that have one row, so that some are under way and many wait.
const TINY: &str = "[batch]\nmin_rows = 1\nmax_rows = 1\nage_ms = 10\n";

#[test]
fn a_hung_store_is_given_up_and_the_next_agent_delivers() -> Result<()> {
    let folder = TempDir::new()?;
    let (config, spool) = (config(&folder, BRIEF)?, spool(&folder)?);
    let more = [&["--config", &config], words(&spool).as_slice()].concat();
    let rig = Rig::new()?;
    let agent = rig.agent_with(("xdp", "tc"), &more)?;
    rig.store.signal(Signal::STOP);
    let counts = rig::tally(&rig.lab, |lab| talk(lab, 30))?;
    agent.signal(Signal::TERM)?;
    let (code, log) = agent.ended(PATIENCE)?;
    assert_eq!(code, Some(0), "nothing is lost: {log}");
    detached(&rig.lab)?;
    assert!(log.contains("wait in ") && !log.contains("panicked"), "{log}");
    rig.store.signal(Signal::CONT);
    let log = rig.agent_with(("xdp", "tc"), &words(&spool))?.stop()?;
    rig::exact(&rig.lab, rig.store.url(), &counts)
        .inspect_err(|_| println!("the second agent said:\n{log}"))?;
    happened("store_hung_at_stop", "batches waited in the spool", rig.store.url(), &counts)?;
    rig.store.stop();
    Ok(())
}

#[test]
fn without_a_disk_a_hung_store_is_given_up_and_the_loss_is_named() -> Result<()> {
    let folder = TempDir::new()?;
    let config = config(&folder, BRIEF)?;
    let rig = Rig::new()?;
    let agent = rig.agent_with(("xdp", "tc"), &["--config", &config, "--spool-dir", ""])?;
    rig.store.signal(Signal::STOP);
    talk(&rig.lab, 30)?;
    agent.signal(Signal::TERM)?;
    let (code, log) = agent.ended(PATIENCE)?;
    assert_eq!(code, Some(4), "{log}");
    detached(&rig.lab)?;
    let sentence = log.lines().find(|line| line.starts_with("flow-agent: "));
    let sentence = sentence.with_context(|| format!("no sentence says why: {log}"))?;
    // 30 conversations of six packets, at two ends.
    let mut words = sentence.split(' ');
    assert!(words.any(|word| word == "360"), "how much is lost is not in: {sentence}");
    assert!(!log.contains("panicked"), "{log}");
    rig.store.signal(Signal::CONT);
    rig.store.stop();
    Ok(())
}

#[test]
fn an_agent_that_is_stopped_while_the_store_is_away_loses_nothing() -> Result<()> {
    let folder = TempDir::new()?;
    let (config, spool) = (config(&folder, BRIEF)?, spool(&folder)?);
    let more = [&["--config", &config], words(&spool).as_slice()].concat();
    let Rig { lab, store } = Rig::new()?;
    let url = store.url().to_owned();
    let agent = rig::agent(&lab, ("xdp", "tc"), &url, &more)?;
    let before = rig::tally(&lab, |lab| talk(lab, 30))?;
    let killed = store.kill();
    let after = rig::tally(&lab, |lab| talk(lab, 30))?;
    agent.signal(Signal::TERM)?;
    let (code, log) = agent.ended(PATIENCE)?;
    assert_eq!(code, Some(0), "nothing is lost: {log}");
    assert!(log.contains("wait in "), "how much waits is not told: {log}");
    let store = killed.start();
    let log = rig::agent(&lab, ("xdp", "tc"), &url, &words(&spool))?.stop()?;
    let sent = [&before.0, &before.1, &after.0, &after.1].map(|counts| counts.total.packets);
    for (side, (before, after)) in
        [(&lab.left, (before.0, after.0)), (&lab.right, (before.1, after.1))]
    {
        let ledger = Ledger::read(&url, side.interface)?;
        let sent = before.total.packets + after.total.packets;
        assert_eq!(ledger.seen.packets, sent, "{ledger:?}\n{log}");
        assert_eq!(ledger.unaccounted(), (0, 0), "{ledger:?}\n{log}");
        assert_eq!(ledger.in_flight(), (0, 0), "{ledger:?}\n{log}");
        assert_eq!(ledger.acknowledged.packets, sent, "{ledger:?}\n{log}");
        assert_eq!(ledger.recovered, ledger.spooled, "{ledger:?}\n{log}");
        assert!(ledger.spooled.packets > 0, "nothing had to wait: {ledger:?}");
        assert_eq!(stored(&url, side.interface)?, sent, "{log}");
    }
    let outcome = Outcome::compare(&url, sent.iter().sum())?;
    faults::record("store_away_at_stop", "the ledger has spooled and recovered packets", outcome)?;
    store.stop();
    Ok(())
}

#[test]
fn an_agent_that_is_killed_while_the_store_is_away_leaves_what_it_had_frozen() -> Result<()> {
    let folder = TempDir::new()?;
    let config = config(&folder, &[HASTY, TINY].concat())?;
    let spool = spool(&folder)?;
    let more = [&["--config", &config], words(&spool).as_slice()].concat();
    let Rig { lab, mut store } = Rig::new()?;
    let url = store.url().to_owned();
    let asked = [&more, ANY_PORT.as_slice()].concat();
    let agent = rig::agent(&lab, ("xdp", "tc"), &url, &asked)?;
    let tallies = (Tally::start(&lab.left)?, Tally::start(&lab.right)?);
    talk(&lab, 30)?;
    let killed = store.kill();
    talk(&lab, 30)?;
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    let metered = counts.0.total.packets + counts.1.total.packets;
    let status = Status::of(&agent)?;
    // Frozen batches are on their way to the disk for a moment.
    let mut spooled = (None, Instant::now());
    agent.wait_until("everything is in the store or the spool", PATIENCE, || {
        let page = status.json("/api/v1/status")?;
        let of = |pointer: &str| page.pointer(pointer).and_then(serde_json::Value::as_u64);
        let rows = of("/spool/rows");
        if spooled.0 != rows {
            spooled = (rows, Instant::now());
        }
        let empty = |pointer| of(pointer) == Some(0);
        let drained = of("/packets/drained") == Some(metered);
        let all = drained && empty("/cache/flows") && empty("/waiting/open_records");
        Ok(all && spooled.1.elapsed() > QUIET)
    })?;
    agent.kill()?;
    store = killed.start();
    let log = rig::agent(&lab, ("xdp", "tc"), &url, &more)?.stop()?;
    for (side, counts) in [(&lab.left, &counts.0), (&lab.right, &counts.1)] {
        let stored = rows::flows(&url, side.interface)?;
        let different = rows::differences(&counts.by_key(), &stored);
        assert!(different.is_empty(), "{}\n{log}", different.join("\n"));
    }
    store.stop();
    Ok(())
}

/// Packets of an interface in `flows`.
fn stored(url: &str, end: &str) -> Result<u64> {
    let sum = format!(
        "SELECT sum(packets + reverse_packets) FROM flow.flows WHERE endsWith(interface, '{end}')"
    );
    sql::number(url, &sum)
}

#[test]
fn a_second_signal_ends_the_agent_at_once() -> Result<()> {
    let rig = Rig::new()?;
    let mut agent = rig.agent(("xdp", "tc"))?;
    rig.store.signal(Signal::STOP);
    talk(&rig.lab, 30)?;
    agent.signal(Signal::TERM)?;
    agent.wait_for("STOPPING=1")?;
    agent.signal(Signal::TERM)?;
    let (code, log) = agent.ended(AT_ONCE)?;
    assert_eq!(code, Some(1), "{log}");
    detached(&rig.lab)?;
    rig.store.signal(Signal::CONT);
    rig.store.stop();
    Ok(())
}

#[test]
fn a_store_that_is_killed_and_comes_back_has_every_packet_once() -> Result<()> {
    let folder = TempDir::new()?;
    let config = config(&folder, HASTY)?;
    let Rig { lab, mut store } = Rig::new()?;
    let agent = rig::agent(&lab, ("xdp", "tc"), store.url(), &["--config", &config])?;
    let tallies = (Tally::start(&lab.left)?, Tally::start(&lab.right)?);
    store = thread::scope(|scope| {
        let (sender, rounds) = mpsc::channel();
        let traffic = scope.spawn(|| {
            let (left, right) = (&lab.left, &lab.right);
            // Until nobody counts the rounds any more.
            let sender = sender;
            while sender.send(()).is_ok() {
                traffic::bulk(Ends::v4((right, 0), (left, 0), 5201), 2 << 20, 10 << 20)?;
                talk(&lab, 20)?;
                traffic::short(Ends::v6((left, 0), (right, 0), 443), 20, 200, 5_000)?;
            }
            anyhow::Ok(())
        });
        // Once until the agent has noticed, then briefly, wherever its inserts are.
        let killed = store.kill();
        let noticed = agent.wait_log("cannot be reached", PATIENCE);
        store = killed.start();
        for () in rounds.into_iter().take(5) {
            store = store.crash();
        }
        traffic.join().map_err(|_| anyhow::anyhow!("the traffic panicked"))??;
        noticed.map(|()| store)
    })?;
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    let log = agent.stop()?;
    rig::exact(&lab, store.url(), &counts).inspect_err(|_| println!("the agent said:\n{log}"))?;
    happened("store_restarts", "the agent's log: cannot be reached", store.url(), &counts)?;
    store.stop();
    Ok(())
}

/// As after a power cut of everything: the host is up before its database.
#[test]
fn an_agent_that_starts_without_its_store_meters_into_the_spool() -> Result<()> {
    let folder = TempDir::new()?;
    let config = config(&folder, HASTY)?;
    let Rig { lab, store } = Rig::new()?;
    let url = store.url().to_owned();
    let killed = store.kill();
    let agent = rig::agent(&lab, ("xdp", "tc"), &url, &["--config", &config])?;
    assert!(agent.log().contains("going on without it"), "{}", agent.log());
    let tallies = (Tally::start(&lab.left)?, Tally::start(&lab.right)?);
    talk(&lab, 20)?;
    let store = killed.start();
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    let log = agent.stop()?;
    rig::exact(&lab, store.url(), &counts).inspect_err(|_| println!("the agent said:\n{log}"))?;
    happened("store_away_at_start", "the agent's log: going on without it", &url, &counts)?;
    store.stop();
    Ok(())
}

/// All flows that are open leave at once, and they are many batches.
#[test]
fn a_stop_with_many_open_flows_stores_them_all() -> Result<()> {
    let folder = TempDir::new()?;
    let config = config(&folder, "[batch]\nmax_rows = 250\n")?;
    let Rig { lab, store } = Rig::new()?;
    let agent = rig::agent(&lab, ("xdp", "tc"), store.url(), &["--config", &config])?;
    let tallies = (Tally::start(&lab.left)?, Tally::start(&lab.right)?);
    let many = Ends::v4((&lab.left, 0), (&lab.right, 0), 5_000);
    traffic::ask(many, 10_000, 1, 40, 200)?;
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    let log = agent.stop()?;
    rig::exact(&lab, store.url(), &counts).inspect_err(|_| println!("the agent said:\n{log}"))?;
    let rows = sql::number(store.url(), "SELECT count() FROM flow.flows")?;
    assert!(rows > 10_000, "only {rows} flows");
    store.stop();
    Ok(())
}

#[test]
fn a_store_that_is_away_for_too_long_loses_batches_by_name() -> Result<()> {
    let folder = TempDir::new()?;
    let config = config(&folder, &[HASTY, "[spool]\nmemory_mib = 1\n"].concat())?;
    let Rig { lab, store } = Rig::new()?;
    let more = ["--config", &config, "--spool-dir", ""];
    let agent = rig::agent(&lab, ("xdp", "tc"), store.url(), &more)?;
    let tallies = (Tally::start(&lab.left)?, Tally::start(&lab.right)?);
    talk(&lab, 20)?;
    let killed = store.kill();
    // 40,000 records: many times what the memory holds.
    let many = Ends::v4((&lab.left, 0), (&lab.right, 0), 5_000);
    traffic::ask(many, 20_000, 1, 40, 200)?;
    agent.wait_log("the spool is full", PATIENCE)?;
    let store = killed.start();
    talk(&lab, 20)?;
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    agent.signal(Signal::TERM)?;
    let (code, log) = agent.ended(2 * PATIENCE)?;
    let mut lost = 0;
    for (side, counts) in [(&lab.left, &counts.0), (&lab.right, &counts.1)] {
        let end = side.interface;
        let ledger = Ledger::read(store.url(), end)?;
        assert_eq!(ledger.seen, counts.total, "{end}: {ledger:?}\n{log}");
        assert_eq!(ledger.unaccounted(), (0, 0), "{end}: {ledger:?}");
        assert_eq!(ledger.drained, ledger.metered, "{end}: {ledger:?}");
        assert_eq!(ledger.in_flight(), (0, 0), "{end}: {ledger:?}");
        let stored = stored(store.url(), end)?;
        assert_eq!(stored, ledger.acknowledged.packets, "{end}: {ledger:?}");
        lost += ledger.undelivered.packets;
    }
    assert!(lost > 0, "the spool was never full: {log}");
    assert_eq!(code, Some(1), "packets were dropped: {log}");
    happened("store_away_too_long", "the agent's log: the spool is full", store.url(), &counts)?;
    store.stop();
    Ok(())
}
