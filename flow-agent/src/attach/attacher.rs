//! The attacher: keeps the hooks as they are asked for, in a thread of its own.
//!
//! Attaching, detaching and looking at links wait for the lock of all network
//! configuration, which the kernel may hold for seconds, for example while a namespace
//! with hundreds of interfaces ends. The drain must not.

use std::convert::Infallible;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{
    Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, tick, unbounded,
};
use crossbeam::select;

use super::expedite::Expedited;
use super::handover::{Handover, LOOK};
use super::{AttachError, Hooks, Interface, Selection, Watcher};
use crate::privileges::Privileges;

/// The running attacher.
pub struct Attacher {
    started: Receiver<Result<usize, AttachError>>,
    selections: Sender<Selection>,
    /// Dropped to stop it.
    stop: Option<Sender<Infallible>>,
    /// Without a sender when everything is detached.
    done: Receiver<Infallible>,
    /// Gets a message when another agent has taken over.
    relieved: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Attacher {
    /// Attaches to the interfaces that were found, and then, with fewer privileges, to those that
    /// come.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub fn start(
        mut hooks: Hooks,
        found: Vec<Interface>,
        watcher: Watcher,
        privileges: Privileges,
        handover: Handover,
    ) -> std::io::Result<Self> {
        let (relieve, relieved) = bounded(1);
        let (started_sender, started) = bounded(1);
        let (stop, stopped) = bounded(0);
        let (selections, selected) = unbounded();
        let (done_sender, done) = bounded(0);
        let work = move || {
            let _done: Sender<Infallible> = done_sender;
            Expedited::end_left_over();
            hooks.want(found, Instant::now());
            if attach_all(&mut hooks, &stopped) {
                let result = hooks.started().map(|()| hooks.metered());
                let good = result.is_ok();
                if good {
                    privileges.attached();
                }
                // Who does not listen is stopping.
                let _ = started_sender.send(result);
                if good {
                    let mut relief = Relief { handover, relieve };
                    keep(&mut hooks, watcher, &selected, &stopped, &mut relief);
                }
            }
            hooks.want_none();
            while hooks.is_busy() {
                hooks.step(Instant::now());
            }
        };
        let thread = std::thread::Builder::new().name("attach".into()).spawn(work)?;
        Ok(Self { started, selections, stop: Some(stop), done, relieved, thread })
    }

    /// How the start went, once: interfaces that are metered.
    pub fn news(&self) -> Option<Result<usize, AttachError>> {
        self.started.try_recv().ok()
    }

    /// False when the thread has ended before it was told to: it panicked, or the start failed.
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// True when another agent has taken over: this one has to stop.
    pub fn is_relieved(&self) -> bool {
        self.relieved.try_recv().is_ok()
    }

    /// Meters what is asked for now, and nothing else.
    pub fn select(&self, selection: Selection) {
        // A thread that has ended has said why.
        let _ = self.selections.send(selection);
    }

    /// Begins to detach everything.
    pub fn stop(&mut self) {
        self.stop = None;
    }

    /// True when everything is detached, for which it waits so long.
    pub fn is_done(&self, limit: Duration) -> bool {
        matches!(self.done.recv_timeout(limit), Err(RecvTimeoutError::Disconnected))
    }
}

/// Whether there is a successor, and whom that concerns.
struct Relief {
    handover: Handover,
    relieve: Sender<()>,
}

impl Relief {
    /// Does what a successor asks for.
    fn look(&mut self, hooks: &mut Hooks) {
        if self.handover.step(hooks) {
            // One message is enough.
            let _ = self.relieve.try_send(());
        }
    }
}

/// False if it was stopped meanwhile.
fn attach_all(hooks: &mut Hooks, stopped: &Receiver<Infallible>) -> bool {
    while hooks.is_busy() {
        if matches!(stopped.try_recv(), Err(TryRecvError::Disconnected)) {
            return false;
        }
        hooks.step(Instant::now());
    }
    true
}

/// Attaches and detaches as interfaces come and go, until it is stopped.
fn keep(
    hooks: &mut Hooks,
    watcher: Watcher,
    selected: &Receiver<Selection>,
    stopped: &Receiver<Infallible>,
    relief: &mut Relief,
) {
    let mut watch = match watcher.watch() {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!("interfaces are not watched: {error}");
            return ignore(hooks, selected, stopped, relief);
        }
    };
    let looks = tick(LOOK);
    loop {
        if !attach_all(hooks, stopped) {
            return;
        }
        let scan = select! {
            recv(stopped) -> _ => return,
            recv(selected) -> selection => {
                // Without a sender the agent is stopping.
                let Ok(selection) = selection else { return };
                watch.select(selection);
                continue;
            }
            recv(looks) -> _ => {
                relief.look(hooks);
                continue;
            }
            recv(watch.scans()) -> scan => scan,
        };
        let Ok(scan) = scan else {
            // The watch has said why it has ended.
            return ignore(hooks, selected, stopped, relief);
        };
        hooks.want(watch.latest().unwrap_or(scan).found, Instant::now());
    }
}

/// Without a watch what is metered stays as it is; waits until it is stopped.
fn ignore(
    hooks: &mut Hooks,
    selected: &Receiver<Selection>,
    stopped: &Receiver<Infallible>,
    relief: &mut Relief,
) {
    let looks = tick(LOOK);
    loop {
        select! {
            recv(looks) -> _ => relief.look(hooks),
            recv(stopped) -> _ => return,
            recv(selected) -> selection => {
                // Without a sender the agent is stopping.
                if selection.is_err() {
                    return;
                }
                tracing::warn!(
                    "the interfaces of the new configuration are not looked for, because \
                     interfaces are not watched; restart the agent"
                );
            }
        }
    }
}
