//! One run of the store as a child process: enters what to launch and where to
//! listen, leaves a URL. What must hold: the child ends with its parent,
//! however the parent ends (it watches its standard input), and always cleanly.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::StoreError;
use super::credentials::Key;
use super::server::READY;
use crate::Exit;

/// How much of the child's standard error is kept.
const KEPT_ERRORS: usize = 16 << 10;
/// How long a store that is dropped, not stopped, is waited for.
const DROP_WAIT: Duration = Duration::from_secs(30);
/// What `main` writes before an error.
const ERROR_PREFIX: &str = "flow-agent: ";

/// What to launch; the same at every start.
#[derive(Debug)]
pub struct Launch {
    /// The `flow-agent` executable.
    pub program: PathBuf,
    /// The data folder.
    pub dir: PathBuf,
    /// What its clients must have.
    pub key: Key,
    /// How long a start may take.
    pub deadline: Duration,
}

impl Launch {
    fn failed(&self, reason: impl Into<String>, exit: Exit) -> StoreError {
        StoreError::ChildStart { program: self.program.clone(), reason: reason.into(), exit }
    }
}

/// A running store in a process of its own.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    pidfd: OwnedFd,
    url: String,
    errors: Option<JoinHandle<String>>,
    ended: bool,
}

impl Child {
    /// Starts `program store --dir DIR` and waits until it serves.
    pub fn start(launch: &Launch, listen: &str) -> Result<Self, StoreError> {
        let mut process = Command::new(&launch.program)
            .args(["store", "--listen", listen, "--key-on-stdin", "--stop-on-stdin-eof", "--dir"])
            .arg(&launch.dir)
            // Ctrl-C is for the parent, which still has rows to store.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| launch.failed(error.to_string(), Exit::Failed))?;
        if let Some(stdin) = &mut process.stdin {
            // A child that has ended already says why in its errors.
            let _ = writeln!(stdin, "{}", launch.key.secret());
        }
        let stdout = process.stdout.take().expect("piped above");
        let stderr = process.stderr.take().expect("piped above");
        let errors = std::thread::spawn(move || last_words(stderr));
        let pidfd = Pid::from_raw(process.id().cast_signed())
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(|error| launch.failed(format!("cannot watch it: {error}"), Exit::Failed))?;
        let mut child =
            Self { process, pidfd, url: String::new(), errors: Some(errors), ended: false };
        let (sender, first_line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // No line means that the child has ended; its errors say why.
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
        match first_line.recv_timeout(launch.deadline) {
            Ok(line) if line.starts_with(READY) => {
                line[READY.len()..].trim().clone_into(&mut child.url);
                Ok(child)
            }
            Ok(_) => {
                let status = child.end(DROP_WAIT)?;
                let (reason, exit) = (child.words(), exit_of(status));
                Err(if reason.is_empty() {
                    launch.failed(format!("it ended with {status}"), exit)
                } else {
                    StoreError::ChildRefused { reason, exit }
                })
            }
            Err(_) => {
                let words = format!("not ready after {} s", launch.deadline.as_secs());
                child.end(DROP_WAIT)?;
                Err(launch.failed([words, child.words()].join(" "), Exit::Store))
            }
        }
    }

    /// Where it serves.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended, if it has; asks the kernel and waits for nothing.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, StoreError> {
        let status = self.process.try_wait().map_err(wait_failed)?;
        self.ended |= status.is_some();
        Ok(status)
    }

    /// Ends it and waits until all data is written.
    pub fn stop(mut self, deadline: Duration) -> Result<(), StoreError> {
        let status = self.end(deadline)?;
        if status.success() {
            return Ok(());
        }
        Err(StoreError::ChildFailed {
            pid: self.pid(),
            status: status.to_string(),
            reason: self.words(),
        })
    }

    fn end(&mut self, deadline: Duration) -> Result<ExitStatus, StoreError> {
        self.ended = true;
        drop(self.process.stdin.take());
        // An error means that it has ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
        let timeout = Timespec {
            tv_sec: deadline.as_secs().cast_signed(),
            tv_nsec: i64::from(deadline.subsec_nanos()),
        };
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let waited = rustix::io::retry_on_intr(|| poll(&mut polled, Some(&timeout)));
        if matches!(waited, Ok(0)) {
            return Err(StoreError::ChildStuck { pid: self.pid(), seconds: deadline.as_secs() });
        }
        self.process.wait().map_err(wait_failed)
    }

    /// Why the child, which has ended, says that it did: its error, else its last line.
    pub fn words(&mut self) -> String {
        let all = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let lines = || all.lines().map(str::trim).filter(|line| !line.is_empty());
        let error = lines().rev().find_map(|line| line.strip_prefix(ERROR_PREFIX));
        error.or_else(|| lines().next_back()).unwrap_or_default().to_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.end(DROP_WAIT)
        {
            tracing::warn!(%error, "the store was left running");
        }
    }
}

fn wait_failed(source: std::io::Error) -> StoreError {
    StoreError::System { action: "wait for its process", source }
}

/// The child's own reason to end is the parent's.
fn exit_of(status: ExitStatus) -> Exit {
    match status.code() {
        Some(1) => Exit::Failed,
        Some(2) => Exit::Usage,
        Some(3) => Exit::Privilege,
        _ => Exit::Store,
    }
}

fn last_words(mut stderr: impl Read) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = stderr.read(&mut piece) {
        kept.extend_from_slice(&piece[..n]);
        let surplus = kept.len().saturating_sub(KEPT_ERRORS);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
