//! When the configuration is to be read again: at SIGHUP, or when its file is another one.
//!
//! The file is looked at once a second by name, so that links that are changed and files that are
//! renamed into place are seen, too. It counts as changed when it looks the same twice: an editor
//! may not be through with it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use crate::config::{ConfigError, Loaded, Source};

/// Between two looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// Why the configuration was read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked for it.
    Hangup,
    /// The file is another one.
    Changed,
}

impl Cause {
    /// Its name in the log.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hangup => "SIGHUP",
            Self::Changed => "changed file",
        }
    }
}

/// What was read.
pub struct News {
    /// Why.
    pub cause: Cause,
    /// None: there is no file.
    pub loaded: Option<Result<Box<Loaded>, ConfigError>>,
}

/// What tells a file from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looks {
    file: (u64, u64),
    octets: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Looks {
    /// Of what is at the end of all links; none while nothing is there.
    fn of(path: &Path) -> Option<Self> {
        let about = std::fs::metadata(path).ok()?;
        Some(Self {
            file: (about.dev(), about.ino()),
            octets: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}

/// A file that is looked at now and then.
pub struct Watch {
    path: Option<PathBuf>,
    /// When it was read last.
    read: Option<Looks>,
    /// At the last look, if it was another one then.
    other: Option<Looks>,
}

impl Watch {
    /// Of a file that is about to be read.
    pub fn new(path: Option<&Path>) -> Self {
        Self { path: path.map(Into::into), read: path.and_then(Looks::of), other: None }
    }

    /// It is about to be read.
    fn reading(&mut self) {
        (self.read, self.other) = (self.path.as_deref().and_then(Looks::of), None);
    }

    /// True if it is another one than was read, and the same as at the last look.
    fn has_changed(&mut self) -> bool {
        // While it is gone an editor or somebody is about to write it: there is nothing to read.
        let Some(now) = self.path.as_deref().and_then(Looks::of) else {
            self.other = None;
            return false;
        };
        if Some(now) == self.read {
            self.other = None;
            return false;
        }
        self.other.replace(now) == Some(now)
    }
}

/// Reads when it is time, in a thread of its own: a file may be on a disk that hangs.
pub struct Reader {
    /// What is read.
    pub source: Source,
    /// What it looked like.
    pub watch: Watch,
    /// Look at it, too, without being asked.
    pub on_change: bool,
    /// Somebody asks.
    pub hangups: Receiver<()>,
    /// Whoever is to hear of it.
    pub news: Sender<News>,
}

impl Reader {
    /// Runs until the returned handle is dropped.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(self) -> io::Result<Arc<()>> {
        let alive = Arc::new(());
        let weak = Arc::downgrade(&alive);
        thread::Builder::new().name("configuration".into()).spawn(move || self.run(&weak))?;
        Ok(alive)
    }

    fn run(mut self, alive: &Weak<()>) {
        while alive.strong_count() > 0 {
            let cause = match self.hangups.recv_timeout(LOOK) {
                Ok(()) => Cause::Hangup,
                Err(RecvTimeoutError::Timeout) if self.on_change && self.watch.has_changed() => {
                    Cause::Changed
                }
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.watch.reading();
            let loaded = self.source.file.is_some().then(|| self.source.load().map(Box::new));
            if self.news.send(News { cause, loaded }).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_way_of_replacing_a_file_is_seen_once_it_is_quiet() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("one")).expect("ours");
        fs::create_dir(at("two")).expect("ours");
        fs::write(at("one/agent.toml"), "a").expect("ours");
        fs::write(at("two/agent.toml"), "b").expect("ours");
        symlink("one", at("data")).expect("ours");
        let path = at("data/agent.toml");
        let mut watch = Watch::new(Some(&path));
        let mut seen = |what: &str, expected: bool| {
            // Once to see it, once to see that it is quiet.
            let first = watch.has_changed();
            assert_eq!((first, watch.has_changed()), (false, expected), "{what}");
            watch.reading();
        };
        seen("nothing", false);
        fs::write(&path, "longer").expect("ours");
        seen("written in place", true);
        fs::write(at("new"), "as long").expect("ours");
        fs::rename(at("new"), at("one/agent.toml")).expect("ours");
        seen("renamed into place, as editors do", true);
        symlink("two", at("swap")).expect("ours");
        fs::rename(at("swap"), at("data")).expect("ours");
        seen("another target of a link, as Kubernetes does", true);
        fs::remove_file(at("two/agent.toml")).expect("ours");
        seen("gone", false);
        fs::write(at("two/agent.toml"), "again").expect("ours");
        seen("there again", true);
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent.toml");
        fs::write(&path, "a").expect("ours");
        let mut watch = Watch::new(Some(&path));
        for length in 2..10 {
            fs::write(&path, "a".repeat(length)).expect("ours");
            assert!(!watch.has_changed(), "{length}");
        }
        assert!(watch.has_changed());
    }
}
