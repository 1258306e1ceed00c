//! Spools that are damaged, full or on a disk that fails, with the real agent: what is whole is
//! stored once, what is not is lost under a reason, and the agent always starts. Needs root, the
//! agent's binary, libchdb and loop devices.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flow_tests::damage;
use flow_tests::failing_disk::FailingDisk;
use flow_tests::faults;
use flow_tests::faulty::{Faulty, PATIENCE, batches};
use flow_tests::process::Agent;
use flow_tests::small_disk::SmallDisk;
use flow_tests::status::Status;
use flow_tests::traffic::{self, Ends};
use tempfile::TempDir;

const FLOWS: u64 = 200;
const ROWS: usize = 20;

/// What happens to the spool of a killed agent.
struct Damage {
    name: &'static str,
    /// Does it, and says what it has done.
    act: fn(&Path) -> Result<String>,
    /// Whether batches are lost by that.
    loses: bool,
}

/// Those that CI runs come first.
const DAMAGES: [Damage; 6] = [
    Damage { name: "spool_bit_flipped", act: damage::flip, loses: true },
    Damage { name: "spool_truncated", act: damage::truncate, loses: true },
    Damage { name: "spool_duplicated", act: damage::duplicate, loses: false },
    Damage { name: "spool_reordered", act: damage::reorder, loses: false },
    Damage { name: "spool_heads_lost", act: damage::behead, loses: false },
    Damage { name: "spool_indices_lost", act: damage::lose_indices, loses: false },
];

/// Two killed agents have left batches, in a segment each or more; then the damage is done.
#[test]
fn a_damaged_spool_is_delivered_but_for_what_is_damaged() -> Result<()> {
    for damage in faults::chosen(&DAMAGES, 1) {
        let mut faulty = Faulty::new()?;
        let config = batches(ROWS);
        faulty.leave_spool(FLOWS, FLOWS, &config)?;
        faulty.leave_spool(FLOWS, 2 * FLOWS, &config)?;
        let done = (damage.act)(&faulty.spool()).context(damage.name)?;
        let agent = faulty.agent(&config)?;
        faulty.talk(FLOWS, 1)?;
        let log = Faulty::end(agent)?;
        ensure!(!log.contains("panicked"), "{}: {log}", damage.name);
        let outcome = faulty.happened(damage.name, &done);
        let outcome = outcome.inspect_err(|_| println!("the agent said:\n{log}"))?;
        ensure!(outcome.lost.is_empty() != damage.loses, "{}: {outcome:?}\n{log}", damage.name);
    }
    Ok(())
}

/// One whose agents have their spool on this disk.
fn on(disk: &Path) -> Result<Faulty> {
    let mut faulty = Faulty::new()?;
    faulty.folder = TempDir::with_prefix_in("flow-faulty-", disk)?;
    Ok(faulty)
}

/// Waits until the agent says that its spool fails; what is acknowledged has begun before.
fn wait_failing(agent: &Agent) -> Result<Status> {
    let status = Status::of(agent)?;
    agent.wait_until("the spool fails", PATIENCE, || {
        Ok(status.metrics()?.get("flow_agent_spool_failing") == Some(&1.0))
    })?;
    Ok(status)
}

/// Octets of the spool's files, as the agent says.
fn on_disk(agent: &Agent) -> Result<f64> {
    let metrics = Status::of(agent)?.metrics()?;
    let octets = metrics.get("flow_agent_spool_bytes{place=\"disk\"}").copied();
    octets.context("the metrics have the spool's octets")
}

fn errors(status: &Status) -> Result<String> {
    let metrics = status.metrics()?;
    let of = |kind: &str| metrics.get(&format!("flow_agent_spool_{kind}_errors_total")).copied();
    let (writes, syncs) = (of("write").unwrap_or_default(), of("sync").unwrap_or_default());
    ensure!(writes + syncs > 0.0, "no operation has failed");
    Ok(format!("metrics: {writes} write errors, {syncs} sync errors"))
}

/// Those that CI runs come first.
const DISKS: [fn() -> Result<()>; 4] = [
    a_disk_that_fails_under_the_spool_loses_nothing_while_there_is_memory,
    a_full_disk_under_the_spool_loses_nothing_while_there_is_memory,
    a_disk_that_stays_full_loses_the_oldest_by_name,
    a_spool_folder_that_is_removed_loses_nothing,
];

#[test]
fn a_disk_that_fails_or_is_full_loses_what_memory_cannot_hold() -> Result<()> {
    faults::chosen(&DISKS, 1).iter().try_for_each(|disk| disk())
}

fn a_full_disk_under_the_spool_loses_nothing_while_there_is_memory() -> Result<()> {
    let disk = SmallDisk::new(64)?;
    let mut faulty = on(disk.path())?;
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.talk(FLOWS, 1)?;
    faulty.wait_acknowledged(&agent, PATIENCE)?;
    faulty.proxy.refuse()?;
    disk.fill(0)?;
    let before = on_disk(&agent)?;
    faulty.talk(FLOWS, 1)?;
    faulty.wait_frozen(&agent, FLOWS)?;
    let after = on_disk(&agent)?;
    ensure!(after <= before, "the disk was not full: {before} octets, then {after}");
    faulty.proxy.accept()?;
    faulty.settle(agent)?;
    let proof = format!("{FLOWS} rows waited, and the files did not grow from {before} octets");
    faulty.happened("spool_disk_full", &proof).map(drop)
}

fn a_disk_that_stays_full_loses_the_oldest_by_name() -> Result<()> {
    let disk = SmallDisk::new(64)?;
    let mut faulty = on(disk.path())?;
    let agent = faulty.agent("spool.memory_mib = 1\n")?;
    faulty.talk(FLOWS, 1)?;
    faulty.wait_acknowledged(&agent, PATIENCE)?;
    faulty.proxy.refuse()?;
    disk.fill(0)?;
    let before = on_disk(&agent)?;
    // 20,000 records and more: many times what the memory holds.
    faulty.count(|lab| {
        let ends = Ends::v4((&lab.left, 0), (&lab.right, 0), 5_000);
        traffic::ask(ends, 20_000, 1, 40, 200).map(drop)
    })?;
    agent.wait_log("the spool is full", PATIENCE)?;
    let after = on_disk(&agent)?;
    ensure!(after <= before, "the disk was not full: {before} octets, then {after}");
    let proof = "the log: the spool is full; its files did not grow";
    disk.empty()?;
    faulty.proxy.accept()?;
    let log = Faulty::end(agent)?;
    let outcome = faulty.happened("spool_disk_full_for_long", proof);
    let outcome = outcome.inspect_err(|_| println!("the agent said:\n{log}"))?;
    ensure!(!outcome.lost.is_empty(), "nothing was lost: {log}");
    Ok(())
}

/// Syncs fail, and what they should have kept is not taken for kept.
fn a_disk_that_fails_under_the_spool_loses_nothing_while_there_is_memory() -> Result<()> {
    let disk = FailingDisk::new()?;
    let mut faulty = on(disk.path())?;
    let agent = faulty.agent(&[&batches(ROWS), "spool.fsync = 'always'\n"].concat())?;
    faulty.talk(FLOWS, 1)?;
    faulty.wait_acknowledged(&agent, PATIENCE)?;
    faulty.proxy.refuse()?;
    disk.fail()?;
    faulty.talk(FLOWS, 1)?;
    let status = wait_failing(&agent)?;
    faulty.talk(FLOWS, 1)?;
    let proof = errors(&status)?;
    faulty.proxy.accept()?;
    faulty.settle(agent)?;
    disk.heal()?;
    faulty.happened("spool_disk_fails", &proof).map(drop)
}

fn a_spool_folder_that_is_removed_loses_nothing() -> Result<()> {
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.proxy.refuse()?;
    faulty.talk(FLOWS, 1)?;
    faulty.wait_frozen(&agent, FLOWS)?;
    fs::remove_dir_all(faulty.spool())?;
    ensure!(!faulty.spool().exists(), "it is there");
    faulty.talk(FLOWS, 1)?;
    faulty.proxy.accept()?;
    faulty.settle(agent)?;
    faulty.happened("spool_folder_removed", "the folder was gone while 200 rows waited").map(drop)
}
