//! The thread that reads the neighbour tables: now and then, in every metered namespace.
//!
//! Enters: which interfaces are metered. Leaves: [`LinkState`](super::LinkState)s, to the
//! analytics. Namespaces are entered by short-lived threads, and none is kept open.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::worker::AnalyticsControl;
use crate::attach::{Scanner, Selection, link_states};

/// Selections that may wait: each is whole, so the last one counts.
const QUEUE: usize = 16;

/// The running thread; ends when this is dropped.
pub struct NeighbourWatch {
    selections: Option<Sender<Selection>>,
    thread: Option<JoinHandle<()>>,
}

impl NeighbourWatch {
    /// Starts it; it looks at once and then after each `interval`.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub fn start(
        selection: Selection,
        interval: Duration,
        control: AnalyticsControl,
        wall_clock: fn() -> u64,
    ) -> io::Result<Self> {
        let (selections, receiver) = bounded(QUEUE);
        let thread = thread::Builder::new()
            .name("neighbours".into())
            .spawn(move || run(selection, interval, &control, wall_clock, &receiver))?;
        Ok(Self { selections: Some(selections), thread: Some(thread) })
    }

    /// Looks at other interfaces from now on.
    pub fn select(&self, selection: Selection) {
        if let Some(selections) = &self.selections {
            // A thread that has fallen behind has newer ones to come.
            let _ = selections.try_send(selection);
        }
    }
}

impl Drop for NeighbourWatch {
    fn drop(&mut self) {
        drop(self.selections.take());
        if let Some(thread) = self.thread.take() {
            // It looks at most once more; what it panicked about it has said.
            let _ = thread.join();
        }
    }
}

fn run(
    selection: Selection,
    interval: Duration,
    control: &AnalyticsControl,
    wall_clock: fn() -> u64,
    selections: &Receiver<Selection>,
) {
    let mut scanner = Scanner::new(selection);
    let mut said = String::new();
    loop {
        match scanner.scan() {
            Ok(scan) => {
                let now_ns = wall_clock();
                let (links, errors) = link_states(&scan.found, now_ns);
                control.set_network(links, now_ns);
                tell(&errors.join("; "), &mut said);
            }
            Err(error) => tell(&error.to_string(), &mut said),
        }
        match selections.recv_timeout(interval) {
            Ok(selection) => scanner.select(selection),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Says what is other than before.
fn tell(error: &str, said: &mut String) {
    if !error.is_empty() && error != said {
        tracing::warn!("not every neighbour table can be read, devices may be missing: {error}");
    }
    error.clone_into(said);
}
