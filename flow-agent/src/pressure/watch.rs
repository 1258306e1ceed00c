//! The thread that looks at memory once a second and applies what the controller decides.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::{Controller, PressureLimits, Reader, Reading, Step};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// What the thread last saw and has done; the default is that it does not run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PressureState {
    /// It runs.
    pub enabled: bool,
    /// None before the first look, or if the system does not say.
    pub reading: Option<Reading>,
    /// How many flows may be open now.
    pub max_flows: usize,
    /// How many may be open when memory is not short.
    pub configured_flows: usize,
    /// Steps that made the cache smaller.
    pub shrinks: u64,
    /// Steps that made it larger again.
    pub regrows: u64,
}

/// What others see of it; clones share it.
#[derive(Clone, Debug, Default)]
pub struct PressureBook(Arc<Mutex<PressureState>>);

impl PressureBook {
    /// The state now.
    pub fn state(&self) -> PressureState {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, PressureState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cache, as the thread needs it.
pub trait Resizable: Send {
    /// Flows that are open now.
    fn open_flows(&self) -> usize;
    /// From now on at most so many; what is beyond is emitted.
    fn resize(&self, max_flows: usize);
}

/// The running thread; it ends when this is dropped.
pub struct Pressure {
    book: PressureBook,
    /// Without a sender the thread ends.
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Pressure {
    /// Starts it for a cache of at most `max_flows` flows.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub fn start(
        limits: PressureLimits,
        max_flows: usize,
        reader: Reader,
        cache: impl Resizable + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let book = PressureBook::default();
        *book.lock() = PressureState {
            enabled: true,
            max_flows,
            configured_flows: max_flows,
            ..PressureState::default()
        };
        let controller = Controller::new(limits, max_flows);
        let theirs = book.clone();
        let thread = thread::Builder::new()
            .name("pressure".into())
            .spawn(move || run(controller, &reader, &cache, &theirs, &stopped))?;
        Ok(Self { book, stop: Some(stop), thread: Some(thread) })
    }

    /// What it sees and does.
    pub fn book(&self) -> PressureBook {
        self.book.clone()
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it has been told; the cache stays as it is.
            let _ = thread.join();
        }
    }
}

fn run(
    mut controller: Controller,
    reader: &Reader,
    cache: &dyn Resizable,
    book: &PressureBook,
    stopped: &Receiver<Infallible>,
) {
    let started = Instant::now();
    loop {
        let reading = reader.read();
        let open = cache.open_flows();
        let step = reading.and_then(|reading| {
            let step = controller.look(started.elapsed(), &reading, open)?;
            Some((step, reading))
        });
        if let Some((step, reading)) = step {
            cache.resize(step.to());
            tell(step, &reading, controller.configured());
        }
        {
            let mut state = book.lock();
            state.reading = reading;
            state.max_flows = controller.max_flows();
            match step {
                Some((Step::Shrink { .. }, _)) => state.shrinks += 1,
                Some((Step::Regrow { .. }, _)) => state.regrows += 1,
                None => {}
            }
        }
        match stopped.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(never) => match never {},
        }
    }
}

fn tell(step: Step, reading: &Reading, configured: usize) {
    let memory = format!(
        "{} of {} MiB in use ({}), tasks waited for memory {:.1} % of the last 10 s",
        reading.used_bytes >> 20,
        reading.limit_bytes >> 20,
        reading.source.label(),
        reading.stall_percent
    );
    match step {
        Step::Shrink { from, to } => tracing::warn!(
            "memory is short: {memory}; the cache is for {to} open flows now, before {from}"
        ),
        Step::Regrow { from, to } => tracing::info!(
            "memory is no longer short: {memory}; the cache is for {to} open flows now, \
             before {from}, of {configured} configured"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Cache(Arc<AtomicUsize>, Sender<usize>);

    impl Resizable for Cache {
        fn open_flows(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }

        fn resize(&self, max_flows: usize) {
            self.1.send(max_flows).expect("the test listens");
        }
    }

    #[test]
    fn a_short_memory_makes_the_cache_smaller() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("ours");
            fs::write(path, text).expect("ours");
        };
        write("proc/self/cgroup", "0::/agent\n");
        write("cgroup/agent/memory.max", "100\n");
        write("cgroup/agent/memory.current", "99\n");
        let reader = Reader::at(folder.path().join("proc"), folder.path().join("cgroup"));
        let (sender, resized) = bounded(8);
        let open = Arc::new(AtomicUsize::new(80_000));
        let cache = Cache(open.clone(), sender);
        let limits = PressureLimits::default();
        let pressure = Pressure::start(limits, 100_000, reader, cache).expect("a thread");
        assert_eq!(resized.recv_timeout(Duration::from_secs(30)), Ok(60_000));
        let book = pressure.book();
        drop(pressure);
        let state = book.state();
        assert_eq!((state.shrinks, state.regrows, state.max_flows), (1, 0, 60_000));
        assert_eq!(state.reading.map(|reading| reading.used_bytes), Some(99));
        assert!(resized.recv().is_err(), "the thread has ended");
    }
}
