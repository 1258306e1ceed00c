//! Handing the hooks over to another agent while packets flow, from the side of the one that runs.
//!
//! Its successor makes the folder [`SUCCESSOR`] in this agent's pin folder, locks it and asks by the
//! folder [`REQUEST`] in it. This agent pins its links there and says [`READY`]. The successor puts
//! its own programs into the links, each in one step of the kernel, so that every packet is counted
//! by one of them and none by both, and says [`TAKEN`]. Then this agent ends as if it was stopped:
//! the links are the successor's. It must hold that a successor that fails, which the lock tells,
//! changes nothing: the links get the programs of this agent back.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::version::has_tcx;
use super::{Hooks, PinFolder};
use crate::failpoint::failpoint;

/// In a pin folder: what a successor and its predecessor tell each other.
pub const SUCCESSOR: &str = "successor";
/// In that: the links are asked for.
pub const REQUEST: &str = "request";
/// They are there.
pub const READY: &str = "ready";
/// They have the programs of the successor.
pub const TAKEN: &str = "taken";

/// How often the agent that runs looks whether there is a successor.
pub const LOOK: Duration = Duration::from_millis(100);

/// The agent that runs, as its successor finds it.
pub struct Handover {
    /// None without a pin folder, and where TC programs have no links.
    folder: Option<PathBuf>,
    offered: bool,
}

impl Handover {
    /// Of an agent with these pins; without any it is never asked.
    pub fn new(pins: Option<&PinFolder>) -> Self {
        let folder = pins.filter(|_| has_tcx()).map(|pins| pins.path().join(SUCCESSOR));
        Self { folder, offered: false }
    }

    /// Does what a successor asks for; true when it has taken over.
    pub fn step(&mut self, hooks: &mut Hooks) -> bool {
        let Some(folder) = &self.folder else { return false };
        if !self.offered && !folder.join(REQUEST).is_dir() {
            return false;
        }
        if !is_held(folder) {
            // Also if it had taken over: nobody would meter.
            if self.offered {
                hooks.restore();
                self.offered = false;
            }
            clear(folder);
            tracing::warn!("the flow-agent that was to take over has not: this one goes on");
        } else if !self.offered {
            tracing::info!("another flow-agent takes over: it gets the hooks");
            self.offered = true;
            failpoint!("hand_over::asked");
            hooks.offer(folder);
            if let Err(error) = fs::create_dir(folder.join(READY)) {
                tracing::warn!("the hooks cannot be handed over: {error}");
            }
            failpoint!("hand_over::offered");
        } else if folder.join(TAKEN).is_dir() {
            failpoint!("hand_over::relieved");
            return true;
        }
        false
    }
}

/// True while a successor has locked the folder.
fn is_held(folder: &Path) -> bool {
    // Without a folder nobody is there any more.
    let Ok(file) = File::open(folder) else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}

/// Removes the folder with all that was said and pinned in it.
pub fn clear(folder: &Path) {
    let emptied = || -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir(&path)? } else { fs::remove_file(&path)? }
        }
        fs::remove_dir(folder)
    };
    match emptied() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("{}: {error}; remove it", folder.display());
        }
        _ => {}
    }
}
