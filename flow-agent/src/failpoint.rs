//! Failpoints: places where a test kills the agent (crate `fail`). They are nothing without the
//! feature `failpoints`, which is never in what is shipped.
//!
//! `FLOW_FAILPOINT=NAME` names one, `FLOW_FAILPOINT_FOLDER=DIR` a folder: once a file `armed` is
//! there, the agent dies when it comes to that place next, and leaves a file `held` with what was
//! in its cache and batches outside the spool, as its ledger says: `INTERFACE PACKETS OCTETS`.

/// A place where a test may kill the agent.
macro_rules! failpoint {
    ($name:literal) => {
        fail::fail_point!($name);
    };
}

pub(crate) use failpoint;

#[cfg(feature = "failpoints")]
pub use armed::{arm, watch};

/// Nothing is armed in what is shipped.
#[cfg(all(feature = "live", not(feature = "failpoints")))]
pub(crate) fn watch(_: &crate::ledger::Ledger, _: &crate::spool::SpoolStatus) {}

#[cfg(feature = "failpoints")]
mod armed {
    use std::env::var;
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;

    use rustix::process::{Signal, getpid, kill_process};

    use crate::ledger::{Ledger, in_flight};
    use crate::spool::SpoolStatus;

    static HOLDS: OnceLock<(Ledger, SpoolStatus)> = OnceLock::new();

    /// Arms what the environment names.
    ///
    /// # Errors
    /// What it names cannot be armed.
    pub fn arm() -> Result<(), String> {
        let (Ok(name), Ok(folder)) = (var("FLOW_FAILPOINT"), var("FLOW_FAILPOINT_FOLDER")) else {
            return Ok(());
        };
        let folder = PathBuf::from(folder);
        fail::cfg_callback(name, move || {
            if folder.join("armed").exists() {
                die(&folder);
            }
        })
    }

    /// What this agent holds is known to these.
    pub fn watch(ledger: &Ledger, spool: &SpoolStatus) {
        // Only one agent runs in a process.
        let _ = HOLDS.set((ledger.clone(), spool.clone()));
    }

    /// Ends this process as the kernel does when memory is short.
    fn die(folder: &Path) -> ! {
        if let Some((ledger, spool)) = HOLDS.get() {
            // A test that does not find it fails.
            let _ = std::fs::write(folder.join("held"), held(ledger, spool));
        }
        let _ = kill_process(getpid(), Signal::KILL);
        loop {
            std::thread::park();
        }
    }

    fn held(ledger: &Ledger, spool: &SpoolStatus) -> String {
        let spooled = spool.contents().counts;
        let line = |(name, totals)| {
            let (packets, octets) = in_flight(&totals);
            let there = spooled.get(&name).copied().unwrap_or_default();
            let (packets, octets) = (packets - there.packets as i64, octets - there.octets as i64);
            format!("{name} {packets} {octets}\n")
        };
        ledger.interfaces().into_iter().map(line).collect()
    }
}
