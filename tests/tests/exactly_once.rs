//! What the store has after it lost, refused or could not take a batch: every packet once, in the
//! table and in each rollup. Needs root, the agent's binary and libchdb.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_agent::frozen::FrozenBatch;
use flow_agent::ledger::Entry;
use flow_agent::sink::quarantine::{Quarantine, Reason};
use flow_common::Count;
use flow_tests::bin_path::flow_agent;
use flow_tests::faults::{self, Outcome};
use flow_tests::lab::Lab;
use flow_tests::ledger::Ledger;
use flow_tests::rig::{self, Rig};
use flow_tests::store::Store;
use flow_tests::tally::Counts;
use flow_tests::traffic::{self, Ends, Sent};
use flow_tests::{rows, sql};
use tempfile::TempDir;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(50);
/// How it is known that something was lost.
const FOLDERS: &str = "the folders were found and removed; the same spool came again";
const ROLLUPS: [&str; 2] = ["flows_1m", "flows_1h"];
/// Leaves soon when the store is away.
const BRIEF: &str = "delivery.stop_timeout_s = 1\n";
const HASTY: &str = "drain_interval_ms = 100\nidle_timeout_s = 1\nactive_timeout_s = 1\n";

fn talk(lab: &Lab, port: u16) -> Result<Sent> {
    traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), port), 30, 3, 40, 200)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

/// Each rollup has what the table has.
fn rollups_agree(url: &str) -> Result<()> {
    let sums = "sum(packets), sum(bytes), sum(reverse_packets), sum(reverse_bytes)";
    let table = sql::rows(url, &format!("SELECT {sums} FROM flow.flows"))?;
    for rollup in ROLLUPS {
        let found = sql::rows(url, &format!("SELECT {sums} FROM flow.{rollup}"))?;
        ensure!(found == table, "{rollup} has {found:?}, flows has {table:?}");
    }
    Ok(())
}

/// The rows are exactly those of the wire.
fn exact(lab: &Lab, url: &str, counts: &(Counts, Counts)) -> Result<()> {
    for (side, counts) in [(&lab.left, &counts.0), (&lab.right, &counts.1)] {
        let stored = rows::flows(url, side.interface)?;
        let different = rows::differences(&counts.by_key(), &stored);
        ensure!(different.is_empty(), "{}: {}", side.interface, different.join("\n"));
    }
    rollups_agree(url)
}

/// What is lost of a table's folder when the engine dies at an unlucky moment.
#[derive(Clone, Copy)]
enum Lost {
    /// Its parts; the deduplication log stays.
    Parts,
    /// Both.
    All,
}

/// Removes what is lost of a table while the store is down.
fn lose(folder: &Path, lost: Lost) -> Result<()> {
    let mut parts = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a name in UTF-8")?;
        let log = name == "deduplication_logs";
        if entry.file_type()?.is_dir() && name != "detached" && (!log || matches!(lost, Lost::All))
        {
            fs::remove_dir_all(entry.path())?;
            parts += usize::from(!log);
        }
    }
    ensure!(parts > 0, "{} had no parts", folder.display());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// An agent leaves batches in its spool. The store takes them, dies, and has lost something. The
/// same spool comes again: its batches may be there or not, and their tokens are known or not.
fn lost_in_the_store(losses: &[(&str, Lost)]) -> Result<Outcome> {
    let folder = TempDir::new()?;
    let (spool, copied) = (folder.path().join("spool"), folder.path().join("copy"));
    let Rig { lab, store } = Rig::new()?;
    let url = store.url().to_owned();
    let agent = |spool: &Path| -> Result<String> {
        rig::agent(&lab, ("xdp", "tc"), &url, &["--spool-dir", text(spool)?])?.stop()
    };
    let config = folder.path().join("brief.toml");
    fs::write(&config, BRIEF)?;
    let arguments = ["--config", text(&config)?, "--spool-dir", text(&spool)?];
    let running = rig::agent(&lab, ("xdp", "tc"), &url, &arguments)?;
    let counts = rig::tally(&lab, |lab| talk(lab, 53))?;
    let killed = store.kill();
    let log = running.stop()?;
    ensure!(log.contains("wait in "), "the store was away: {log}");
    copy(&spool, &copied)?;
    let store = killed.start();
    agent(&spool)?;
    exact(&lab, &url, &counts).context("before anything is lost")?;
    let folders = losses
        .iter()
        .map(|(table, lost)| {
            let paths = format!(
                "SELECT data_paths[1] FROM system.tables WHERE database = 'flow' AND name = '{table}'"
            );
            Ok((PathBuf::from(sql::text(&url, &paths)?.trim()), *lost))
        })
        .collect::<Result<Vec<_>>>()?;
    let killed = store.kill();
    for (folder, lost) in folders {
        lose(&folder, lost)?;
    }
    let store = killed.start();
    let log = agent(&copied)?;
    exact(&lab, &url, &counts).inspect_err(|_| println!("the agent said:\n{log}"))?;
    let left = sql::text(&url, "SELECT name FROM system.tables WHERE name LIKE '%restored%'")?;
    ensure!(left.trim().is_empty(), "a table is left over: {left}");
    let outcome = Outcome::compare(&url, counts.0.total.packets + counts.1.total.packets)?;
    store.stop();
    Ok(outcome)
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice() -> Result<()> {
    lost_in_the_store(&[]).map(drop)
}

#[test]
fn the_token_is_known_and_the_part_is_not() -> Result<()> {
    let [minute, hour] = ROLLUPS;
    lost_in_the_store(&[("flows", Lost::Parts), (minute, Lost::All), (hour, Lost::All)]).map(drop)
}

#[test]
fn every_token_is_known_and_no_part() -> Result<()> {
    let [minute, hour] = ROLLUPS;
    let outcome =
        lost_in_the_store(&[("flows", Lost::Parts), (minute, Lost::Parts), (hour, Lost::Parts)])?;
    faults::record("parts_lost_tokens_kept", FOLDERS, outcome)
}

#[test]
fn only_the_table_has_lost_its_part() -> Result<()> {
    let outcome = lost_in_the_store(&[("flows", Lost::Parts)])?;
    faults::record("table_part_lost", FOLDERS, outcome)
}

#[test]
fn only_a_rollup_has_lost_its_part() -> Result<()> {
    let outcome = lost_in_the_store(&[(ROLLUPS[1], Lost::Parts)])?;
    faults::record("rollup_part_lost", FOLDERS, outcome)
}

#[test]
fn everything_is_lost_and_forgotten() -> Result<()> {
    let [minute, hour] = ROLLUPS;
    let outcome =
        lost_in_the_store(&[("flows", Lost::All), (minute, Lost::All), (hour, Lost::All)])?;
    faults::record("everything_lost", FOLDERS, outcome)
}

#[test]
fn a_table_that_is_gone_keeps_batches_back_until_it_is_there_again() -> Result<()> {
    let folder = TempDir::new()?;
    let config = folder.path().join("config.toml");
    fs::write(&config, HASTY)?;
    let Rig { lab, store } = Rig::new()?;
    let url = store.url().to_owned();
    let agent = rig::agent(&lab, ("xdp", "tc"), &url, &["--config", text(&config)?])?;
    store.sql("RENAME TABLE flow.flows TO flow.elsewhere");
    let counts = rig::tally(&lab, |lab| talk(lab, 53))?;
    agent.wait_log("batches are kept", PATIENCE)?;
    store.sql("RENAME TABLE flow.elsewhere TO flow.flows");
    let log = agent.stop()?;
    rig::exact(&lab, &url, &counts).inspect_err(|_| println!("the agent said:\n{log}"))?;
    rollups_agree(&url)?;
    let sent = counts.0.total.packets + counts.1.total.packets;
    let outcome = Outcome::compare(&url, sent)?;
    faults::record("table_renamed", "the agent's log: batches are kept", outcome)?;
    store.stop();
    Ok(())
}

fn quarantine(command: &[&str], dir: &Path) -> Result<Output> {
    let mut process = Command::new(flow_agent());
    process.arg("quarantine").args(command).arg("--dir").arg(dir);
    process.output().context("flow-agent quarantine")
}

fn printed(output: &Output) -> Result<String> {
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "flow-agent quarantine: {complaint}");
    Ok(String::from_utf8(output.stdout.clone())?)
}

#[test]
fn rows_that_the_store_refuses_are_kept_alone_and_can_be_sent_again() -> Result<()> {
    let folder = TempDir::new()?;
    let (config, dir) = (folder.path().join("config.toml"), folder.path().join("quarantine"));
    fs::write(&config, format!("{HASTY}[delivery]\nquarantine_dir = {dir:?}\n"))?;
    let Rig { lab, store } = Rig::new()?;
    let url = store.url().to_owned();
    let agent = rig::agent(&lab, ("xdp", "tc"), &url, &["--config", text(&config)?])?;
    store.sql("ALTER TABLE flow.flows ADD CONSTRAINT strange CHECK dst_port != 54");
    let ends = Ends::v4((&lab.left, 0), (&lab.right, 0), 54);
    let refused_packets = 2 * 3;
    let counts = rig::tally(&lab, |lab| {
        let mut sent = talk(lab, 53)?;
        sent.add(traffic::ask(ends, 1, 3, 40, 200)?);
        sent.add(talk(lab, 55)?);
        Ok(sent)
    })?;
    let log = agent.stop()?;
    for side in [&lab.left, &lab.right] {
        let ledger = Ledger::read(&url, side.interface)?;
        assert_eq!(ledger.quarantined.packets, refused_packets, "{ledger:?}\n{log}");
        assert_eq!(ledger.in_flight(), (0, 0), "{ledger:?}\n{log}");
        assert_eq!(ledger.undelivered.packets, 0, "{ledger:?}\n{log}");
    }
    let list = printed(&quarantine(&["list"], &dir)?)?;
    let ids: Vec<&str> =
        list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    // One row at each end, each alone.
    assert_eq!(ids.len(), 2, "{list}");
    assert!(list.contains("469") && list.contains("strange"), "no reason: {list}");
    for id in &ids {
        let shown = printed(&quarantine(&["show", id], &dir)?)?;
        assert_eq!(shown.lines().count(), 1, "{shown}");
        let row: serde_json::Value = serde_json::from_str(&shown)?;
        assert_eq!(row["dst_port"], 54, "{shown}");
    }
    let resend = [&["resend", "--store", &url], ids.as_slice()].concat();
    let output = quarantine(&resend, &dir)?;
    assert!(!output.status.success(), "the constraint is still there");
    assert_eq!(printed(&quarantine(&["list"], &dir)?)?, list, "and so are they");
    store.sql("ALTER TABLE flow.flows DROP CONSTRAINT strange");
    printed(&quarantine(&resend, &dir)?)?;
    assert_eq!(printed(&quarantine(&["list"], &dir)?)?, "");
    exact(&lab, &url, &counts)?;
    for side in [&lab.left, &lab.right] {
        let ledger = Ledger::read(&url, side.interface)?;
        assert_eq!(ledger.resent, ledger.quarantined, "{ledger:?}");
    }
    let outcome = Outcome::compare(&url, counts.0.total.packets + counts.1.total.packets)?;
    faults::record("row_refused", "two rows in the quarantine, code 469; sent again", outcome)?;
    // Sent once more they are there once.
    let unknown = quarantine(&resend, &dir)?;
    assert_eq!(unknown.status.code(), Some(2), "they are not in the quarantine any more");
    store.stop();
    Ok(())
}

/// Nothing can tell any more whether the store had it.
#[test]
fn what_is_older_than_its_evidence_is_not_sent_again() -> Result<()> {
    let folder = TempDir::new()?;
    let store = Store::with_tables();
    let id = Uuid::now_v7();
    let counted = Count { packets: 1, octets: 60 };
    let counts = BTreeMap::from([(("eth0".into(), Entry::Seen), counted)]);
    let batch = FrozenBatch::of_ledger(&counts, "host", id, 1_000_000_000);
    Quarantine::new(folder.path()).put(&batch, Reason::Refused, "once", "a store", 1)?;
    let id = id.to_string();
    let output = quarantine(&["resend", "--store", store.url(), &id], folder.path())?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains("could come twice"), "{complaint}");
    assert!(printed(&quarantine(&["list"], folder.path())?)?.contains(&id), "it stays");
    store.stop();
    Ok(())
}
