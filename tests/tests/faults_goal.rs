//! The goal: whatever happens between the spool and the store, and to both, every row that was
//! frozen is stored once, in the table and in each rollup. Needs root, the agent's binary and
//! libchdb. `FLOW_FAULTS` says how many replies are dropped, `FLOW_FAULT_SCHEDULES` how many
//! random schedules are run, `FLOW_FAULT_SEED` with which seed they begin.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;
use flow_tests::faulty::{Faulty, batches};
use flow_tests::process::Agent;
use flow_tests::proxy::{Fault, Schedule};
use flow_tests::setting;
use flow_tests::wild::Dice;

/// Rows of a batch: small, so that there are many.
const ROWS: u64 = 5;

/// Each batch is committed and its first reply dropped.
#[test]
fn a_thousand_lost_replies_store_nothing_twice() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(600);
    let faults = setting("FLOW_FAULTS", 150);
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS as usize))?;
    faulty.proxy.on_flows(Schedule::first_tries(faults, |_| Fault::DropReply));
    let started = Instant::now();
    // A fifth more: ports that come twice are one flow.
    faulty.talk(faults * ROWS * 6 / 5, 1)?;
    faulty.wait_acknowledged(&agent, LIMIT)?;
    let took = started.elapsed();
    faulty.settle(agent)?;
    println!("{faults} lost replies in {took:.1?}, {} requests", faulty.proxy.requests());
    assert_eq!(faulty.proxy.fired().of("drop reply"), faults);
    faulty.fired("many_replies_lost")
}

/// Schedules run on one spool before all of it is compared.
const TOGETHER: u64 = 6;
/// Of a round of them.
const FLOWS: u64 = 900;

#[test]
fn random_kills_and_outages_lose_and_repeat_nothing() -> Result<()> {
    let schedules = setting("FLOW_FAULT_SCHEDULES", TOGETHER);
    let seed = setting("FLOW_FAULT_SEED", 1);
    let mut dice = Dice::new(seed);
    let mut faulty = Faulty::new()?;
    let mut done = 0;
    while done < schedules {
        let config = batches(ROWS as usize);
        // Everything is frozen while the store is away, then the agent is killed.
        let agent = faulty.agent(&config)?;
        faulty.proxy.refuse()?;
        faulty.talk(FLOWS, 1)?;
        faulty.wait_frozen(&agent, FLOWS)?;
        agent.kill()?;
        faulty.proxy.accept()?;
        let mut agent = faulty.agent(&config)?;
        for _ in 0..TOGETHER.min(schedules - done) {
            println!("schedule {done} of seed {seed}");
            (faulty, agent) = disturb(faulty, agent, &mut dice, &config)?;
            done += 1;
        }
        faulty.proxy.calm();
        faulty.settle_again(agent)?;
    }
    println!("{done} schedules; faults {:?}", faulty.proxy.fired().all());
    faulty.fired("random_kills_and_outages")
}

/// A schedule: faults at some requests, then agent or store or both are killed at some moment.
fn disturb(
    mut faulty: Faulty,
    mut agent: Agent,
    dice: &mut Dice,
    config: &str,
) -> Result<(Faulty, Agent)> {
    /// An agent that waits before its next try is killed then.
    const LATEST: Duration = Duration::from_secs(2);
    let mut schedule =
        Schedule::new(dice.below(1 << 30) as u64, 2 + dice.below(5)).cut_within(3_000);
    let mut inserts = 1 + dice.below(15);
    let (sender, moment) = mpsc::channel();
    faulty.proxy.on_request(move |request| {
        if request.inserts_into("flows") {
            inserts = inserts.saturating_sub(1);
        }
        if inserts == 0 {
            // Whoever waits has heard of it before, or has given up.
            let _ = sender.send(());
        }
        schedule.next_fault()
    });
    let _ = moment.recv_timeout(LATEST);
    // Somewhere in this request, or in those after it.
    let (_nobody, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(Duration::from_micros(dice.below(20_000) as u64));
    let (of_agent, of_store) = dice.pick(&[(true, false), (false, true), (true, true)]);
    if of_agent {
        agent.kill()?;
        if of_store {
            faulty = faulty.crash_store();
        }
        // What an agent asks at its start is another test's.
        faulty.proxy.calm();
        agent = faulty.agent(config)?;
    } else {
        faulty = faulty.crash_store();
    }
    Ok((faulty, agent))
}
