//! A store that is killed, fills its disk, refuses or changes: real faults of the real engine.
//! Needs root, the agent's binary and libchdb.

use std::time::Duration;

use anyhow::Result;
use flow_tests::faulty::{Faulty, PATIENCE, batches};
use flow_tests::proxy::{Fault, Schedule};
use flow_tests::small_disk::SmallDisk;
use flow_tests::store::Store;

const FLOWS: u64 = 300;
const ROWS: usize = 20;

/// Inserts are open when it is killed: half sent, all but an octet, committed.
#[test]
fn a_store_killed_in_mid_insert_has_every_row_once() -> Result<()> {
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    for fault in [
        Fault::Stall { after: 1_000 },
        Fault::Stall { after: u64::MAX },
        Fault::DelayReply(Duration::from_millis(500)),
    ] {
        let (name, before) = (fault.name(), faulty.proxy.fired().of(fault.name()));
        faulty.proxy.on_flows(Schedule::first_tries(1, move |_| fault.clone()));
        faulty.talk(FLOWS, 1)?;
        faulty.wait_fired(&agent, name, before + 1)?;
        faulty = faulty.crash_store();
    }
    faulty.settle(agent)?;
    faulty.fired("store_killed_in_mid_insert")
}

/// The engine itself refuses: parts are not merged, and there may be but few.
#[test]
fn too_many_parts_are_waited_for() -> Result<()> {
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.talk(ROWS as u64, 1)?;
    faulty.wait_acknowledged(&agent, PATIENCE)?;
    faulty.store.sql("SYSTEM STOP MERGES flow.flows");
    faulty.store.sql("ALTER TABLE flow.flows MODIFY SETTING parts_to_throw_insert = 1");
    faulty.talk(FLOWS, 1)?;
    agent.wait_log("252", PATIENCE)?;
    faulty.store.sql("ALTER TABLE flow.flows RESET SETTING parts_to_throw_insert");
    faulty.store.sql("SYSTEM START MERGES flow.flows");
    faulty.settle(agent)?;
    faulty.happened("too_many_parts", "the agent's log: code 252").map(drop)
}

/// Real writes to a real disk without room: the engine fails where it happens to be.
#[test]
fn a_store_out_of_disk_gets_everything_when_there_is_room() -> Result<()> {
    const MIB: u32 = 128;
    let disk = SmallDisk::new(MIB)?;
    let mut faulty = Faulty::before(Store::start_under(disk.path()))?;
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.talk(ROWS as u64, 1)?;
    faulty.wait_acknowledged(&agent, PATIENCE)?;
    disk.fill(0)?;
    faulty.talk(FLOWS, 1)?;
    agent.wait_log("refused to insert", PATIENCE)?;
    disk.empty()?;
    faulty.settle(agent)?;
    faulty.happened("store_out_of_disk", "the agent's log: refused to insert")?;
    drop(faulty);
    Ok(())
}

#[test]
fn a_table_that_is_read_only_is_waited_for() -> Result<()> {
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.talk(ROWS as u64, 1)?;
    faulty.wait_acknowledged(&agent, PATIENCE)?;
    faulty.store.sql("ALTER TABLE flow.flows MODIFY SETTING table_readonly = 1");
    faulty.talk(FLOWS, 1)?;
    agent.wait_log("readonly", PATIENCE)?;
    faulty.store.sql("ALTER TABLE flow.flows MODIFY SETTING table_readonly = 0");
    faulty.settle(agent)?;
    faulty.happened("store_read_only", "the agent's log: the table is readonly").map(drop)
}

#[test]
fn a_table_that_is_away_is_waited_for() -> Result<()> {
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.talk(ROWS as u64, 1)?;
    faulty.wait_acknowledged(&agent, PATIENCE)?;
    faulty.store.sql("DETACH TABLE flow.flows");
    faulty.talk(FLOWS, 1)?;
    agent.wait_log("Code: 60", PATIENCE)?;
    faulty.store.sql("ATTACH TABLE flow.flows");
    faulty.settle(agent)?;
    faulty.happened("table_detached", "the agent's log: code 60").map(drop)
}

#[test]
fn a_table_that_was_changed_is_waited_for() -> Result<()> {
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.talk(ROWS as u64, 1)?;
    faulty.wait_acknowledged(&agent, PATIENCE)?;
    faulty.store.sql("ALTER TABLE flow.flows RENAME COLUMN dscp TO dscp_of_somebody");
    faulty.talk(FLOWS, 1)?;
    agent.wait_log("dscp", PATIENCE)?;
    faulty.store.sql("ALTER TABLE flow.flows RENAME COLUMN dscp_of_somebody TO dscp");
    faulty.settle(agent)?;
    faulty.happened("table_changed", "the agent's log names the column").map(drop)
}
