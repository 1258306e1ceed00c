//! Attaching to hundreds of interfaces in less than a second.
//!
//! The kernel waits for a grace period of RCU with each TCX program, under the lock of all
//! its network configuration: 1200 programs keep every `ip` command of the host waiting for
//! 8 to 16 s. Expedited grace periods, which the kernel itself takes under that lock wherever
//! it asks for one by `synchronize_net`, do the same in 0.3 s. The switch is one for the
//! whole host, so it is on only while many are attached or detached. A note says so
//! meanwhile, locked by the agent that does it: when that is killed, the next one finds the
//! note without an owner, and switches off what it would else take for the host's own setting.

use std::fs::{self, File};
use std::io::{self, Write};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

const SWITCH: &str = "/sys/kernel/rcu_expedited";
/// Not empty while an agent has switched it on. It is gone with the next boot, as the
/// switch's position is.
const NOTE: &str = "/run/flow-agent-rcu_expedited";

/// Grace periods are expedited until it is dropped.
#[derive(Debug)]
pub struct Expedited {
    note: File,
}

impl Expedited {
    /// None if they are already, or may not be: then everything takes longer.
    pub fn new() -> Option<Self> {
        let switched = || -> io::Result<Option<Self>> {
            let Some(mut note) = lock(File::options().create(true).append(true).open(NOTE)?)?
            else {
                return Ok(None);
            };
            let left_over = note.metadata()?.len() > 0;
            if !left_over && fs::read_to_string(SWITCH)?.trim() != "0" {
                return Ok(None);
            }
            note.write_all(b"1\n")?;
            let expedited = Self { note };
            fs::write(SWITCH, "1")?;
            Ok(Some(expedited))
        };
        switched().unwrap_or_else(|error| {
            tracing::debug!("grace periods are not expedited: {NOTE} or {SWITCH}: {error}");
            None
        })
    }

    /// Switches off what an agent that was killed has left on.
    pub fn end_left_over() {
        let find = || -> io::Result<Option<Self>> {
            let Some(note) = lock(File::options().append(true).open(NOTE)?)? else {
                return Ok(None);
            };
            Ok((note.metadata()?.len() > 0).then_some(Self { note }))
        };
        // Without a note there is nothing to do.
        if let Ok(Some(left_over)) = find() {
            tracing::info!("{SWITCH} was left on by an agent that was killed");
            drop(left_over);
        }
    }
}

/// None if another agent has it.
fn lock(note: File) -> io::Result<Option<File>> {
    match flock(&note, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(note)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        match fs::write(SWITCH, "0") {
            Ok(()) => {
                if let Err(error) = self.note.set_len(0) {
                    tracing::warn!("{NOTE} says still that {SWITCH} is on: {error}; remove it");
                }
            }
            // Where it may not be read or written, it was not switched on either.
            Err(error) => tracing::warn!("{SWITCH} stays as it is: {error}; set it to 0"),
        }
    }
}
