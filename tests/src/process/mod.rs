//! Child processes of the tests and the demo: the agent and the store.
//!
//! A child never outlives its owner: dropping kills it, and the kernel does if the
//! thread that started it ends in any other way. Ending it kindly and checking its
//! exit code is [`Child::end`].

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open};

use crate::cleanup::{self, Leftover};

mod agent;
mod store;

pub use agent::Agent;
pub use store::Store;

/// The command lines of all processes that name this, for example a data folder.
pub fn naming(text: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for process in std::fs::read_dir("/proc")? {
        // Empty for what is no process, or has ended.
        let line = std::fs::read(process?.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            lines.push(line);
        }
    }
    Ok(lines)
}

/// Memory of its own that a running process has resident, in octets: no files, no kernel tables.
pub fn memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let line = line.with_context(|| format!("process {pid} has no RssAnon"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

/// Between two looks at a log.
const TICK: Duration = Duration::from_millis(50);

/// A child process whose errors go to a file.
#[derive(Debug)]
pub struct Child {
    name: &'static str,
    process: std::process::Child,
    log: PathBuf,
}

/// A command that the kernel kills when the calling thread is gone.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=KILL").arg(program);
    command
}

impl Child {
    /// Starts it; what it writes to standard error goes to `log`.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let process = command
            .stdin(Stdio::null())
            .stderr(file)
            .spawn()
            .context("cannot start setpriv: run `cargo xtask setup`")?;
        cleanup::register(Leftover::Child(process.id()));
        Ok(Self { name, process, log: log.to_owned() })
    }

    /// What it writes to standard output, if that was asked for; once.
    pub(crate) fn output(&mut self) -> Option<std::process::ChildStdout> {
        self.process.stdout.take()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has written to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = cleanup::pid(self.id()).context("a child has a process id")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits until it has written this to standard error; an error if it ends before
    /// that or takes longer than `limit`.
    pub fn wait_log(&self, text: &str, limit: Duration) -> Result<()> {
        self.wait_until(text, limit, || Ok(self.log().contains(text)))
    }

    /// Waits until this is so, which `what` describes; an error if the process ends before
    /// that or it takes longer than `limit`.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        mut is_so: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let started = Instant::now();
        while !is_so()? {
            if self.ends_within(TICK)? || started.elapsed() > limit {
                bail!("{}: not so: {what:?}; it said:\n{}", self.name, self.log());
            }
        }
        Ok(())
    }

    /// True if it ends within this time, or has ended.
    fn ends_within(&self, limit: Duration) -> Result<bool> {
        let pid = cleanup::pid(self.id()).context("a child has a process id")?;
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        let mut polled = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
        Ok(poll(&mut polled, Some(&Timespec::try_from(limit)?))? > 0)
    }

    /// Waits for its end; an error if that takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        if !self.ends_within(limit)? {
            bail!("{} did not end in {limit:?}; it said:\n{}", self.name, self.log());
        }
        Ok(self.process.wait()?)
    }

    /// Asks it to stop with a signal and waits; an error unless it exits with 0.
    pub fn end(mut self, signal: Signal, limit: Duration) -> Result<String> {
        self.signal(signal)?;
        let status = self.wait(limit)?;
        if !status.success() {
            bail!("{} ended with {status} when asked to stop; it said:\n{}", self.name, self.log());
        }
        Ok(self.log())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended and was waited for.
        drop(self.process.kill());
        drop(self.process.wait());
        cleanup::forget(&Leftover::Child(self.process.id()));
    }
}
