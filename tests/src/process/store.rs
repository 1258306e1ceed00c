//! `flow-agent store`: the embedded ClickHouse in a process of its own.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{ChildStdout, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::{Child, command};
use crate::bin_path::flow_agent;

/// Loading the engine, 566 MB, from a cold disk.
const STARTING: Duration = Duration::from_mins(1);
/// Closing a store writes what it holds in memory.
const CLOSING: Duration = Duration::from_mins(1);

/// A running store.
#[derive(Debug)]
pub struct Store {
    child: Child,
    url: String,
    /// Kept open: a store whose output is closed would fail to write to it.
    _output: BufReader<ChildStdout>,
}

impl Store {
    /// Starts a store on a data folder, at a free port, and waits until it answers.
    pub fn start(agent: &Path, folder: &Path, log: &Path) -> Result<Self> {
        Self::start_at(agent, folder, log, "127.0.0.1:0")
    }

    /// The same, at an address and port of the caller's choice.
    pub fn start_at(agent: &Path, folder: &Path, log: &Path, listen: &str) -> Result<Self> {
        Self::start_with(agent, folder, log, &["--listen", listen])
    }

    /// The same, with these arguments.
    pub fn start_with(agent: &Path, folder: &Path, log: &Path, more: &[&str]) -> Result<Self> {
        let mut command = command(agent);
        command.arg("store").arg("--dir").arg(folder).args(more);
        let mut child = Child::start("flow-agent store", command.stdout(Stdio::piped()), log)?;
        let output = child.process.stdout.take().context("the store has an output")?;
        let mut polled = [PollFd::new(&output, PollFlags::IN)];
        if poll(&mut polled, Some(&Timespec::try_from(STARTING)?))? == 0 {
            bail!("the store is not ready after {STARTING:?}:\n{}", child.log());
        }
        let mut output = BufReader::new(output);
        let mut line = String::new();
        // The first line says that it is ready; none comes if it ends before that.
        output.read_line(&mut line)?;
        let Some((_, url)) = line.trim().split_once("listening on ") else {
            bail!("the store did not start: {:?}\n{}", line, child.log());
        };
        Ok(Self { child, url: url.to_owned(), _output: output })
    }

    /// Starts one that others reach at this address of the caller's namespace; data and log are
    /// in `folder`.
    pub fn start_for_others(folder: &Path, address: IpAddr) -> Result<Self> {
        let listen = SocketAddr::new(address, 0).to_string();
        let more = ["--listen", &listen, "--allow-remote"];
        Self::start_with(&flow_agent(), &folder.join("data"), &folder.join("log"), &more)
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, for example to have it hang.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.child.signal(signal)
    }

    /// Kills it outright: its data folder is left as it happens to be.
    pub fn kill(mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.child.wait(CLOSING)
    }

    /// Ends it with `signal`, as cleanly as [`Store::stop`].
    pub fn end(self, signal: Signal) -> Result<String> {
        self.child.end(signal, CLOSING)
    }

    /// Ends it cleanly: its data folder is complete afterwards.
    pub fn stop(self) -> Result<String> {
        self.end(Signal::TERM)
    }
}
