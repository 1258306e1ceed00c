//! A network that fails between the agent and its store: every packet is stored once, whatever
//! happened to requests and answers on the way. Needs root, the agent's binary and libchdb.

use std::time::Duration;

use anyhow::Result;
use flow_tests::faulty::{Faulty, batches};
use flow_tests::proxy::{Fault, Kind, Schedule};

/// Flows of one test; each leaves as one row.
const FLOWS: u64 = 400;
/// Rows of a batch: twenty batches or more.
const ROWS: usize = 20;

/// The same fault at the first try of each of these batches.
fn at_first_tries(fault: impl FnMut(u64) -> Fault + Send + 'static) -> Result<Faulty> {
    at_first_tries_of("", fault)
}

/// The same with more configuration.
fn at_first_tries_of(
    config: &str,
    fault: impl FnMut(u64) -> Fault + Send + 'static,
) -> Result<Faulty> {
    const BATCHES: u64 = 15;
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&[&batches(ROWS), config].concat())?;
    faulty.proxy.on_flows(Schedule::first_tries(BATCHES, fault));
    faulty.talk(FLOWS, 2)?;
    faulty.settle(agent)?;
    assert_eq!(faulty.proxy.fired().total(), BATCHES, "{:?}", faulty.proxy.fired().all());
    Ok(faulty)
}

#[test]
fn a_store_that_is_down_gets_everything_when_it_is_back() -> Result<()> {
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.talk(100, 1)?;
    faulty.proxy.refuse()?;
    faulty.talk(FLOWS, 2)?;
    agent.wait_log("Connection refused", flow_tests::faulty::PATIENCE)?;
    faulty.proxy.accept()?;
    faulty.talk(100, 1)?;
    faulty.settle(agent)?;
    faulty.happened("store_down", "the agent's log: Connection refused").map(drop)
}

#[test]
fn a_connection_that_is_reset_before_the_insert_loses_nothing() -> Result<()> {
    at_first_tries(|_| Fault::Reset)?.fired("connection_reset")
}

#[test]
fn an_insert_cut_at_any_octet_is_stored_once() -> Result<()> {
    // The beginning octet by octet, the rest in steps that grow, the end.
    let ends = [0, 1, 2, 3, 5, 9, 17, 100, 500, 1_000, 2_000, 3_000, 4_000, 5_000, u64::MAX];
    at_first_tries(move |batch| Fault::CutRequest { after: ends[batch as usize] })?
        .fired("insert_cut")
}

#[test]
fn an_answer_cut_at_any_octet_does_not_store_twice() -> Result<()> {
    let ends = [0, 1, 8, 9, 12, 13, 15, 20, 40, 80, 120, 160, 200, 300, u64::MAX];
    at_first_tries(move |batch| Fault::CutAnswer { after: ends[batch as usize] })?
        .fired("answer_cut")
}

#[test]
fn a_commit_whose_answer_is_lost_is_not_repeated() -> Result<()> {
    at_first_tries(|_| Fault::DropReply)?.fired("reply_lost")
}

#[test]
fn a_slow_network_stores_everything_once() -> Result<()> {
    at_first_tries(|_| Fault::Slow { rate: 50_000 })?.fired("store_slow")
}

/// Nothing is heard: half sent, sent but for an octet, not answered, answered too late.
#[test]
fn inserts_that_hang_are_given_up_and_stored_once() -> Result<()> {
    const LATE: Duration = Duration::from_secs(5);
    let hasty = "delivery.insert_timeout_s = 1\ndelivery.read_timeout_s = 1\n";
    let faults = [
        Fault::Hang,
        Fault::Stall { after: 1_000 },
        Fault::Stall { after: u64::MAX },
        Fault::DelayReply(LATE),
    ];
    at_first_tries_of(hasty, move |batch| faults[batch as usize % 4].clone())?.fired("store_hangs")
}

/// All of it, also for the ledger, the latencies and what else the agent asks.
#[test]
fn chance_at_every_request_stores_everything_once() -> Result<()> {
    const SEED: u64 = 0x5eed;
    let kinds = [Kind::Reset, Kind::CutRequest, Kind::CutAnswer, Kind::DropReply, Kind::Slow];
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    let schedule = Schedule::new(SEED, 3).of(&kinds).cut_within(6_000);
    faulty.proxy.on_request(schedule.script());
    faulty.talk(FLOWS, 2)?;
    faulty.settle(agent)?;
    assert!(faulty.proxy.fired().total() >= 5, "{:?}", faulty.proxy.fired().all());
    faulty.fired("chance_at_every_request")
}
