//! `flow-agent run`: the metering agent.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{Child, command};

/// Loading programs and creating the schema takes seconds on a busy machine.
const STARTING: Duration = Duration::from_mins(1);
/// Emptying the kernel's tables, the cache and the batches into the store.
const STOPPING: Duration = Duration::from_mins(1);

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    /// Where it says how far it is, as to systemd.
    news: UnixDatagram,
    _folder: TempDir,
}

impl Agent {
    /// Starts `flow-agent run` with these arguments and waits until it says that it
    /// is metering (`READY=1` on systemd's notification socket).
    pub fn start<I: AsRef<str>>(binary: &Path, arguments: &[I]) -> Result<Self> {
        Self::start_after(&[], binary, arguments)
    }

    /// The same with words before the binary: a command that runs it in surroundings of its own.
    pub fn start_after<I: AsRef<str>>(
        words: &[&str],
        binary: &Path,
        arguments: &[I],
    ) -> Result<Self> {
        let folder = TempDir::with_prefix("flow-agent-")?;
        let path = folder.path().join("notify");
        let news = UnixDatagram::bind(&path)?;
        // Like systemd's own, for an agent of any user.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        fs::set_permissions(&path, Permissions::from_mode(0o777))?;
        news.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut command = match words {
            [] => command(binary),
            [program, words @ ..] => {
                let mut command = command(Path::new(program));
                command.args(words).arg(binary);
                command
            }
        };
        command.arg("run").args(arguments.iter().map(AsRef::as_ref));
        if !arguments.iter().any(|argument| argument.as_ref() == "--pin-dir") {
            // An agent that a test kills must not be taken over by that of another test.
            command.args(["--pin-dir", ""]);
        }
        if !arguments.iter().any(|argument| argument.as_ref() == "--state-file") {
            // Nor know what another test's agent knew.
            command.args(["--state-file", ""]);
        }
        if !arguments.iter().any(|argument| argument.as_ref() == "--spool-dir") {
            // Nor send what another test's agent could not.
            command.arg("--spool-dir").arg(folder.path().join("spool"));
        }
        command.env("NOTIFY_SOCKET", &path).stdout(Stdio::null());
        let child = Child::start("flow-agent run", &mut command, &folder.path().join("log"))?;
        let mut agent = Self { child, news, _folder: folder };
        agent.wait_for("READY=1")?;
        Ok(agent)
    }

    /// Waits until it says this; an error if it ends before that.
    pub fn wait_for(&mut self, state: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            let mut message = [0; 1024];
            match self.news.recv(&mut message) {
                Ok(length) => {
                    let message = String::from_utf8_lossy(&message[..length]);
                    if message.lines().any(|line| line == state) {
                        return Ok(());
                    }
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error).context("cannot hear the agent"),
            }
            if let Some(status) = self.child.process.try_wait()? {
                bail!("flow-agent run ended with {status} before {state}:\n{}", self.log());
            }
            if started.elapsed() > STARTING {
                bail!("flow-agent run does not say {state} in {STARTING:?}:\n{}", self.log());
            }
        }
    }

    /// Reads what it has said so far, as systemd does.
    pub fn hear(&self) -> Result<()> {
        self.news.set_nonblocking(true)?;
        while self.news.recv(&mut [0; 1024]).is_ok() {}
        Ok(self.news.set_nonblocking(false)?)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.child.log()
    }

    /// Waits until it has logged this; an error if it ends before that.
    pub fn wait_log(&self, text: &str, limit: Duration) -> Result<()> {
        self.child.wait_log(text, limit)
    }

    /// Waits until it has logged this so many times.
    pub fn wait_times(&self, text: &str, times: usize, limit: Duration) -> Result<()> {
        let what = format!("{times} times {text}");
        self.wait_until(&what, limit, || Ok(self.log().matches(text).count() >= times))
    }

    /// Waits until this is so while it runs; `what` is for the message.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        is_so: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        self.child.wait_until(what, limit, is_so)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.child.signal(signal)
    }

    /// Waits until it has ended by itself; returns its exit code and its log.
    pub fn ended(mut self, limit: Duration) -> Result<(Option<i32>, String)> {
        let status = self.child.wait(limit)?;
        Ok((status.code(), self.log()))
    }

    /// Kills it (SIGKILL); returns when it is gone.
    pub fn kill(mut self) -> Result<()> {
        self.child.signal(Signal::KILL)?;
        self.child.wait(STOPPING).map(drop)
    }

    /// Stops it and waits until everything it metered is in the store; returns its log.
    pub fn stop(self) -> Result<String> {
        self.stop_with(Signal::TERM)
    }

    /// The same, by another signal.
    pub fn stop_with(self, signal: Signal) -> Result<String> {
        self.child.end(signal, STOPPING)
    }
}
