//! The most memory that a process has while something happens.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::memory;

/// Between two looks.
const TICK: Duration = Duration::from_millis(5);

/// A thread that looks.
pub struct Peak {
    done: Sender<()>,
    thread: JoinHandle<Result<u64>>,
}

impl Peak {
    /// Begins to look at a process.
    pub fn of(pid: u32) -> Self {
        let (done, is_done) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut most = memory(pid)?;
            while is_done.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                most = most.max(memory(pid)?);
            }
            Ok(most)
        });
        Self { done, thread }
    }

    /// Octets; an error if the process has ended meanwhile.
    pub fn stop(self) -> Result<u64> {
        drop(self.done);
        self.thread.join().ok().context("the thread that looks has panicked")?
    }
}
