//! Watching: interfaces come, go and change their names while the agent runs.
//!
//! Enters: what was asked for, and word from the kernel that something has changed.
//! Leaves: [`Scan`]s, each of all there is. Messages only say *when* to look, so one that
//! is missed costs time and nothing else: there is a look every [`EVERY`] anyway.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::namespace::NAMES;
use super::netlink::Listener;
use super::scan::{Scan, Scanner};
use super::{AttachError, Selection};

/// Between two looks when nothing was heard.
pub const EVERY: Duration = Duration::from_secs(10);
/// After the first word of a change: others come at once.
const SETTLE: Duration = Duration::from_millis(50);
/// After the name of a namespace has come: the namespace follows it.
const NAMESPACE: Duration = Duration::from_millis(500);

/// Looks, and later watches.
pub struct Watcher {
    scanner: Scanner,
    listener: Listener,
    names: Option<OwnedFd>,
}

/// The running watch; ends when it is dropped.
pub struct Watch {
    scans: Receiver<Scan>,
    selections: Sender<Selection>,
    /// A word wakes the thread; without a writer it ends.
    waker: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to listen, so that nothing after this is missed.
    ///
    /// # Errors
    /// The kernel refuses to tell of changes.
    pub fn new(selection: Selection) -> Result<Self, AttachError> {
        let what = "changes of interfaces cannot be heard of";
        let io = |source| AttachError::Io { what: what.into(), source };
        let names = names_folder().inspect_err(|error| {
            tracing::debug!("new network namespaces are looked for every {EVERY:?}: {error}");
        });
        Ok(Self {
            scanner: Scanner::new(selection),
            listener: Listener::new().map_err(io)?,
            names: names.ok(),
        })
    }

    /// What there is now.
    ///
    /// # Errors
    /// As [`Scanner::scan`].
    pub fn scan(&mut self) -> Result<Scan, AttachError> {
        self.scanner.scan()
    }

    /// Goes on in a thread.
    ///
    /// # Errors
    /// The system refuses the thread or a pipe.
    pub fn watch(self) -> io::Result<Watch> {
        let (scan_sender, scans) = unbounded();
        let (selections, selection_receiver) = unbounded();
        let (reader, waker) = io::pipe()?;
        let thread = std::thread::Builder::new()
            .name("interfaces".into())
            .spawn(move || self.run(&scan_sender, &selection_receiver, reader))?;
        Ok(Watch { scans, selections, waker: Some(waker), thread: Some(thread) })
    }

    fn run(
        mut self,
        scans: &Sender<Scan>,
        selections: &Receiver<Selection>,
        mut waker: PipeReader,
    ) {
        let mut due = Due::new(Instant::now());
        let mut settle = SETTLE;
        let mut said = String::new();
        loop {
            let (changed, named, woken) = match self.wait(&waker, due.left(Instant::now())) {
                Ok(heard) => heard,
                Err(error) => {
                    tracing::warn!("interfaces are watched no longer: {error}");
                    return;
                }
            };
            let now = Instant::now();
            if changed {
                self.listener.clear();
                due.by(now + settle);
            }
            if named {
                self.clear_names();
                due.by(now + settle);
                due.again = Some(now + NAMESPACE);
            }
            if woken {
                // One word for each selection; the end of them is the end.
                if waker.read(&mut [0; 1]).unwrap_or(0) == 0 {
                    return;
                }
                selections.try_iter().for_each(|selection| self.scanner.select(selection));
                due.by(now);
            }
            if !due.is_over(now) {
                continue;
            }
            let scan = self.scanner.scan();
            // Of a host whose interfaces change all the time, a tenth of the time at most.
            settle = SETTLE.max(10 * now.elapsed());
            match scan {
                Ok(scan) => {
                    said.clear();
                    // Without a receiver the agent is stopping.
                    let _ = scans.send(scan);
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != said {
                        tracing::warn!("interfaces cannot be looked for: {error}; trying again");
                        said = error;
                    }
                }
            }
        }
    }

    /// Waits for word of interfaces, of namespaces, or from the owner, or until time is up.
    fn wait(&self, waker: &PipeReader, limit: Duration) -> io::Result<(bool, bool, bool)> {
        let mut polled =
            vec![PollFd::new(waker, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        polled.extend(self.names.as_ref().map(|names| PollFd::new(names, PollFlags::IN)));
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        match poll(&mut polled, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let heard = |position: usize| {
            polled.get(position).is_some_and(|polled| !polled.revents().is_empty())
        };
        Ok((heard(1), heard(2), heard(0)))
    }

    fn clear_names(&self) {
        let Some(names) = &self.names else { return };
        let mut octets = [0; 4096];
        while rustix::io::read(names.as_fd(), &mut octets).is_ok_and(|length| length > 0) {}
    }
}

/// When to look next.
struct Due {
    at: Instant,
    /// A second look.
    again: Option<Instant>,
}

impl Due {
    fn new(now: Instant) -> Self {
        Self { at: now + EVERY, again: None }
    }

    /// Not later than this.
    fn by(&mut self, at: Instant) {
        self.at = self.at.min(at);
    }

    fn left(&self, now: Instant) -> Duration {
        let next = self.again.map_or(self.at, |again| again.min(self.at));
        next.saturating_duration_since(now)
    }

    /// True when it is time; then the next one is set.
    fn is_over(&mut self, now: Instant) -> bool {
        let again = self.again.take_if(|again| now >= *again).is_some();
        if now >= self.at {
            self.at = now + EVERY;
            return true;
        }
        again
    }
}

impl Watch {
    /// What was there when it last looked, if it has looked since this was last asked.
    pub fn latest(&self) -> Option<Scan> {
        self.scans.try_iter().last()
    }

    /// What there is, each time it has looked.
    pub fn scans(&self) -> &Receiver<Scan> {
        &self.scans
    }

    /// Waits for the next look.
    pub fn wait(&self, limit: Duration) -> Option<Scan> {
        self.scans.recv_timeout(limit).ok()
    }

    /// Looks for something else from now on.
    pub fn select(&mut self, selection: Selection) {
        // A thread that has ended has said why.
        let _ = self.selections.send(selection);
        if let Some(waker) = &mut self.waker {
            let _ = waker.write_all(b"!");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.waker.take());
        if let Some(thread) = self.thread.take() {
            // It looks at most once more; what it panicked about it has said.
            let _ = thread.join();
        }
    }
}

/// Hears of names that come to and go from where `ip netns` keeps them.
fn names_folder() -> io::Result<OwnedFd> {
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&inotify, NAMES, WatchFlags::CREATE | WatchFlags::DELETE)?;
    Ok(inotify)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_looked_at_soon_and_silence_now_and_then() {
        let start = Instant::now();
        let mut due = Due::new(start);
        assert_eq!(due.left(start), EVERY);
        due.by(start + SETTLE);
        due.by(start + EVERY);
        assert_eq!(due.left(start), SETTLE);
        assert!(!due.is_over(start));
        due.again = Some(start + NAMESPACE);
        assert!(due.is_over(start + SETTLE));
        assert_eq!(due.left(start + SETTLE) + SETTLE, NAMESPACE);
        assert!(due.is_over(start + NAMESPACE));
        assert!(!due.is_over(start + NAMESPACE), "once");
        assert!(due.is_over(start + SETTLE + EVERY));
    }
}
