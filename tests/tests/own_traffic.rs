//! The agent's own connections to its store, on a metered wire: they are left out,
//! another client's to the same port are not. Needs root, the binary and libchdb.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::lab::Lab;
use flow_tests::ledger::Ledger;
use flow_tests::process::{Agent, Store};
use flow_tests::rows;
use flow_tests::tally::{Flows, Tally};
use flow_tests::traffic::{self, Ends};
use rustix::process::Signal;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A question that takes a while.
const SLOW: &str = "SELECT+sleep(0.3)";
/// Whether the agent has stored rows.
const STORED: &str = "SELECT+if(count()!=0,%27some%27,%27none%27)+FROM+flow.flows";

/// Another client of the store: asks once; its address and the answer.
fn ask(url: &str, query: &str) -> Result<(SocketAddr, String)> {
    let address = url.strip_prefix("http://").context("an address")?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = "HTTP/1.1\r\nHost: store\r\nConnection: close\r\n\r\n";
    let request = format!("GET /?query={query} {head}");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok((stream.local_addr()?, answer))
}

/// The store at the right end, the agent and another client at the left one.
fn other_clients_are_metered(address: IpAddr, attach: &str, lab: &Lab) -> Result<()> {
    let folder = TempDir::with_prefix("flow-own-")?;
    let (left, right) = (&lab.left, &lab.right);
    let config = folder.path().join("agent.toml");
    std::fs::write(&config, "")?;
    // Each is started, used and ended in the thread that has joined its namespace.
    right.namespace.enter(|| {
        let store = Store::start_for_others(folder.path(), address)?;
        left.namespace.enter(|| {
            let url = store.url();
            let (tally, interface) = (Tally::start(left)?, format!("{}:{attach}", left.interface));
            let path = config.display().to_string();
            let arguments = ["--interface", &interface, "--store", url, "--config", &path];
            let more = ["--drain-interval", "100", "--idle-timeout", "1"];
            let agent = Agent::start(&flow_agent(), &[&arguments[..], &more].concat())?;
            // Flows to store, again and again, while others ask the same store.
            let mut others = Vec::new();
            for _ in 0..10 {
                traffic::ask(Ends::v4((left, 0), (right, 0), 53), 20, 2, 40, 300)?;
                others.push(ask(url, SLOW)?.0);
            }
            agent.stop()?;
            let wire = tally.stop()?;
            let port = url.rsplit(':').next().context("a port")?.parse::<u16>()?;
            let to_store = |flows: Flows| -> Flows {
                let ports = |key: &flow_tests::tally::Key| [key.source_port, key.destination_port];
                flows.into_iter().filter(|(key, _)| ports(key).contains(&port)).collect()
            };
            let (own, mut other) = (to_store(wire.by_key()), to_store(wire.by_key()));
            other.retain(|key, _| {
                others
                    .iter()
                    .any(|client| [key.source_port, key.destination_port].contains(&client.port()))
            });
            ensure!(own.len() > other.len() + 2, "the agent has connections of its own");
            let stored = to_store(rows::flows(url, left.interface)?);
            let different = rows::differences(&other, &stored);
            ensure!(different.is_empty(), "flows that differ:\n{}", different.join("\n"));
            ensure!(stored.len() == 20, "ten clients, both directions: {stored:?}");
            let ledger = Ledger::read(url, left.interface)?;
            ensure!(ledger.unaccounted() == (0, 0), "{ledger:?}");
            let left_out = Ledger::not_metered(url, left.interface, "own_traffic")?;
            ensure!(left_out.packets > 0, "{left_out:?}");
            ensure!(left_out.packets + wire.other == ledger.not_metered.packets, "{ledger:?}");
            Ok(())
        })
    })
}

#[test]
fn own_connections_are_left_out_over_ipv4_at_xdp() -> Result<()> {
    let lab = Lab::new()?;
    other_clients_are_metered(lab.right.v4(0), "xdp", &lab)
}

#[test]
fn own_connections_are_left_out_over_ipv6_at_tc() -> Result<()> {
    let lab = Lab::new()?;
    other_clients_are_metered(lab.right.v6(0), "tc", &lab)
}

#[test]
fn own_connections_are_metered_when_the_file_says_so_from_a_hangup_on() -> Result<()> {
    let lab = Lab::new()?;
    let (left, right) = (&lab.left, &lab.right);
    let folder = TempDir::with_prefix("flow-own-")?;
    let config = folder.path().join("agent.toml");
    std::fs::write(&config, "exclude_own_traffic = true\n")?;
    right.namespace.enter(|| {
        let store = Store::start_for_others(folder.path(), right.v4(0))?;
        left.namespace.enter(|| {
            let url = store.url();
            let path = config.display().to_string();
            let interface = format!("{}:tc", left.interface);
            let arguments = ["--interface", &interface, "--store", url, "--config", &path];
            let agent = Agent::start(&flow_agent(), &arguments)?;
            std::fs::write(&config, "exclude_own_traffic = false\n")?;
            agent.signal(Signal::HUP)?;
            agent.wait_log("are in force\n", PATIENCE)?;
            // Rows to store: the connection that takes them is metered now.
            let mut others = Vec::new();
            let mut stored = false;
            while !stored {
                ensure!(others.len() < 100, "nothing is stored:\n{}", agent.log());
                traffic::short(Ends::v4((left, 0), (right, 0), 80), 5, 100, 100)?;
                others.push(ask(url, SLOW)?.0.port());
                let (client, answer) = ask(url, STORED)?;
                others.push(client.port());
                stored = answer.contains("some");
            }
            agent.stop()?;
            let port = format!(":{}", url.rsplit(':').next().context("a port")?);
            let stored = rows::flows(url, left.interface)?;
            let own = stored.keys().filter(|key| {
                format!(":{}", key.destination_port) == port && !others.contains(&key.source_port)
            });
            ensure!(own.count() > 0, "no connection to the store among {} flows", stored.len());
            Ok(())
        })
    })
}
