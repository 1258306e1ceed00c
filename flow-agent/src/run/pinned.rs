//! What outlives a killed agent: its tables and its books, pinned in a BPF file system.
//!
//! Enters: the folder of pins. Leaves: this agent's own pins, and what dead agents left in theirs.
//! An agent that cannot pin meters all the same.

use std::fs::File;

use super::kept::Kept;
use super::legacy::Legacy;
use crate::attach::{AttachError, EstateMap, Kernel, PinFolder};
use crate::config::Config;
use crate::estate::Memory;
use crate::failpoint::failpoint;

/// Keeps the tables for the next agent, should this one be killed.
pub fn pin(config: &Config, kernel: &Kernel) -> Option<PinFolder> {
    let parent = config.pin_dir.as_ref()?;
    match PinFolder::create(parent, kernel) {
        Ok(folder) => Some(folder),
        Err(error) => {
            tracing::warn!(
                "{error}; if this agent is killed, what it holds is lost without a count"
            );
            None
        }
    }
}

/// Nothing is left for the next agent: not before the last books are in the spool, else it would
/// need them. What is left is the lock that tells a successor of the end.
pub fn unpin(pins: Option<PinFolder>) -> Option<File> {
    let removed = pins.map(PinFolder::remove).transpose();
    removed.inspect_err(|error| tracing::warn!("{error}")).ok().flatten()
}

/// What agents that were killed left: folders of tables, and what the books begin with.
pub fn look_back(config: &Config, pins: Option<&PinFolder>) -> (Vec<PinFolder>, Kept) {
    let Legacy { folders, remains } = Legacy::find(config);
    (folders, Kept { memory: pins.and_then(estate), remains })
}

/// This agent's own estate says now what was in theirs.
pub fn forget_estates(folders: &[PinFolder]) -> Result<(), AttachError> {
    failpoint!("start::inherited");
    folders.iter().try_for_each(PinFolder::forget_estate)
}

/// Where this agent's books outlive it.
fn estate(pins: &PinFolder) -> Option<Box<dyn Memory>> {
    match EstateMap::create(pins) {
        Ok(map) => Some(Box::new(map)),
        Err(error) => {
            tracing::warn!("{error}; if this agent is killed, what it holds is lost uncounted");
            None
        }
    }
}
