//! Filters, sampling and own traffic of the whole agent on real traffic: what is in
//! ClickHouse is what the configuration lets through, and the rest is in the ledger.
//! Needs root, the agent's binary and libchdb.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::faults::{self, Outcome};
use flow_tests::lab::{Lab, Side};
use flow_tests::ledger::Ledger;
use flow_tests::process::Agent;
use flow_tests::rig::{self, Rig};
use flow_tests::rows;
use flow_tests::tally::{Count, Counts, Flows, Key};
use flow_tests::traffic::{self, Ends, Sent};
use flow_tests::{hooks, sql};
use rustix::process::Signal;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const IN_FORCE: &str = "are in force\n";

/// A configuration file that can be changed.
struct Configuration {
    folder: TempDir,
}

impl Configuration {
    fn new(text: &str) -> Result<Self> {
        let configuration = Self { folder: TempDir::with_prefix("flow-filters-")? };
        configuration.write(text)?;
        Ok(configuration)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("agent.toml")
    }

    fn write(&self, text: &str) -> Result<()> {
        Ok(fs::write(self.path(), text)?)
    }

    fn agent(&self, rig: &Rig, attach: (&str, &str)) -> Result<Agent> {
        let path = self.path().display().to_string();
        rig.agent_with(attach, &["--config", &path, "--drain-interval", "100"])
    }
}

/// Some of everything, both ways, both families.
fn some(lab: &Lab) -> Result<Sent> {
    let (left, right) = (&lab.left, &lab.right);
    let mut sent = traffic::short(Ends::v4((left, 0), (right, 0), 80), 60, 200, 5_000)?;
    sent.add(traffic::short(Ends::v6((left, 0), (right, 0), 443), 60, 700, 20_000)?);
    sent.add(traffic::short(Ends::v4((left, 2), (right, 0), 443), 20, 700, 2_000)?);
    sent.add(traffic::short(Ends::v4((right, 2), (left, 0), 5432), 20, 100, 100)?);
    sent.add(traffic::ask(Ends::v4((left, 1), (right, 1), 53), 100, 2, 40, 300)?);
    sent.add(traffic::ask(Ends::v6((right, 3), (left, 3), 53), 100, 2, 40, 1_200)?);
    sent.add(traffic::ask(Ends::v4((left, 3), (right, 1), 53), 30, 2, 40, 1_200)?);
    sent.add(traffic::ping(Ends::v4((left, 0), (right, 0), 0), 20, 56)?);
    sent.add(traffic::ping(Ends::v6((right, 0), (left, 0), 0), 20, 1_000)?);
    Ok(sent)
}

fn sum(flows: &Flows) -> Count {
    let mut sum = Count::default();
    for count in flows.values() {
        sum.add(*count);
    }
    sum
}

/// The rows are the tally's flows that `passes`; the rest is counted under `reason`.
fn check(
    url: &str,
    interface: &str,
    counts: &Counts,
    reason: &str,
    passes: impl Fn(&Key) -> bool,
) -> Result<()> {
    let mut wire = counts.by_key();
    wire.retain(|key, _| passes(key));
    let different = rows::differences(&wire, &rows::flows(url, interface)?);
    ensure!(different.is_empty(), "{interface}, flows that differ:\n{}", different.join("\n"));
    let (ledger, metered) = (Ledger::read(url, interface)?, sum(&wire));
    ensure!(ledger.unaccounted() == (0, 0), "{interface}: {ledger:?}");
    ensure!(ledger.seen == counts.total, "{interface}: {ledger:?}, wire {:?}", counts.total);
    ensure!(ledger.metered == metered && ledger.acknowledged == metered, "{ledger:?} {metered:?}");
    let left_out = Ledger::not_metered(url, interface, reason)?;
    let expected = Count {
        packets: counts.total.packets - metered.packets,
        octets: counts.total.octets - metered.octets,
    };
    ensure!(left_out == expected, "{interface}: {reason} {left_out:?}, not {expected:?}");
    ensure!(metered.packets > 0 && left_out.packets > 0, "the test tests nothing");
    Ok(())
}

#[test]
fn only_what_the_filters_let_through_is_stored_and_the_rest_is_counted() -> Result<()> {
    let rig = Rig::new()?;
    let configuration = Configuration::new(
        "[filter]\n\
         include = [\"10.77.0.0/16\", \"10.77.1.4/32\", \"fd00:77::/112\"]\n\
         exclude = [\"10.77.1.0/30\", \"10.77.2.3\"]\n\
         exclude_ports = [443]\n\
         exclude_protocols = [\"icmpv6\"]\n",
    )?;
    let agent = configuration.agent(&rig, ("xdp", "tc"))?;
    let (left, right) = rig::tally(&rig.lab, some)?;
    agent.stop()?;
    let host = |text: &str| text.parse::<IpAddr>().expect("an address");
    let excluded = ["10.77.1.1", "10.77.1.2", "10.77.1.3", "10.77.2.3"].map(host);
    let passes = |key: &Key| {
        let excludes = |address| excluded.contains(&address);
        !excludes(key.source)
            && !excludes(key.destination)
            && key.source_port != 443
            && key.destination_port != 443
            && key.protocol != 58
    };
    for (side, counts) in [(&rig.lab.left, &left), (&rig.lab.right, &right)] {
        check(rig.store.url(), side.interface, counts, "filtered", passes)?;
    }
    Ok(())
}

#[test]
fn a_sampled_flow_is_stored_whole_and_the_same_flows_at_both_ends() -> Result<()> {
    let rig = Rig::new()?;
    let configuration = Configuration::new("[sampling]\nmode = \"flow\"\nrate = 3\n")?;
    let agent = configuration.agent(&rig, ("xdp", "tc"))?;
    let (left, right) = rig::tally(&rig.lab, some)?;
    agent.stop()?;
    let url = rig.store.url();
    let at_left = rows::flows(url, rig.lab.left.interface)?;
    for (side, counts) in [(&rig.lab.left, &left), (&rig.lab.right, &right)] {
        // Every flow of the sample is exact, and what is at one end is at the other.
        check(url, side.interface, counts, "not_sampled", |key| at_left.contains_key(key))?;
    }
    let (flows, sampled) = (left.by_key().len(), at_left.len());
    // Far more than five standard deviations of some 400 flows at 1 in 3.
    assert!(sampled * 6 > flows && sampled * 2 < flows, "{sampled} of {flows} at 1 in 3");
    for key in at_left.keys() {
        let back = Key {
            source: key.destination,
            destination: key.source,
            source_port: key.destination_port,
            destination_port: key.source_port,
            ..*key
        };
        assert!(at_left.contains_key(&back), "one direction only: {key:?}");
    }
    assert_eq!(sql::text(url, "SELECT DISTINCT sampling FROM flow.flows")?, "3\n");
    Ok(())
}

#[test]
fn sampled_packets_and_the_others_are_all_packets() -> Result<()> {
    let rig = Rig::new()?;
    let configuration = Configuration::new("[sampling]\nmode = \"packet\"\nrate = 10\n")?;
    let agent = configuration.agent(&rig, ("xdp", "tc"))?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let (at_left, at_right) = rig::tally(&rig.lab, |_| {
        traffic::ask(Ends::v4((left, 0), (right, 0), 53), 200, 50, 100, 100)
    })?;
    agent.stop()?;
    let url = rig.store.url();
    for (side, counts) in [(left, &at_left), (right, &at_right)] {
        let ledger = Ledger::read(url, side.interface)?;
        let not_sampled = Ledger::not_metered(url, side.interface, "not_sampled")?;
        assert_eq!(ledger.seen, counts.total);
        assert_eq!(ledger.unaccounted(), (0, 0));
        assert_eq!(ledger.not_metered.packets, not_sampled.packets + counts.other);
        assert_eq!(ledger.metered.packets + not_sampled.packets, counts.total.packets);
        assert_eq!(ledger.acknowledged, ledger.metered);
        // 20,000 packets: ten standard deviations are 424.
        let expected = counts.total.packets / 10;
        let metered = ledger.metered.packets;
        assert!(metered.abs_diff(expected) < 424, "{metered} of {}", counts.total.packets);
    }
    assert_eq!(sql::text(url, "SELECT DISTINCT sampling FROM flow.flows")?, "10\n");
    Ok(())
}

#[test]
fn rules_change_under_traffic_without_attaching_again_and_nothing_is_unaccounted() -> Result<()> {
    let rig = Rig::new()?;
    let configuration = Configuration::new("")?;
    let agent = configuration.agent(&rig, ("tc", "tc"))?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let programs = (hooks::program_ids(left)?, hooks::program_ids(right)?);
    assert_eq!((programs.0.len(), programs.1.len()), (2, 2));
    let steps = [
        "[filter]\nexclude_ports = [514]\n",
        "[sampling]\nmode = \"flow\"\nrate = 2\n",
        "[sampling]\nmode = \"packet\"\nrate = 5\n[filter]\nexclude = [\"10.77.1.3/32\"]\n",
        "",
    ];
    let counts = rig::tally(&rig.lab, |_| {
        std::thread::scope(|scope| {
            // Goes on through all changes.
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let background = scope.spawn(move || -> Result<Sent> {
                let mut sent = Sent::default();
                while stopped.try_recv().is_err() {
                    sent.add(traffic::stream(Ends::v4((right, 1), (left, 1), 514), 500, 900)?);
                    sent.add(traffic::ask(Ends::v6((left, 2), (right, 2), 53), 20, 2, 40, 300)?);
                }
                Ok(sent)
            });
            let changed = (0..).zip(steps).try_for_each(|(step, text)| {
                configuration.write(text)?;
                agent.signal(Signal::HUP)?;
                agent.wait_times(IN_FORCE, step + 1, PATIENCE)?;
                let port = 7000 + step as u16;
                traffic::ask(Ends::v4((left, 2), (right, 2), port), 20, 2, 40, 300)?;
                traffic::stream(Ends::v4((left, 0), (right, 0), 514), 50, 100)?;
                anyhow::Ok(())
            });
            let _ = stop.send(()); // it may have failed and gone
            let sent = background.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
            changed.map(|()| sent)
        })
    })?;
    assert_eq!((hooks::program_ids(left)?, hooks::program_ids(right)?), programs);
    let log = agent.stop()?;
    let url = rig.store.url();
    for (side, counts) in [(left, &counts.0), (right, &counts.1)] {
        let ledger = Ledger::read(url, side.interface)?;
        assert_eq!(ledger.seen, counts.total, "{log}");
        assert_eq!((ledger.unaccounted(), ledger.in_flight()), ((0, 0), (0, 0)), "{ledger:?}");
        assert_eq!(ledger.lost.packets, 0);
        for reason in ["filtered", "not_sampled"] {
            assert!(Ledger::not_metered(url, side.interface, reason)?.packets > 0, "{reason}");
        }
        // At either end: a client's port may happen to be that of a service.
        let of = |port: u16, select: &str| {
            let interface = side.interface;
            let query = format!(
                "SELECT {select} FROM flow.flows WHERE {port} IN (src_port, dst_port) \
                 AND endsWith(interface, '{interface}')"
            );
            sql::number(url, &query)
        };
        // In force in each step: all, a sample with its weight, none, all again.
        assert_eq!(of(7000, "sum(packets + reverse_packets)")?, 80);
        assert_eq!(of(7001, "countIf(sampling != 2)")?, 0);
        assert_eq!(of(7001, "countIf(packets != 2 OR reverse_packets != 2)")?, 0);
        assert_eq!(of(7002, "count()")?, 0);
        assert_eq!(of(7003, "sum((packets + reverse_packets) * sampling)")?, 80);
        // The left side's packets to port 514 met all steps, those to the right only the last.
        assert_eq!(of(514, "uniqExact(sampling)")?, 3, "{log}");
    }
    Ok(())
}

#[test]
fn a_bad_file_changes_nothing_and_what_needs_a_restart_is_named() -> Result<()> {
    let rig = Rig::new()?;
    let good = "[filter]\nexclude_ports = [514]\n";
    let configuration = Configuration::new(good)?;
    let agent = configuration.agent(&rig, ("tc", "tc"))?;
    configuration.write("[filter]\nexclude_ports = [515]\ninclude = [\"10.77.0.0/33\"]\n")?;
    agent.signal(Signal::HUP)?;
    let line = "agent.toml, line 3: filter.include: \"10.77.0.0/33\" has no length of 0 to 32; \
                everything stays as it was";
    agent.wait_log(line, PATIENCE)?;
    configuration.write(&format!("shards = 3\nmax_flows = 7777\n{good}"))?;
    agent.signal(Signal::HUP)?;
    agent.wait_log("values that need a restart: shards, max_flows", PATIENCE)?;
    agent.wait_log("filters and sampling are as before, interfaces are as before", PATIENCE)?;
    fs::remove_file(configuration.path())?;
    agent.signal(Signal::HUP)?;
    agent.wait_log("agent.toml cannot be read", PATIENCE)?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let counts = rig::tally(&rig.lab, |_| {
        let mut sent = traffic::stream(Ends::v4((right, 1), (left, 1), 514), 100, 900)?;
        sent.add(traffic::stream(Ends::v4((right, 1), (left, 1), 515), 100, 900)?);
        Ok(sent)
    })?;
    agent.stop()?;
    for (side, counts) in [(left, &counts.0), (right, &counts.1)] {
        let passes = |key: &Key| key.destination_port != 514;
        check(rig.store.url(), side.interface, counts, "filtered", passes)?;
    }
    let passes = counts.0.total.packets + counts.1.total.packets - 200;
    let outcome = Outcome::compare(rig.store.url(), passes)?;
    faults::record("bad_file_at_a_hangup", "the agent's log: everything stays as it was", outcome)
}

#[test]
fn interfaces_follow_the_file_at_a_hangup() -> Result<()> {
    let rig = Rig::new()?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let interfaces = |side: &Side| format!("interfaces = [\"{}\"]\n", side.spec("tc"));
    let configuration = Configuration::new(&interfaces(left))?;
    let path = configuration.path().display().to_string();
    let agent = Agent::start(&flow_agent(), &["--config", &path, "--store", rig.store.url()])?;
    let ask = |_: &Lab| traffic::ask(Ends::v4((left, 0), (right, 0), 53), 50, 2, 100, 100);
    let (at_left, _) = rig::tally(&rig.lab, ask)?;
    configuration.write(&interfaces(right))?;
    agent.signal(Signal::HUP)?;
    agent
        .wait_log(&format!("metering {}/{}", right.namespace.name(), right.interface), PATIENCE)?;
    let started = Instant::now();
    while !hooks::attached(left)?.is_empty() {
        ensure!(started.elapsed() < PATIENCE, "still attached:\n{}", agent.log());
    }
    let (_, at_right) = rig::tally(&rig.lab, ask)?;
    agent.stop()?;
    rig::exact_at(rig.store.url(), left.interface, &at_left)?;
    rig::exact_at(rig.store.url(), right.interface, &at_right)
}

#[test]
fn without_a_file_a_hangup_says_that_there_is_nothing_to_read() -> Result<()> {
    let rig = Rig::new()?;
    let agent = rig.agent(("tc", "tc"))?;
    agent.signal(Signal::HUP)?;
    agent.wait_log("nothing to read again: run was given no --config", PATIENCE)?;
    agent.stop().context("it goes on until it is stopped")?;
    Ok(())
}
