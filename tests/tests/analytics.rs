//! What the analytics of the real agent say of real scans, floods, listeners and devices: rows
//! in ClickHouse, each once. Needs root, the agent's binary and libchdb.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use flow_tests::attack;
use flow_tests::bin_path::flow_agent;
use flow_tests::lab::{Lab, Side};
use flow_tests::process::Agent;
use flow_tests::rig::{self, Rig};
use flow_tests::sql;
use flow_tests::traffic::{self, Ends, connect_tcp};
use tempfile::TempDir;

/// A machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Flows are emitted quickly, and nothing needs to be learned.
const CONFIG: &str = "\
drain_interval_ms = 100
idle_timeout_s = 1
active_timeout_s = 2
[analytics]
neighbour_interval_s = 1
";

fn config(folder: &TempDir, more: &str) -> Result<String> {
    let path = folder.path().join("config.toml");
    std::fs::write(&path, format!("{CONFIG}{more}"))?;
    Ok(path.to_str().context("a path in UTF-8")?.to_owned())
}

/// An agent that meters one end.
fn agent_at(side: &Side, store: &str, config: &str) -> Result<Agent> {
    let spec = side.spec("tc");
    Agent::start(&flow_agent(), &["--interface", &spec, "--store", store, "--config", config])
}

/// One connection to a new listener, with a few octets each way.
fn talk_once(client: (&Side, u8), server: (&Side, u8), port: u16) -> Result<()> {
    let address = SocketAddr::new(server.0.v4(server.1), port);
    let listener: TcpListener = traffic::listen(&server.0.namespace, address)?;
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut question = [0; 4];
            stream.read_exact(&mut question)?;
            stream.write_all(b"pong")?;
            Ok(())
        });
        client.0.namespace.enter(|| {
            let mut stream = connect_tcp(client.0.v4(client.1), address, None)?;
            stream.write_all(b"ping")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            ensure!(answer == b"pong", "the answer is {answer:?}");
            Ok(())
        })?;
        answer.join().map_err(|_| anyhow::anyhow!("the server panicked"))?
    })
}

/// Kind, addresses, port, and service of each event, as the view has them.
fn events(store: &str) -> Result<Vec<String>> {
    let query = "SELECT concat(kind, ' ', replaceOne(toString(src), '::ffff:', ''), ' ', \
         replaceOne(toString(dst), '::ffff:', ''), ' ', toString(port), ' ', service) \
         FROM flow.recent_events ORDER BY kind, dst, src";
    Ok(sql::text(store, query)?.lines().map(str::to_owned).collect())
}

/// An error unless each revision of each event is there once.
fn once(store: &str) -> Result<()> {
    let rows = sql::number(store, "SELECT count() FROM flow.events")?;
    let different = sql::number(store, "SELECT uniqExact(id, revision) FROM flow.events")?;
    ensure!(rows == different, "{rows} rows are {different} revisions");
    let known = sql::number(store, "SELECT uniqExact(id) FROM flow.events")?;
    let shown = sql::number(store, "SELECT count() FROM flow.recent_events")?;
    ensure!(known == shown, "{known} events are shown as {shown}");
    Ok(())
}

fn number(store: &str, query: &str) -> Result<u64> {
    sql::number(store, query)
}

fn v4(address: IpAddr) -> std::net::Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => unreachable!("a lab's v4 address"),
    }
}

#[test]
fn a_scan_a_flood_and_a_listener_are_one_event_each() -> Result<()> {
    let folder = TempDir::new()?;
    let config = config(&folder, "learning_s = 0\n")?;
    let Rig { lab, store } = Rig::new()?;
    // At both ends: what is seen twice is one event all the same.
    let agent = rig::agent(&lab, ("tc", "tc"), store.url(), &["--config", &config])?;
    let (left, right) = (&lab.left, &lab.right);
    attack::scan((left, 0), right.v4(0), 10_000..10_500)?;
    let sources = attack::syn_flood(left, (v4(right.v4(1)), 80), 20_000)?;
    talk_once((left, 2), (right, 2), 4_444)?;
    // Ordinary traffic beside it.
    traffic::short(Ends::v4((left, 3), (right, 3), 443), 200, 200, 2_000)?;
    let log = agent.stop()?;
    let url = store.url();
    let expected = [
        format!("new_listener {} {} 4444 ", left.v4(2), right.v4(2)),
        format!("new_listener {} {} 443 https", left.v4(3), right.v4(3)),
        format!("port_scan {} {} 0 ", left.v4(0), right.v4(0)),
        format!("syn_flood :: {} 80 http", right.v4(1)),
    ];
    assert_eq!(events(url)?, expected, "{log}");
    once(url)?;
    let of = |what: &str, kind: &str| {
        number(
            url,
            &format!("SELECT toUInt64({what}) FROM flow.recent_events WHERE kind = '{kind}'"),
        )
    };
    // Each port at both ends.
    assert_eq!(of("count", "port_scan")?, 1_000);
    let ports = of("value", "port_scan")?;
    assert!((390..=610).contains(&ports), "500 ports were counted as {ports}");
    let mut different = sources.clone();
    different.sort_unstable();
    different.dedup();
    let estimate = of("toUInt64OrZero(details['sources'])", "syn_flood")?;
    let share = estimate as f64 / different.len() as f64;
    assert!((0.3..1.3).contains(&share), "{estimate} of {} sources", different.len());
    let span = "SELECT count() FROM flow.recent_events WHERE first > last OR last > ts + 5 \
         OR first < ts - 60 OR message = '' OR exporter = ''";
    assert_eq!(
        number(url, span)?,
        0,
        "{}",
        store.sql("SELECT * FROM flow.recent_events FORMAT Vertical")
    );
    store.stop();
    Ok(())
}

/// What is first seen in a flow that is open at the stop is learned, too.
#[test]
fn what_the_last_flows_of_an_agent_say_is_no_news_after_a_restart() -> Result<()> {
    let folder = TempDir::new()?;
    let more = "learning_s = 0\nneighbour_interval_s = 3600\n";
    let text = CONFIG.replace("_timeout_s = 1", "_timeout_s = 600").replace("_s = 2", "_s = 600");
    let text = text.replace("neighbour_interval_s = 1\n", more);
    let (config, state) = (folder.path().join("config.toml"), folder.path().join("state"));
    std::fs::write(&config, text)?;
    let (config, state) = (config.to_str().context("text")?, state.to_str().context("text")?);
    let arguments = ["--config", config, "--state-file", state];
    let Rig { lab, store } = Rig::new()?;
    let mut log = String::new();
    for _ in 0..2 {
        let agent = rig::agent(&lab, ("tc", "tc"), store.url(), &arguments)?;
        talk_once((&lab.left, 2), (&lab.right, 2), 4_444)?;
        // It has no end that could have it emitted before the stop.
        traffic::ask(Ends::v4((&lab.left, 3), (&lab.right, 3), 53), 1, 2, 40, 200)?;
        log = agent.stop()?;
    }
    let said = "SELECT count() FROM flow.recent_events WHERE kind = 'new_listener'";
    let ports = "SELECT uniqExact(port) FROM flow.recent_events WHERE kind = 'new_listener'";
    let (said, ports) = (number(store.url(), said)?, number(store.url(), ports)?);
    assert!(ports > 0, "nothing was new: {log}");
    assert_eq!(said, ports, "said again after the restart: {:?}\n{log}", events(store.url())?);
    store.stop();
    Ok(())
}

#[test]
fn a_start_is_no_storm_and_what_is_switched_off_says_nothing() -> Result<()> {
    for (more, devices) in [("", true), ("enabled = false\n", false)] {
        let folder = TempDir::new()?;
        let config = config(&folder, more)?;
        let Rig { lab, store } = Rig::new()?;
        let agent = rig::agent(&lab, ("tc", "tc"), store.url(), &["--config", &config])?;
        talk_once((&lab.left, 2), (&lab.right, 2), 4_444)?;
        traffic::short(Ends::v6((&lab.left, 0), (&lab.right, 0), 443), 50, 200, 2_000)?;
        let log = agent.stop()?;
        assert_eq!(events(store.url())?, Vec::<String>::new(), "{log}");
        let rows = number(store.url(), "SELECT count() FROM flow.devices")?;
        assert_eq!(rows > 0, devices, "{rows} devices: {log}");
        store.stop();
    }
    Ok(())
}

#[test]
fn devices_have_the_macs_of_the_wire() -> Result<()> {
    let folder = TempDir::new()?;
    let config = config(&folder, "learning_s = 0\n")?;
    let Rig { lab, store } = Rig::new()?;
    let (left, right) = (&lab.left, &lab.right);
    let url = store.url();
    let agent = agent_at(right, url, &config)?;
    let mac_is = |address: IpAddr, mac: &str, own: u8| {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let query = format!(
            "SELECT count() FROM flow.device_inventory WHERE address = toIPv6('{address}') \
             AND mac = '{mac}' AND own = {own} AND first_seen <= last_seen \
             AND last_seen > now() - 300"
        );
        Ok(number(url, &query)? == 1)
    };
    traffic::ask(Ends::v4((left, 0), (right, 0), 53), 5, 3, 40, 200)?;
    traffic::ask(Ends::v6((left, 1), (right, 0), 53), 5, 3, 40, 200)?;
    let (before, after, own) = ("02:00:00:00:00:01", "02:00:00:00:00:77", "02:00:00:00:00:02");
    agent.wait_until("its own MAC", PATIENCE, || mac_is(right.v4(3), own, 1))?;
    agent.wait_until("the MAC of IPv4", PATIENCE, || mac_is(left.v4(0), before, 0))?;
    agent.wait_until("the MAC of IPv6", PATIENCE, || mac_is(left.v6(1), before, 0))?;
    // Somebody else takes the address.
    left.namespace.ip(&format!("link set {} address {after}\n", left.interface))?;
    right.namespace.ip(&format!(
        "neigh replace {} lladdr {after} nud permanent dev {}\n",
        left.v4(0),
        right.interface
    ))?;
    agent.wait_until("the other MAC", PATIENCE, || mac_is(left.v4(0), after, 0))?;
    let log = agent.stop()?;
    let said = events(url)?;
    let of = |kind: &str| said.iter().filter(|event| event.starts_with(kind)).count();
    assert_eq!(of("new_device"), 1, "one MAC is one device: {said:?}\n{log}");
    assert_eq!(of("mac_changed"), 1, "{said:?}");
    assert!(said.contains(&format!("mac_changed {} :: 0 ", left.v4(0))), "{said:?}");
    once(url)?;
    // Who never spoke is no device, though the neighbour table has an entry.
    let silent =
        format!("SELECT count() FROM flow.devices WHERE address = toIPv6('{}')", left.v6(3));
    assert_eq!(number(url, &silent)?, 0);
    // One row for each address, MAC and interface, however often it was written.
    let merged = "SELECT count() - uniqExact(address, mac, exporter, interface) \
         FROM flow.devices FINAL";
    assert_eq!(number(url, merged)?, 0);
    store.stop();
    Ok(())
}

#[test]
fn events_of_a_time_without_store_arrive_once() -> Result<()> {
    let folder = TempDir::new()?;
    let config = config(&folder, "learning_s = 0\n")?;
    let Rig { lab, store } = Rig::new()?;
    let agent = rig::agent(&lab, ("tc", "tc"), store.url(), &["--config", &config])?;
    let scan =
        |lab: &Lab, host: u8| attack::scan((&lab.left, host), lab.right.v4(host), 20_000..20_200);
    let killed = store.kill();
    scan(&lab, 0)?;
    agent.wait_log("cannot be reached", PATIENCE)?;
    let mut store = killed.start();
    for host in 1..3 {
        store = store.crash();
        scan(&lab, host)?;
    }
    let log = agent.stop()?;
    let expected: Vec<_> = (0..3)
        .map(|host| format!("port_scan {} {} 0 ", lab.left.v4(host), lab.right.v4(host)))
        .collect();
    if events(store.url())? != expected {
        bail!("{:?}\n{log}", events(store.url())?);
    }
    once(store.url())?;
    store.stop();
    Ok(())
}

#[test]
fn what_was_learned_is_no_news_after_a_restart() -> Result<()> {
    let folder = TempDir::new()?;
    // Far longer than the test: what the second agent knows, it has from the first.
    let learning = config(&folder, "learning_s = 600\n")?;
    let state = folder.path().join("state");
    let state = state.to_str().context("a path in UTF-8")?;
    let Rig { lab, store } = Rig::new()?;
    let (left, right) = (&lab.left, &lab.right);
    let start = |config: &str| {
        let more = ["--config", config, "--state-file", state];
        rig::agent(&lab, ("tc", "tc"), store.url(), &more)
    };
    let agent = start(&learning)?;
    talk_once((left, 2), (right, 2), 4_444)?;
    let seen = "SELECT count() FROM flow.flows WHERE dst_port = 4444";
    agent.wait_until("both ends' flows", PATIENCE, || Ok(number(store.url(), seen)? == 2))?;
    // The analytics have seen them, too: they write the devices once a second.
    let device = format!(
        "SELECT count() FROM flow.devices WHERE endsWith(interface, 'veth-left') \
         AND NOT own AND address = toIPv6('::ffff:{}')",
        right.v4(2)
    );
    agent.wait_until("the device", PATIENCE, || Ok(number(store.url(), &device)? > 0))?;
    agent.stop()?;
    let knowing = config(&folder, "learning_s = 0\n")?;
    let agent = start(&knowing)?;
    talk_once((left, 2), (right, 2), 4_444)?;
    talk_once((left, 2), (right, 2), 4_445)?;
    let log = agent.stop()?;
    let expected = [format!("new_listener {} {} 4445 ", left.v4(2), right.v4(2))];
    assert_eq!(events(store.url())?, expected, "{log}");
    store.stop();
    Ok(())
}
