//! Servers that come and go under a running agent.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::lab::Lab;
use flow_tests::process::Agent;
use flow_tests::rig;
use flow_tests::sql;
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::store::Store;
use flow_tests::traffic::{self, Ends};
use serde_json::Value;
use tempfile::TempDir;

use super::servers::Door;

const LIMIT: Duration = Duration::from_secs(60);
/// Flows are emitted quickly.
const HASTY: &str = "drain_interval_ms = 100\nidle_timeout_s = 1\nactive_timeout_s = 1\n";

/// Conversations of six packets; leaves how many packets both ends together metered.
fn talk(lab: &Lab, conversations: u64) -> Result<u64> {
    traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), conversations, 3, 40, 200)?;
    Ok(conversations * 12)
}

fn stored(store: &Store) -> Result<u64> {
    sql::number(store.url(), "SELECT sum(packets + reverse_packets) FROM flow.flows")
}

/// The states of the servers, in their order.
fn states(status: &Status) -> Result<Vec<String>> {
    let page = status.json("/api/v1/status")?;
    let endpoints = page["endpoints"].as_array().context("a list")?;
    let state = |endpoint: &Value| endpoint["state"].as_str().map(str::to_owned);
    endpoints.iter().map(|endpoint| state(endpoint).context("a state")).collect()
}

fn agent(lab: &Lab, store: &str, text: &str, more: &[&str]) -> Result<(Agent, TempDir)> {
    let folder = TempDir::new()?;
    let path = folder.path().join("config.toml");
    std::fs::write(&path, format!("{HASTY}{text}"))?;
    let path = path.to_str().context("UTF-8")?;
    let agent = rig::agent(lab, ("tc", "tc"), store, &[&["--config", path], more].concat())?;
    Ok((agent, folder))
}

/// Two ways to one server count as replicas: both share its deduplication log.
#[test]
fn batches_go_to_the_next_replica_and_back() -> Result<()> {
    let (lab, store) = (Lab::new()?, Store::start());
    let first = Door::open(store.url(), None);
    let second = Door::open(store.url(), None);
    let address = first.address();
    let urls = format!("http://{address},http://{}", second.address());
    let (agent, _folder) = agent(&lab, &urls, "", &ANY_PORT)?;
    let status = Status::of(&agent)?;
    let mut sent = talk(&lab, 50)?;
    agent.wait_until("the first rows are stored", LIMIT, || Ok(stored(&store)? == sent))?;
    ensure!(states(&status)? == ["up", "up"], "both were looked at");
    drop(first);
    sent += talk(&lab, 50)?;
    agent.wait_until("the others went the other way", LIMIT, || Ok(stored(&store)? == sent))?;
    ensure!(states(&status)? == ["down", "up"], "what was tried is known");
    let up = format!("flow_agent_store_up{{endpoint=\"http://{address}/flow\"}}");
    ensure!(status.metrics()?.get(&up) == Some(&0.0), "{up} is 0");
    let first = Door::open_at(address, store.url(), None);
    agent.wait_log(&format!("http://{address}/flow answers again"), LIMIT)?;
    drop(second);
    sent += talk(&lab, 50)?;
    agent.wait_until("rows go the first way again", LIMIT, || Ok(stored(&store)? == sent))?;
    ensure!(states(&status)?[0] == "up", "it answers");
    let log = agent.stop()?;
    ensure!(stored(&store)? == sent, "{log}");
    drop(first);
    store.stop();
    Ok(())
}

#[test]
fn servers_that_share_nothing_are_no_replicas() -> Result<()> {
    let stores = (Store::start(), Store::start());
    let urls = format!("{},{}", stores.0.url(), stores.1.url());
    let output = std::process::Command::new(flow_tests::bin_path::flow_agent())
        .args(["schema", "apply", "--store", &urls])
        .output()?;
    super::assert_refused(&output, 2, "share no deduplication log");
    Ok(())
}

#[test]
fn a_shard_that_is_away_is_left_out_until_it_is_back() -> Result<()> {
    let lab = Lab::new()?;
    let (left, right) = (Store::start(), Store::start());
    let text = "[delivery]\nplacement = 'round_robin'\n";
    let (agent, _folder) = agent(&lab, left.url(), text, &["--store", right.url()])?;
    let mut sent = talk(&lab, 50)?;
    let both = |left: &Store, right: &Store| -> Result<u64> { Ok(stored(left)? + stored(right)?) };
    agent.wait_until("rows are stored", LIMIT, || Ok(both(&left, &right)? == sent))?;
    let before = stored(&right)?;
    let kept = sent - before;
    let killed = left.kill();
    // Shards take turns: one of a few batches is meant for it.
    for _ in 0..10 {
        sent += talk(&lab, 20)?;
        let all = || Ok(stored(&right)? + kept == sent);
        agent.wait_until("all rows go to the other", LIMIT, all)?;
        if agent.log().contains("another server of the store is tried") {
            break;
        }
    }
    let left = killed.start();
    agent.wait_log(&format!("{}/flow answers again", left.url()), LIMIT)?;
    let before = stored(&left)?;
    ensure!(before == kept, "what was stored before the kill is there");
    for _ in 0..3 {
        sent += talk(&lab, 20)?;
        agent.wait_until("rows are stored", LIMIT, || Ok(both(&left, &right)? == sent))?;
    }
    ensure!(stored(&left)? > before, "it gets rows again");
    agent.stop()?;
    ensure!(both(&left, &right)? == sent, "nothing is lost or doubled");
    left.stop();
    right.stop();
    Ok(())
}
