//! What a restart does not forget, and that it stores nothing twice. Needs root, the agent's
//! binary and libchdb.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use flow_agent::cache::Initiator;
use flow_agent::clock::wall_clock;
use flow_agent::enrich::{Listener, Seen};
use flow_agent::state::{StateFile, decode};
use flow_tests::lab::Lab;
use flow_tests::process::Agent;
use flow_tests::rig::{self, Rig};
use flow_tests::tally::Tally;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_mins(1);

/// A state file and a configuration that saves it often.
struct State {
    folder: TempDir,
}

impl State {
    fn new() -> Result<Self> {
        let state = Self { folder: TempDir::new()? };
        let text = "[state]\ninterval_s = 1\n[enrich]\nsockets_interval_s = 1";
        fs::write(state.folder.path().join("agent.toml"), text)?;
        Ok(state)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn start(&self, rig: &Rig, file: &Path, more: &[&str]) -> Result<Agent> {
        let config = self.folder.path().join("agent.toml");
        let (config, file) = (config.to_str().context("text")?, file.to_str().context("text")?);
        let arguments = ["--config", config, "--state-file", file, "--drain-interval", "100"];
        rig.agent_with(("tc", "tc"), &[&arguments, more].concat())
    }

    /// What the file has of a part.
    fn part<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        let state = StateFile::new(self.file()).load(wall_clock(), LIMIT).expect("whole")?;
        let (_, octets) = state.parts.get(name)?;
        Some(decode(octets).expect("its own"))
    }
}

/// A connection from the right end to the left one.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    _listener: TcpListener,
}

impl Connection {
    const PORT: u16 = 7711;

    fn open(lab: &Lab) -> Result<Self> {
        let to = SocketAddr::new(lab.left.v4(0), Self::PORT);
        let listener = lab.left.namespace.enter(|| Ok(TcpListener::bind(to)?))?;
        let client = lab.right.namespace.enter(|| Ok(TcpStream::connect(to)?))?;
        let (server, _) = listener.accept()?;
        Ok(Self { client, server, _listener: listener })
    }

    /// The server speaks first: who has not seen the SYN takes it for the one that began.
    fn server_speaks(&mut self) -> Result<()> {
        let mut octets = [7; 100];
        self.server.write_all(&octets)?;
        self.client.read_exact(&mut octets)?;
        self.client.write_all(&octets)?;
        Ok(self.server.read_exact(&mut octets)?)
    }
}

fn initiators(rig: &Rig) -> Vec<String> {
    let question = format!(
        "SELECT DISTINCT interface, src_ip, dst_port = {0}, initiator_by FROM flow.flows \
         WHERE protocol = 6 AND (src_port = {0} OR dst_port = {0}) ORDER BY ALL",
        Connection::PORT
    );
    rig.store
        .sql(&question)
        .replace(&format!("flow-{}-", std::process::id()), "")
        .lines()
        .map(Into::into)
        .collect()
}

fn begun_by_client(rig: &Rig) -> Vec<String> {
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let row = |side: &flow_tests::lab::Side| {
        let namespace = side.namespace.name().replace(&format!("flow-{}-", std::process::id()), "");
        format!("{namespace}/{}\t::ffff:{}\t1\tsyn", side.interface, right.v4(0))
    };
    vec![row(left), row(right)]
}

#[test]
fn an_open_connection_keeps_its_initiator_and_no_packet_is_stored_twice() -> Result<()> {
    let (rig, state) = (Rig::new()?, State::new()?);
    let tallies = (Tally::start(&rig.lab.left)?, Tally::start(&rig.lab.right)?);
    let first = state.start(&rig, &state.file(), &[])?;
    let mut connection = Connection::open(&rig.lab)?;
    connection.server_speaks()?;
    rig.lab.wait_quiet()?;
    first.stop()?;
    let kept: Vec<Initiator> = state.part("initiators").context("saved at the stop")?;
    assert_eq!(kept.len(), 2, "at both ends: {kept:?}");

    let second = state.start(&rig, &state.file(), &[])?;
    connection.server_speaks()?;
    rig.lab.wait_quiet()?;
    // Restarted with nothing between: what was remembered goes on to the next.
    second.stop()?;
    let third = state.start(&rig, &state.file(), &[])?;
    connection.server_speaks()?;
    rig.lab.wait_quiet()?;
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    let log = third.stop()?;
    assert!(log.contains("initiators, listeners"), "{log}");
    assert_eq!(initiators(&rig), begun_by_client(&rig), "{log}");
    rig::exact(&rig.lab, rig.store.url(), &counts)
}

#[test]
fn a_killed_agent_leaves_what_it_saved_last() -> Result<()> {
    let (rig, state) = (Rig::new()?, State::new()?);
    let first = state.start(&rig, &state.file(), &[])?;
    let mut connection = Connection::open(&rig.lab)?;
    connection.server_speaks()?;
    first.wait_until("saved", LIMIT, || {
        connection.server_speaks()?; // it stays open in the cache
        Ok(state.part::<Vec<Initiator>>("initiators").is_some_and(|kept| kept.len() == 2))
    })?;
    rig.lab.wait_quiet()?;
    first.kill()?;
    let second = state.start(&rig, &state.file(), &[])?;
    connection.server_speaks()?;
    rig.lab.wait_quiet()?;
    second.stop()?;
    assert_eq!(initiators(&rig), begun_by_client(&rig));
    Ok(())
}

/// Without the file the same connection has another initiator: the tests above show something.
#[test]
fn a_damaged_file_is_refused_with_a_reason_and_the_agent_starts_cold() -> Result<()> {
    let (rig, state) = (Rig::new()?, State::new()?);
    let mut connection = Connection::open(&rig.lab)?;
    fs::write(state.file(), "FLOWSTAT but not whole")?;
    let agent = state.start(&rig, &state.file(), &[])?;
    connection.server_speaks()?;
    rig.lab.wait_quiet()?;
    let log = agent.stop()?;
    let reasons: Vec<_> =
        log.lines().filter(|line| line.contains("the state is not used")).collect();
    assert_eq!(reasons.len(), 1, "{log}");
    assert!(reasons[0].contains("is damaged") && reasons[0].contains("starting cold"), "{log}");
    assert!(initiators(&rig).iter().all(|row| !row.contains("syn")), "{log}");
    assert!(state.part::<Vec<Initiator>>("initiators").is_some(), "replaced by a whole one");
    Ok(())
}

/// A tmpfs on a folder, unmounted when dropped.
struct Full<'a>(&'a Path);

impl<'a> Full<'a> {
    /// One whose only place is taken by its own folder.
    fn mount(path: &'a Path) -> Result<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,nr_inodes=1", "none"])
            .arg(path)
            .status()?;
        anyhow::ensure!(mounted.success(), "cannot mount a tmpfs: this needs root");
        Ok(Self(path))
    }
}

impl Drop for Full<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0).status());
    }
}

#[test]
fn a_state_that_cannot_be_saved_is_one_warning() -> Result<()> {
    let (rig, state) = (Rig::new()?, State::new()?);
    let folder = TempDir::new()?;
    let full = Full::mount(folder.path())?;
    for file in [folder.path().join("state"), "/proc/flow-agent/state".into()] {
        let agent = state.start(&rig, &file, &[])?;
        agent.wait_log("the state is not saved", LIMIT)?;
        let log = agent.stop()?;
        assert_eq!(log.matches("the state is not saved").count(), 1, "{log}");
        assert!(log.contains(&format!("{} cannot be written", file.display())), "{log}");
    }
    drop(full);
    Ok(())
}

/// A port that listened when the last agent looked is still known to be a service's.
#[test]
fn listening_ports_of_a_namespace_are_learned_and_kept() -> Result<()> {
    const PORT: u16 = 7712; // outside the range of ephemeral ports
    let (rig, state) = (Rig::new()?, State::new()?);
    let (from, to) =
        (SocketAddr::new(rig.lab.left.v4(0), PORT), SocketAddr::new(rig.lab.right.v4(0), 7713));
    let bind = |side: &flow_tests::lab::Side, address| {
        side.namespace.enter(|| Ok(UdpSocket::bind(address)?))
    };
    let agent = state.start(&rig, &state.file(), &[])?;
    let listening = bind(&rig.lab.left, from)?;
    let known = Listener {
        namespace: format!("{}/", rig.lab.left.namespace.name()),
        protocol: 17,
        port: PORT,
    };
    agent.wait_until("learned and saved", LIMIT, || {
        let all: Option<Vec<(Listener, Seen)>> = state.part("listeners");
        Ok(all.is_some_and(|all| all.iter().any(|(listener, _)| *listener == known)))
    })?;
    agent.stop()?;
    drop(listening);

    let agent = state.start(&rig, &state.file(), &[])?;
    let sender = rig.lab.left.namespace.enter(|| {
        let socket = UdpSocket::bind(from)?;
        socket.connect(to)?; // a socket with a peer is no listening one
        Ok(socket)
    })?;
    sender.send(&[1; 40])?;
    rig.lab.wait_quiet()?;
    agent.stop()?;
    let rows = rig.store.sql(&format!(
        "SELECT DISTINCT dst_port, initiator_by FROM flow.flows WHERE protocol = 17 AND \
         (src_port = {PORT} OR dst_port = {PORT})"
    ));
    assert_eq!(rows, format!("{PORT}\tservice_port"), "the end that listened was asked");
    Ok(())
}
