//! Attaching to hundreds of interfaces in less than a second.
//!
//! The kernel waits for a grace period of RCU with each TCX program, under the lock of all
//! its network configuration: 1200 programs keep every `ip` command of the host waiting for
//! 8 to 16 s. Expedited grace periods, which the kernel itself takes under that lock wherever
//! it asks for one by `synchronize_net`, do the same in 0.3 s. The switch is one for the
//! whole host, so it is on only while many are attached or detached.

use std::fs;
use std::io;

const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// Grace periods are expedited until it is dropped.
#[derive(Debug)]
pub struct Expedited(());

impl Expedited {
    /// None if they are already, or may not be: then everything takes longer.
    pub fn new() -> Option<Self> {
        let switched = || -> io::Result<bool> {
            if fs::read_to_string(SWITCH)?.trim() != "0" {
                return Ok(false);
            }
            fs::write(SWITCH, "1")?;
            Ok(true)
        };
        match switched() {
            Ok(switched) => switched.then_some(Self(())),
            Err(error) => {
                tracing::debug!("grace periods are not expedited: {SWITCH}: {error}");
                None
            }
        }
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, "0") {
            tracing::warn!("{SWITCH} stays at 1: {error}; set it to 0");
        }
    }
}
