//! The thread that loads the state at the start and saves it now and then, when asked to, and at
//! the end.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::file::StateFile;
use super::part::{Part, State};

/// How the state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// The file.
    pub file: PathBuf,
    /// Time between two savings.
    pub interval: Duration,
    /// An older file is refused.
    pub max_age: Duration,
}

/// The running thread.
pub struct Keeper {
    loaded: Receiver<()>,
    /// Has it saved, and says when; it ends without the sender.
    save: Sender<Sender<()>>,
    stopped: Receiver<()>,
}

impl Keeper {
    /// Starts it; it loads at once.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub fn start(
        config: StateConfig,
        parts: Vec<Box<dyn Part>>,
        wall_clock: fn() -> u64,
    ) -> io::Result<Self> {
        let (loaded_sender, loaded) = bounded(1);
        let (save, save_receiver) = bounded::<Sender<()>>(0);
        let (stopped_sender, stopped) = bounded::<()>(0);
        let file = StateFile::new(&config.file);
        let work = Work { file, config, parts, wall_clock, last: State::default(), warned: false };
        thread::Builder::new().name("state".into()).spawn(move || {
            work.run(&loaded_sender, &save_receiver);
            drop(stopped_sender);
        })?;
        Ok(Self { loaded, save, stopped })
    }

    /// Waits until the state is loaded, or refused, but not longer than `patience`.
    pub fn wait_loaded(&self, patience: Duration) {
        if self.loaded.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the state of the last agent is not loaded yet; starting without it");
        }
    }

    /// Has it saved now, while parts still know what they will not know later.
    pub fn save(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let (done, saved) = bounded(1);
        let asked = self.save.send_deadline(done, until).is_ok();
        if !asked || saved.recv_deadline(until).is_err() {
            tracing::warn!("the state is not saved yet; going on without");
        }
    }

    /// Has it saved once more and ends it; a disk that hangs is waited for only so long.
    pub fn stop(self, patience: Duration) {
        drop(self.save);
        if self.stopped.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the state is not saved yet; ending without it");
        }
    }
}

struct Work {
    file: StateFile,
    config: StateConfig,
    parts: Vec<Box<dyn Part>>,
    wall_clock: fn() -> u64,
    /// As it was loaded or saved last.
    last: State,
    /// The last attempt to save failed.
    warned: bool,
}

impl Work {
    fn run(mut self, loaded: &Sender<()>, asked: &Receiver<Sender<()>>) {
        self.load();
        // Nobody has to wait for it.
        let _ = loaded.try_send(());
        loop {
            let next = Instant::now() + self.config.interval;
            let order = asked.recv_deadline(next);
            self.save();
            match order {
                // Who asked may have gone on.
                Ok(done) => drop(done.try_send(())),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn load(&mut self) {
        match self.file.load((self.wall_clock)(), self.config.max_age) {
            Ok(None) => tracing::debug!("no state at {}", self.file.path().display()),
            Ok(Some(state)) => self.restore(state),
            Err(error) => tracing::warn!("the state is not used: {error}; starting cold"),
        }
    }

    fn restore(&mut self, mut state: State) {
        let mut restored = Vec::new();
        for part in &mut self.parts {
            let name = part.name();
            let Some((version, octets)) = state.parts.remove(name) else { continue };
            if version != part.version() {
                tracing::warn!(
                    "the state's {name} have version {version}, this agent knows {}; not used",
                    part.version()
                );
                continue;
            }
            match part.restore(&octets, state.saved_at_ns) {
                Ok(()) => {
                    restored.push(name);
                    // Stays in the file until the part has something new to say.
                    self.last.parts.insert(name.into(), (version, octets));
                }
                Err(problem) => tracing::warn!("the state's {name} are not used: {problem}"),
            }
        }
        let age = Duration::from_nanos((self.wall_clock)().saturating_sub(state.saved_at_ns));
        tracing::info!(
            "state of {} s ago loaded from {}: {}",
            age.as_secs(),
            self.file.path().display(),
            restored.join(", ")
        );
    }

    fn save(&mut self) {
        for part in &mut self.parts {
            if let Some(octets) = part.save() {
                self.last.parts.insert(part.name().into(), (part.version(), octets));
            }
        }
        self.last.saved_at_ns = (self.wall_clock)();
        match self.file.save(&self.last) {
            Ok(()) => self.warned = false,
            Err(_) if self.warned => {}
            Err(error) => {
                self.warned = true;
                tracing::warn!(
                    "the state is not saved: {error}; an agent that starts after this one starts \
                     cold"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Remembers a number; none when it is 0.
    struct Number {
        name: &'static str,
        version: u32,
        value: Arc<Mutex<u8>>,
    }

    impl Part for Number {
        fn name(&self) -> &'static str {
            self.name
        }

        fn version(&self) -> u32 {
            self.version
        }

        fn save(&mut self) -> Option<Vec<u8>> {
            let value = *self.value.lock().expect("whole");
            (value != 0).then(|| vec![value])
        }

        fn restore(&mut self, octets: &[u8], saved_at_ns: u64) -> Result<(), String> {
            assert_eq!(saved_at_ns, NOW);
            let [value] = octets else { return Err("no number".into()) };
            *self.value.lock().expect("whole") = *value;
            Ok(())
        }
    }

    const NOW: u64 = 1_000_000_000_000;

    fn keeper(file: &std::path::Path, parts: &[(&'static str, u32, &Arc<Mutex<u8>>)]) -> Keeper {
        let config = StateConfig {
            file: file.into(),
            interval: Duration::from_secs(3600),
            max_age: Duration::from_secs(10),
        };
        let parts = parts.iter().map(|(name, version, value)| {
            let value = Arc::clone(value);
            Box::new(Number { name, version: *version, value }) as Box<dyn Part>
        });
        let keeper = Keeper::start(config, parts.collect(), || NOW).expect("a thread");
        keeper.wait_loaded(PATIENCE);
        keeper
    }

    fn value(value: u8) -> Arc<Mutex<u8>> {
        Arc::new(Mutex::new(value))
    }

    #[test]
    fn parts_get_back_what_they_said_by_name_and_version() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("state");
        let (a, b) = (value(1), value(2));
        keeper(&file, &[("a", 1, &a), ("b", 1, &b)]).stop(PATIENCE);

        let (a, b, c) = (value(0), value(0), value(0));
        let again = keeper(&file, &[("a", 1, &a), ("b", 2, &b), ("c", 1, &c)]);
        let read = |value: &Mutex<u8>| *value.lock().expect("whole");
        assert_eq!((read(&a), read(&b), read(&c)), (1, 0, 0));
        // `a` has nothing to say any more: what it said before stays.
        *c.lock().expect("whole") = 4;
        again.save(PATIENCE);
        let (_, octets) =
            &StateFile::new(&file).load(NOW, PATIENCE).expect("whole").expect("there").parts["c"];
        assert_eq!(octets, &[4], "saved when asked to");
        *a.lock().expect("whole") = 0;
        *c.lock().expect("whole") = 3;
        again.stop(PATIENCE);
        let (a, c) = (value(0), value(0));
        keeper(&file, &[("a", 1, &a), ("c", 1, &c)]).stop(PATIENCE);
        assert_eq!((read(&a), read(&c)), (1, 3));
    }

    #[test]
    fn a_bad_file_or_folder_ends_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("state");
        std::fs::write(&file, "FLOWSTAT and no more").expect("ours");
        let a = value(7);
        keeper(&file, &[("a", 1, &a)]).stop(PATIENCE);
        assert_eq!(*a.lock().expect("whole"), 7, "not touched");
        let b = value(0);
        keeper(&file, &[("a", 1, &b)]).stop(PATIENCE);
        assert_eq!(*b.lock().expect("whole"), 7, "the bad file was replaced");
        keeper("/proc/flow-agent/state".as_ref(), &[("a", 1, &b)]).stop(PATIENCE);
    }
}
