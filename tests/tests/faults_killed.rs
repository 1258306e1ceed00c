//! Agents and engines that are killed while batches are on their way: what was frozen is stored
//! once, by the next agent or the next engine. Needs root, the agent's binary and libchdb.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::faulty::{Faulty, PATIENCE, batches};
use flow_tests::lab::Lab;
use flow_tests::proxy::{Fault, Schedule};
use flow_tests::sql;
use flow_tests::traffic::{self, Ends};

const FLOWS: u64 = 300;
const ROWS: usize = 20;
/// The tables that a batch of flows is stored in.
const TABLES: [&str; 3] = ["flows", "flows_1m", "flows_1h"];

#[test]
fn an_agent_killed_in_an_outage_leaves_everything_to_the_next() -> Result<()> {
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.proxy.refuse()?;
    faulty.talk(FLOWS, 1)?;
    faulty.wait_frozen(&agent, FLOWS)?;
    agent.kill()?;
    faulty.proxy.accept()?;
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.talk(FLOWS, 1)?;
    faulty.settle_again(agent)?;
    faulty
        .happened("agent_killed_in_an_outage", "all rows were frozen, the process ended by SIGKILL")
        .map(drop)
}

/// Some inserts are half sent, some are committed and nobody knows.
#[test]
fn an_agent_killed_in_mid_insert_repeats_and_loses_nothing() -> Result<()> {
    const LATE: Duration = Duration::from_secs(20);
    let mut faulty = Faulty::new()?;
    let faults = [Fault::Stall { after: 1_000 }, Fault::DelayReply(LATE), Fault::Hang];
    for (fault, waiting) in faults.into_iter().zip([FLOWS, 2 * FLOWS, 3 * FLOWS]) {
        let (name, before) = (fault.name(), faulty.proxy.fired().of(fault.name()));
        let agent = faulty.agent(&batches(ROWS))?;
        faulty.proxy.on_flows(Schedule::first_tries(u64::MAX, move |_| fault.clone()));
        faulty.talk(FLOWS, 1)?;
        faulty.wait_frozen(&agent, waiting)?;
        faulty.wait_fired(&agent, name, before + 1)?;
        agent.kill()?;
        faulty.proxy.calm();
    }
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.settle_again(agent)?;
    faulty.fired("agent_killed_in_mid_insert")
}

/// An engine that is killed after it has written that it knows a token, but before the rows are on
/// disk, takes the next insert under that token for a repetition and answers 200. Here a committed
/// batch's parts are removed while the engine is dead: of all tables, and of some.
#[test]
fn an_engine_that_remembers_a_token_without_its_rows_gets_them_again() -> Result<()> {
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    for (round, lost) in [&TABLES[..], &TABLES[..1], &TABLES[1..2], &TABLES[1..]].iter().enumerate()
    {
        for table in TABLES {
            faulty.store.sql(&format!("SYSTEM STOP MERGES flow.{table}"));
        }
        let (sender, committed) = mpsc::channel();
        let mut first = Some(sender);
        faulty.proxy.on_request(move |request| {
            // After the first commit the store is out of reach until its parts are gone.
            if first.is_some() && !request.inserts_into("flows") {
                return None;
            }
            let Some(first) = first.take() else { return Some(Fault::Reset) };
            // The test waits for it.
            let _ = first.send(request.token.clone());
            Some(Fault::DropReply)
        });
        faulty.talk(FLOWS, 1)?;
        let token = committed.recv_timeout(PATIENCE)?.context("an insert has a token")?;
        faulty.wait_fired(&agent, "drop reply", round as u64 + 1)?;
        let mut folders = Vec::new();
        for table in *lost {
            folders.extend(parts(faulty.store.url(), table, &token)?);
        }
        println!("{lost:?} lose {folders:?}");
        ensure!(folders.len() >= lost.len(), "{lost:?} have no parts of {token}: {folders:?}");
        faulty = faulty.crash_store_and(|| {
            folders.iter().try_for_each(|folder| {
                std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())
            })
        })?;
        faulty.proxy.calm();
        faulty.wait_acknowledged(&agent, PATIENCE)?;
    }
    faulty.settle(agent)?;
    faulty
        .happened("token_without_rows", "the folders of the parts were found and removed")
        .map(drop)
}

/// Rows gather for some seconds.
const LARGE: &str = "batch.age_ms = 3000\n";
/// Rows that the store refuses.
const REFUSED: u64 = 5;

fn ask_refused(lab: &Lab) -> Result<()> {
    let ends = Ends::v4((&lab.left, 0), (&lab.right, 0), 666);
    traffic::ask_together(ends, REFUSED, 1, 40, 200).map(drop)
}

/// A batch with rows that the store refuses is split; the agent is killed in the midst of that.
fn kill_splitting(
    faulty: &mut Faulty,
    refused: impl FnOnce(&mut Faulty) -> Result<()>,
) -> Result<()> {
    let agent = faulty.agent(LARGE)?;
    // The first rows are stored at once; what comes within an age of them is one batch.
    faulty.talk(1, 1)?;
    faulty.wait_stored(&agent, 2)?;
    faulty.store.sql("ALTER TABLE flow.flows ADD CONSTRAINT ours CHECK dst_port != 666");
    let mut inserts = 0;
    faulty.proxy.on_flows(move |_| {
        inserts += 1;
        // Some parts are stored by then, some refused; of every other one nobody hears.
        (inserts > 4 && inserts % 2 == 0).then_some(Fault::DropReply)
    });
    refused(faulty)?;
    faulty.talk(FLOWS, 1)?;
    faulty.wait_fired(&agent, "drop reply", 2)?;
    agent.kill()
}

#[test]
fn an_agent_killed_while_it_splits_a_batch_repeats_and_loses_nothing() -> Result<()> {
    let mut faulty = Faulty::new()?;
    kill_splitting(&mut faulty, |faulty| ask_refused(&faulty.lab))?;
    faulty.proxy.calm();
    let agent = faulty.agent(LARGE)?;
    faulty.wait_quarantined(&agent, REFUSED)?;
    faulty.settle_again(agent)?;
    Ok(())
}

/// Before the next agent starts, somebody drops the constraint: nothing is refused
/// any more, but parts are stored under ids of their own, so the whole must not be sent.
#[test]
fn a_half_split_batch_is_not_sent_whole_when_its_rows_are_welcome_again() -> Result<()> {
    let mut faulty = Faulty::new()?;
    kill_splitting(&mut faulty, |faulty| faulty.count(ask_refused))?;
    let stored = sql::rows(faulty.store.url(), "SELECT DISTINCT batch_id FROM flow.flows")?;
    ensure!(stored.len() > 1, "no part was stored before the agent was killed");
    faulty.proxy.calm();
    faulty.store.sql("ALTER TABLE flow.flows DROP CONSTRAINT ours");
    let agent = faulty.agent(LARGE)?;
    faulty.settle_again(agent)?;
    let aside = std::fs::read_dir(faulty.quarantine()).into_iter().flatten().count();
    ensure!(aside == 0, "{aside} parts are in the store and in the quarantine");
    faulty.fired("halved_and_welcome_again")
}

/// The folders of the parts that have something of a batch, and of no other.
fn parts(url: &str, table: &str, batch: &str) -> Result<Vec<PathBuf>> {
    let found = sql::rows(
        url,
        &format!(
            "SELECT path, max_block_number - min_block_number FROM system.parts WHERE database = 'flow' AND table = '{table}' \
             AND active AND name IN (SELECT _part FROM flow.{table} WHERE batch_id = '{batch}')"
        ),
    )?;
    ensure!(found.iter().all(|row| row[1] == "0"), "{table}: parts of several inserts: {found:?}");
    Ok(found.into_iter().map(|row| PathBuf::from(&row[0])).collect())
}
