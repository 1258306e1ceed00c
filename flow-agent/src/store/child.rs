//! The store as a child process: enters an executable and a data folder,
//! leaves a URL. What must hold: the child ends with its parent, however the
//! parent ends (it watches its standard input), and always cleanly.

use std::io::{BufRead as _, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::StoreError;
use super::server::READY;

/// How much of the child's standard error is kept.
const KEPT_ERRORS: usize = 16 << 10;
/// How long a store that is dropped, not stopped, is waited for.
const DROP_WAIT: Duration = Duration::from_secs(30);

/// A running store in a process of its own.
#[derive(Debug)]
pub struct EmbeddedStore {
    child: Child,
    pidfd: OwnedFd,
    url: String,
    errors: Option<JoinHandle<String>>,
    stopped: bool,
}

impl EmbeddedStore {
    /// Starts `program store --dir DIR` on a free loopback port and waits until it serves.
    pub fn start(program: &Path, dir: &Path, deadline: Duration) -> Result<Self, StoreError> {
        let failed =
            |reason: String| StoreError::ChildStart { program: program.to_owned(), reason };
        let mut child = Command::new(program)
            .args(["store", "--listen", "127.0.0.1:0", "--stop-on-stdin-eof", "--dir"])
            .arg(dir)
            // Ctrl-C is for the parent, which still has rows to store.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let stdout = child.stdout.take().expect("piped above");
        let stderr = child.stderr.take().expect("piped above");
        let errors = std::thread::spawn(move || last_words(stderr));
        let pidfd = Pid::from_raw(child.id().cast_signed())
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(|error| failed(format!("cannot watch it: {error}")))?;
        let mut store =
            Self { child, pidfd, url: String::new(), errors: Some(errors), stopped: false };
        let (sender, first_line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // No line means that the child has ended; its errors say why.
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
        match first_line.recv_timeout(deadline) {
            Ok(line) if line.starts_with(READY) => {
                line[READY.len()..].trim().clone_into(&mut store.url);
                Ok(store)
            }
            Ok(_) => {
                let status = store.end(DROP_WAIT)?;
                let words = store.words();
                Err(failed(if words.is_empty() {
                    format!("it ended with {status}")
                } else {
                    words
                }))
            }
            Err(_) => {
                let words = format!("not ready after {} s", deadline.as_secs());
                store.end(DROP_WAIT)?;
                Err(failed([words, store.words()].join(" ")))
            }
        }
    }

    /// Where it serves.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it and waits until all data is written.
    pub fn stop(mut self, deadline: Duration) -> Result<(), StoreError> {
        let status = self.end(deadline)?;
        if status.success() {
            return Ok(());
        }
        Err(StoreError::ChildFailed {
            pid: self.child.id(),
            status: status.to_string(),
            reason: self.words(),
        })
    }

    fn end(&mut self, deadline: Duration) -> Result<ExitStatus, StoreError> {
        self.stopped = true;
        drop(self.child.stdin.take());
        // An error means that it has ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
        let timeout = Timespec {
            tv_sec: deadline.as_secs().cast_signed(),
            tv_nsec: i64::from(deadline.subsec_nanos()),
        };
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let waited = rustix::io::retry_on_intr(|| poll(&mut polled, Some(&timeout)));
        if matches!(waited, Ok(0)) {
            return Err(StoreError::ChildStuck {
                pid: self.child.id(),
                seconds: deadline.as_secs(),
            });
        }
        self.child
            .wait()
            .map_err(|source| StoreError::System { action: "wait for its process", source })
    }

    /// What the child, which has ended, wrote to standard error.
    fn words(&mut self) -> String {
        let words = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        words.trim().trim_start_matches("flow-agent: ").to_owned()
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        if !self.stopped
            && let Err(error) = self.end(DROP_WAIT)
        {
            tracing::warn!(%error, "the store was left running");
        }
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
