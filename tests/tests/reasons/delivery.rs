//! Scenes on the way from the cache into the store.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_agent::ledger::LostRecord;
use flow_agent::spool::LossReason;
use flow_tests::faketime;
use flow_tests::faulty::{Faulty, PATIENCE, batches};
use flow_tests::process::Agent;
use flow_tests::small_disk::SmallDisk;
use flow_tests::status::Status;
use flow_tests::traffic::{self, Ends};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{FLOWS, HALF_EMPTY, Raised, ask, of_ledger, spread};

pub fn given_up() -> Result<Raised> {
    let faulty = Faulty::new()?;
    let agent = faulty.agent_after(&[], "", &["--spool-dir", ""])?;
    faulty.store.sql("DETACH TABLE flow.flows");
    ask(&faulty.lab, FLOWS)?;
    agent.signal(Signal::TERM)?;
    let (code, log) = agent.ended(PATIENCE)?;
    ensure!(code == Some(1), "{code:?}: {log}");
    // Its books are given up with the rest: what it lost is in the last line of its log.
    let number = log.rsplit_once(" undelivered=").and_then(|(_, rest)| rest.split(' ').next());
    let packets = number.context("the log ends with the sums")?.parse()?;
    ensure!(packets == 2 * FLOWS, "{packets} packets: {log}");
    let reason = LostRecord::Spool(LossReason::Undelivered).label().to_owned();
    Ok([(("undelivered".to_owned(), reason), packets)].into())
}

pub fn full_newest() -> Result<Raised> {
    let faulty = Faulty::new()?;
    let config = [&batches(500), "spool.memory_mib = 1\nspool.full = 'drop_newest'\n"].concat();
    lose(&faulty, &config, &["--spool-dir", ""], LossReason::FullNewest, || Ok(()))
}

/// On a disk without room the oldest segment goes.
pub fn full_oldest() -> Result<Raised> {
    let disk = SmallDisk::new(6)?;
    let mut faulty = Faulty::new()?;
    faulty.folder = TempDir::with_prefix_in("flow-reasons-", disk.path())?;
    let config = [&batches(500), "spool.memory_mib = 1\nspool.segment_mib = 1\n"].concat();
    let raised = lose(&faulty, &config, &[], LossReason::FullOldest, || Ok(()));
    drop(faulty);
    raised
}

pub fn disk() -> Result<Raised> {
    let faulty = Faulty::new()?;
    let config = [&batches(500), "spool.memory_mib = 1\nspool.segment_mib = 1\n"].concat();
    // No further segment can be made where there is no folder.
    let remove = || Ok(fs::remove_dir_all(faulty.spool())?);
    lose(&faulty, &config, &[], LossReason::Error, remove)
}

/// A store that is away until something is lost for this reason.
fn lose(
    faulty: &Faulty,
    config: &str,
    more: &[&str],
    reason: LossReason,
    before: impl FnOnce() -> Result<()>,
) -> Result<Raised> {
    let agent = faulty.agent_after(&[], config, more)?;
    faulty.proxy.refuse()?;
    before()?;
    spread(faulty)?;
    let wanted = ("undelivered".to_owned(), reason.label().to_owned());
    let mut raised = Raised::new();
    agent.wait_until("something is lost", PATIENCE, || {
        raised = of_metrics(&agent)?;
        Ok(raised.contains_key(&wanted))
    })?;
    faulty.proxy.accept()?;
    Faulty::end(agent)?;
    Ok(raised)
}

/// Packets that could not be delivered, by reason, as the running agent says.
fn of_metrics(agent: &Agent) -> Result<Raised> {
    let mut raised = Raised::new();
    for (name, packets) in Status::of(agent)?.metrics()? {
        let labels = name.strip_prefix("flow_agent_undelivered_packets_total{");
        if let Some((_, reason)) = labels.and_then(|labels| labels.split_once("reason=\"")) {
            let reason = reason.split('"').next().unwrap_or_default().to_owned();
            *raised.entry(("undelivered".to_owned(), reason)).or_default() += packets as u64;
        }
    }
    Ok(raised)
}

pub fn damaged(damage: fn(&Path) -> Result<String>) -> Result<Raised> {
    let mut faulty = Faulty::new()?;
    let config = batches(20);
    faulty.leave_spool(FLOWS, FLOWS, &config)?;
    damage(&faulty.spool())?;
    Faulty::end(faulty.agent(&config)?)?;
    of_ledger(faulty.store.url())
}

pub fn refused() -> Result<Raised> {
    let faulty = Faulty::new()?;
    let agent = faulty.agent(HALF_EMPTY)?;
    faulty.store.sql("ALTER TABLE flow.flows ADD CONSTRAINT ours CHECK dst_port != 666");
    traffic::ask_together(
        Ends::v4((&faulty.lab.left, 0), (&faulty.lab.right, 0), 666),
        5,
        1,
        40,
        200,
    )?;
    faulty.wait_quarantined(&agent, 5)?;
    Faulty::end(agent)?;
    of_ledger(faulty.store.url())
}

/// The next agent starts a month later.
pub fn late() -> Result<Raised> {
    const MONTH: Duration = Duration::from_hours(31 * 24);
    let mut faulty = Faulty::new()?;
    let config = batches(20);
    faulty.leave_spool(FLOWS, FLOWS, &config)?;
    let clock = faulty.folder.path().join("clock");
    fs::write(&clock, format!("+{}\n", MONTH.as_secs()))?;
    let words = faketime::clocked(&clock)?;
    let agent = faulty.agent_after(&words.each_ref().map(String::as_str), &config, &[])?;
    Faulty::end(agent)?;
    of_ledger(faulty.store.url())
}
