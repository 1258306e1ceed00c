//! Keeps the embedded store running: enters a store that runs, leaves the same
//! one whenever its process ends, after a pause that grows while it keeps
//! ending. What must hold: whoever works with the store waits for nothing here;
//! a stop ends a pause at once.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::embedded::EmbeddedStore;
use super::error::StoreError;
use super::pauses::Pauses;

/// What became of the process; cheap to read.
#[derive(Debug, Default)]
pub struct StoreRuns {
    down: AtomicBool,
    restarts: AtomicU64,
    failed: AtomicU64,
}

impl StoreRuns {
    /// Whether it runs, as far as is known.
    pub fn is_up(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// How often that was tried in vain.
    pub fn failed_starts(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// The thread that keeps a store running.
#[derive(Debug)]
pub struct Keeper {
    stop: Arc<OwnedFd>,
    runs: Arc<StoreRuns>,
    thread: Option<JoinHandle<EmbeddedStore>>,
}

impl Keeper {
    /// Watches over `store` from now on.
    ///
    /// # Errors
    /// The system refuses a thread or a descriptor.
    pub fn start(store: EmbeddedStore) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let runs = Arc::new(StoreRuns::default());
        let watch = Watch { store, stop: Arc::clone(&stop), runs: Arc::clone(&runs) };
        let thread = std::thread::Builder::new().name("store-keeper".into());
        let thread = Some(thread.spawn(move || watch.run())?);
        Ok(Self { stop, runs, thread })
    }

    /// What became of the process.
    pub fn runs(&self) -> Arc<StoreRuns> {
        Arc::clone(&self.runs)
    }

    /// Ends the store and waits until all data is written.
    ///
    /// # Errors
    /// It does not end, or ended badly.
    pub fn stop(mut self, deadline: Duration) -> Result<(), StoreError> {
        match self.end() {
            Some(store) => store.stop(deadline),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Option<EmbeddedStore> {
        // It counts to 2^64: there is room for one more.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        let thread = self.thread.take()?;
        Some(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.end());
    }
}

struct Watch {
    store: EmbeddedStore,
    stop: Arc<OwnedFd>,
    runs: Arc<StoreRuns>,
}

impl Watch {
    fn run(mut self) -> EmbeddedStore {
        let mut pauses = Pauses::default();
        let mut started = Instant::now();
        while !self.stopped(Some(self.store.pidfd()), None) {
            self.runs.down.store(true, Ordering::Relaxed);
            let mut ran = started.elapsed();
            loop {
                let pause = pauses.after(ran);
                if self.stopped(None, Some(pause)) {
                    return self.store;
                }
                match self.store.ensure_running() {
                    Ok(_) => break,
                    Err(error) => {
                        self.runs.failed.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(
                            "the embedded store cannot be started again: {error}; trying again"
                        );
                    }
                }
                ran = Duration::ZERO;
            }
            started = Instant::now();
            self.runs.restarts.fetch_add(1, Ordering::Relaxed);
            self.runs.down.store(false, Ordering::Relaxed);
            tracing::info!(pid = self.store.pid(), "the embedded store runs again");
        }
        self.store
    }

    /// Waits for the end of a process or of a time; true when told to stop meanwhile.
    fn stopped(&self, process: Option<rustix::fd::BorrowedFd<'_>>, time: Option<Duration>) -> bool {
        let time = time.map(|time| Timespec {
            tv_sec: time.as_secs().cast_signed(),
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        let mut polled = vec![PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN)];
        polled.extend(process.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let waited = rustix::io::retry_on_intr(|| poll(&mut polled, time.as_ref()));
        waited.is_err() || polled[0].revents().contains(PollFlags::IN)
    }
}
