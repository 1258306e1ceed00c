//! An outage under load: memory stays bounded, and everything is delivered afterwards. Needs root,
//! the agent's binary and libchdb. `FLOW_OUTAGE_SECONDS` says how long, `FLOW_OUTAGE_FLOWS` how
//! many new flows a second; with `FLOW_OUTAGE_SPREAD=1` each asks a service of its own, and the
//! rollups have a row for each, which is the most they can cost.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flow_tests::faults::{self, Outcome};
use flow_tests::faulty::Faulty;
use flow_tests::peak::Peak;
use flow_tests::process::memory;
use flow_tests::status::Status;
use flow_tests::traffic::{self, Ends};
use flow_tests::{setting, sql, stored};

/// Batches in memory beside those on disk; room for ten minutes of 100,000 flows a second.
const CONFIG: &str = "spool.memory_mib = 16\nspool.max_mib = 24576\n";

#[test]
fn memory_is_bounded_while_the_store_is_away() -> Result<()> {
    /// Open flows of a second or two, batches on their way, the allocator's reserve.
    const MOST: u64 = 400 << 20;
    let seconds = setting("FLOW_OUTAGE_SECONDS", 4);
    let flows = setting("FLOW_OUTAGE_FLOWS", 100_000);
    let faulty = Faulty::new()?;
    let agent = faulty.agent(CONFIG)?;
    let idle = memory(agent.id())?;
    let (left, right) = (&faulty.lab.left, &faulty.lab.right);
    let before = (left.received()?, right.received()?);
    faulty.proxy.refuse()?;
    let (started, peak) = (Instant::now(), Peak::of(agent.id()));
    let ends = Ends::v4((left, 0), (right, 0), 443);
    let sent = match setting("FLOW_OUTAGE_SPREAD", 0) {
        0 => traffic::clients(ends, flows, seconds, 40)?,
        _ => traffic::spread(ends, flows, seconds, 40)?,
    };
    let outage = started.elapsed();
    let most = peak.stop()?;
    let after = (left.received()?, right.received()?);
    // What came back are errors of ports where nobody listens.
    let packets = after.0.0 - before.0.0 + after.1.0 - before.1.0;
    let octets = after.0.1 - before.0.1 + after.1.1 - before.1.1;
    ensure!(after.1.0 - before.1.0 == sent.conversations, "datagrams were lost on the wire");
    faulty.proxy.accept()?;
    let started = Instant::now();
    // Its own word first: to ask the store for the sum of so many rows again and again would be
    // work for the store.
    let patience = Duration::from_mins(2).max(outage);
    let status = Status::of(&agent)?;
    agent.wait_until("the spool is empty", patience, || {
        Ok(status.json("/api/v1/status")?["spool"]["batches"] == 0)
    })?;
    faulty.wait_stored(&agent, packets)?;
    println!(
        "{} flows in {outage:.1?} without a store, {} a second; memory {} MiB idle, {} MiB at most; \
         all delivered {:.1?} after the outage",
        sent.conversations,
        sent.conversations / outage.as_secs().max(1),
        idle >> 20,
        most >> 20,
        started.elapsed()
    );
    ensure!(most < MOST, "{} MiB", most >> 20);
    agent.stop()?;
    let url = faulty.store.url();
    let [forward, forward_octets, backward, backward_octets] = stored::agreed(url)?;
    assert_eq!((forward + backward, forward_octets + backward_octets), (packets, octets));
    // Each flow was one datagram. A late drain may have joined two of the same key.
    let rows = sql::number(url, "SELECT count() FROM flow.flows WHERE protocol = 17")?;
    assert!((sent.conversations * 9 / 10..=sent.conversations).contains(&rows), "{rows} rows");
    let proof = format!("port closed for {outage:.0?}; memory {} MiB at most", most >> 20);
    faults::record("store_away_under_load", &proof, Outcome::compare(url, packets)?)
}
