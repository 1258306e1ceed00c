//! Answers that are no: the store's own errors, errors of what stands before it, and answers of
//! something that is no store. The agent holds what it has and goes on when the store takes it.
//! Needs root, the agent's binary and libchdb.

use anyhow::Result;
use flow_tests::faulty::{Faulty, PATIENCE, batches};
use flow_tests::peak::Peak;
use flow_tests::process::memory;
use flow_tests::proxy::{Answer, Fault, Schedule};
use flow_tests::status::Status;

const FLOWS: u64 = 400;
const ROWS: usize = 20;

/// Each of these faults happens at the first try of a batch; all is stored once afterwards.
fn each_once(name: &str, faults: Vec<Fault>) -> Result<()> {
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    let count = faults.len() as u64;
    let script = move |batch| faults[batch as usize].clone();
    faulty.proxy.on_flows(Schedule::first_tries(count, script));
    faulty.talk(FLOWS, 2)?;
    faulty.settle(agent)?;
    assert_eq!(faulty.proxy.fired().total(), count, "{:?}", faulty.proxy.fired().all());
    faulty.fired(name)
}

/// Too many parts, memory, too many queries, timeout, read-only, no space: before and after.
#[test]
fn errors_of_the_store_that_pass_are_tried_again() -> Result<()> {
    let codes = [252, 241, 202, 159, 242, 243];
    let instead = codes.map(|code| Fault::Instead(Answer::Exception(code)));
    let after = codes.map(|code| Fault::After(Answer::Exception(code)));
    each_once("errors_that_pass", [instead, after].concat())
}

#[test]
fn errors_of_what_stands_before_the_store_are_tried_again() -> Result<()> {
    let statuses =
        [500, 502, 503, 504, 404, 429].map(|status| Fault::Instead(Answer::Status(status)));
    let after = [500, 502, 503, 504].map(|status| Fault::After(Answer::Status(status)));
    each_once("errors_of_a_gateway", [&statuses[..], &after].concat())
}

/// A 200 that no ClickHouse gave, a page, a redirect, noise: none of it is an acknowledgement.
#[test]
fn an_answer_of_something_else_acknowledges_nothing() -> Result<()> {
    let answers = vec![
        Fault::Instead(Answer::Page),
        Fault::Instead(Answer::Status(200)),
        Fault::Instead(Answer::Status(204)),
        Fault::Instead(Answer::Redirect("http://127.0.0.1:1/".into())),
        Fault::Instead(Answer::Garbage),
        Fault::After(Answer::Page),
        Fault::After(Answer::Garbage),
    ];
    each_once("page_for_an_answer", answers)
}

#[test]
fn a_huge_body_is_not_read_into_memory() -> Result<()> {
    const OCTETS: u64 = 100 << 20;
    /// Less than one body.
    const MOST: u64 = 60 << 20;
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.talk(ROWS as u64, 1)?;
    faulty.wait_acknowledged(&agent, PATIENCE)?;
    let (before, peak) = (memory(agent.id())?, Peak::of(agent.id()));
    // As ClickHouse would, and as anything else would; a 200 of ClickHouse's would be true.
    let statuses = [(500, true), (404, true), (503, true), (500, false), (200, false)];
    let count = statuses.len() as u64;
    let script = move |batch| {
        let (status, marked) = statuses[batch as usize];
        Fault::Instead(Answer::Huge { status, octets: OCTETS, marked })
    };
    faulty.proxy.on_flows(Schedule::first_tries(count, script));
    faulty.talk(FLOWS, 1)?;
    faulty.wait_acknowledged(&agent, PATIENCE)?;
    let grown = peak.stop()?.saturating_sub(before);
    println!("memory has grown by {} KiB", grown >> 10);
    assert!(grown < MOST, "{} KiB more for bodies that mean nothing", grown >> 10);
    faulty.settle(agent)?;
    assert!(faulty.proxy.fired().of("other answer") >= 1, "{:?}", faulty.proxy.fired().all());
    faulty.fired("huge_error_body")
}

/// Batches of a table that is away wait without the slots of the others, and are stored when it
/// is there again.
#[test]
fn a_missing_table_keeps_its_own_batches_back_alone() -> Result<()> {
    /// As many as there are slots.
    const SLOTS: u64 = 2;
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent(&batches(ROWS))?;
    faulty.talk(ROWS as u64, 1)?;
    faulty.wait_acknowledged(&agent, PATIENCE)?;
    faulty.store.sql("RENAME TABLE flow.latency TO flow.away");
    let status = Status::of(&agent)?;
    agent.wait_until("more batches of it wait than there are slots", PATIENCE, || {
        let now = status.json("/api/v1/status")?;
        Ok(now["delivery"]["in_flight"].as_u64() > Some(SLOTS))
    })?;
    faulty.talk(FLOWS, 1)?;
    faulty.wait_acknowledged(&agent, PATIENCE)?;
    faulty.store.sql("RENAME TABLE flow.away TO flow.latency");
    faulty.settle(agent)?;
    faulty
        .happened("other_table_missing", "more batches of it were under way than there are slots")
        .map(drop)
}
