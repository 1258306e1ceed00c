//! `flow-agent reconcile`: the ledger against the drivers' counters, with and without packets that
//! no hook sees. Needs root, the agent's binary and libchdb.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::foreign::Foreign;
use flow_tests::process::Agent;
use flow_tests::rig::Rig;
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::traffic::{self, Ends};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const FAST: [&str; 2] = ["--drain-interval", "50"];

/// A comparison that has begun.
struct Running {
    child: Child,
}

impl Running {
    /// Begins one, and waits until its first reading is over.
    fn start(status: &Status) -> Result<Self> {
        let mut child = Command::new(flow_agent())
            .args(["reconcile", "--json", "--seconds", "60", "--status", status.address()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stderr.take().context("piped")?).read_line(&mut line)?;
        ensure!(line.starts_with("comparing for 60 s"), "{line}");
        Ok(Self { child })
    }

    /// Exit code and object.
    fn end(self) -> Result<(Option<i32>, Value)> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT)?;
        let output = self.child.wait_with_output()?;
        let page: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(page["seconds"].as_f64().is_some_and(|it| it < 60.0), "it ended by itself");
        Ok((output.status.code(), page))
    }
}

fn agent(rig: &Rig, more: &[&str]) -> Result<(Agent, Status)> {
    let agent = rig.agent_with(("tc", "tc"), &[&ANY_PORT, &FAST, more].concat())?;
    let status = Status::of(&agent)?;
    Ok((agent, status))
}

fn at<'a>(page: &'a Value, interface: &str) -> Result<&'a Value> {
    let all = page["interfaces"].as_array().context("a list")?;
    let is_it =
        |it: &&Value| it["interface"].as_str().is_some_and(|name| name.ends_with(interface));
    all.iter().find(is_it).with_context(|| format!("{interface} is there: {page:#}"))
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(i64::MIN)
}

/// The parts of the difference whose reason has these words, in packets.
fn explained(it: &Value, words: &str) -> i64 {
    let parts = it["explained"].as_array().map(Vec::as_slice).unwrap_or_default();
    let why = |part: &&Value| part["why"].as_str().is_some_and(|why| why.contains(words));
    parts.iter().filter(why).map(|part| number(&part["packets"])).sum()
}

#[test]
fn all_that_the_drivers_counted_was_seen_and_super_packets_are_explained() -> Result<()> {
    let rig = Rig::new()?;
    let (agent, status) = agent(&rig, &[])?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let running = Running::start(&status)?;
    traffic::ask(Ends::v4((left, 0), (right, 0), 53), 20, 5, 40, 300)?;
    traffic::bulk(Ends::v4((left, 1), (right, 1), 5001), 20_000_000, 20_000_000)?;
    let (code, page) = running.end()?;
    for interface in ["veth-left", "veth-right"] {
        let it = at(&page, interface)?;
        assert_eq!(it["unexplained"], 0, "{page:#}");
        assert!(number(&it["hooks"]) > number(&it["driver"]), "super-packets: {page:#}");
        assert!(explained(it, "super-packets") > 1_000, "{page:#}");
        let metered = it["ledger"].as_array().and_then(|list| list.first()).context("a ledger")?;
        assert_eq!(metered[1], it["hooks"], "all of it is in flows: {page:#}");
    }
    assert_eq!(code, Some(0), "{page:#}");
    let namespaces = page["sockets"].as_array().context("a list")?;
    assert!(namespaces.iter().any(|it| number(&it["counters"]["Udp.InDatagrams"]) >= 100));
    agent.stop()?;
    Ok(())
}

#[test]
fn packets_that_another_program_keeps_are_its_packets_while_it_is_there() -> Result<()> {
    let rig = Rig::new()?;
    let (agent, status) = agent(&rig, &[])?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    // There at the end: it is to blame. Gone before: nobody can know.
    for stays in [true, false] {
        let running = Running::start(&status)?;
        let foreign = Foreign::drop_all(right)?;
        traffic::flood(Ends::v4((left, 0), (right, 0), 0), 500, 100)?;
        let foreign = Some(foreign).filter(|_| stays);
        let (code, page) = running.end()?;
        drop(foreign);
        let it = at(&page, "veth-right")?;
        if stays {
            assert_eq!(explained(it, Foreign::NAME), -500, "{page:#}");
            assert_eq!((it["unexplained"].clone(), code), (0.into(), Some(0)), "{page:#}");
        } else {
            assert_eq!((number(&it["unexplained"]), code), (-500, Some(1)), "{page:#}");
        }
        assert_eq!(at(&page, "veth-left")?["unexplained"], 0, "{page:#}");
    }
    agent.stop()?;
    Ok(())
}

#[test]
fn traffic_while_an_interface_is_detached_is_told_as_such() -> Result<()> {
    let rig = Rig::new()?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("agent.toml");
    let both = |leave_out: &str| {
        let text = format!("exclude_interfaces = [{leave_out}]\n");
        std::fs::write(&file, text)
    };
    both("")?;
    let path = file.display().to_string();
    let (agent, status) = agent(&rig, &["--config", &path])?;
    let metered = |count: usize| -> Result<()> {
        agent.wait_until("so many are metered", Duration::from_secs(20), || {
            let page = status.json("/api/v1/interfaces")?;
            Ok(page["metered"].as_array().is_some_and(|list| list.len() == count))
        })
    };
    metered(2)?;
    let running = Running::start(&status)?;
    both(&format!("\"{}/{}\"", right.namespace.name(), right.interface))?;
    agent.signal(Signal::HUP)?;
    metered(1)?;
    traffic::flood(Ends::v4((left, 0), (right, 0), 0), 300, 100)?;
    both("")?;
    agent.signal(Signal::HUP)?;
    metered(2)?;
    let (code, page) = running.end()?;
    let it = at(&page, "veth-right")?;
    assert!(explained(it, "detached and attached again") <= -300, "{page:#}");
    assert_eq!((it["unexplained"].clone(), code), (0.into(), Some(0)), "{page:#}");
    assert_eq!(at(&page, "veth-left")?["unexplained"], 0, "{page:#}");

    // What nobody asked to meter is told, too.
    let output = status.command(&["reconcile", "--seconds", "1", "--interface", "lo"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("lo (not metered)"), "{text}");
    assert_eq!(output.status.code(), Some(0), "{text}");
    agent.stop()?;
    Ok(())
}
