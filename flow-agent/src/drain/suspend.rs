//! Suspends of the host: jiffies stand still meanwhile, the boot clock goes on.
//!
//! Enters: now and then, how long the host has been suspended since its start. Leaves: the
//! last [`Suspend`]. Jiffies stamps from before the look that found it are older by its
//! length than their distance in ticks says.
//!
//! What remains unknown: packets between the resume and that look (at most some 10 ms, unless
//! the agent was kept from running) are taken to be from before the suspend, though not from
//! before their flow began. Of several suspends between two drains the last one is known.
//! What a killed agent left shows a suspend before the next agent's start as running time.

use rustix::time::{ClockId, clock_gettime};

use super::DrainError;

/// Two readings of the clocks may differ so much without a suspend, in ns.
const NOISE_NS: u64 = 1_000_000;

/// One suspend of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspend {
    /// Jiffies when it was found to be over.
    pub found_jiffies: u64,
    /// Its length in ns; 0 if there was none.
    pub length_ns: u64,
}

impl Suspend {
    /// How long the host was suspended since a stamp in jiffies, in ns.
    pub const fn since(self, jiffies: u64) -> u64 {
        if jiffies < self.found_jiffies { self.length_ns } else { 0 }
    }
}

/// Finds suspends.
#[derive(Clone, Copy, Debug, Default)]
pub struct SuspendWatch {
    /// At the last look.
    suspended_ns: Option<u64>,
    last: Suspend,
}

impl SuspendWatch {
    /// Takes the time that the host has been suspended since its start, in ns. `jiffies` reads
    /// the present ones: asked for when that has grown.
    ///
    /// # Errors
    /// That of `jiffies`; nothing is taken then.
    pub fn look(
        &mut self,
        suspended_ns: u64,
        jiffies: impl FnOnce() -> Result<u64, DrainError>,
    ) -> Result<(), DrainError> {
        let before = *self.suspended_ns.get_or_insert(suspended_ns);
        if suspended_ns > before + NOISE_NS {
            self.last = Suspend { found_jiffies: jiffies()?, length_ns: suspended_ns - before };
            self.suspended_ns = Some(suspended_ns);
        }
        Ok(())
    }

    /// The last suspend that was found.
    pub const fn last(self) -> Suspend {
        self.last
    }
}

/// How long the host has been suspended since its start, in ns.
pub fn suspended_ns() -> u64 {
    // An interruption between the two looks like a suspend; the least of three has none.
    let difference = || {
        let monotonic = ns(ClockId::Monotonic);
        ns(ClockId::Boottime).saturating_sub(monotonic)
    };
    difference().min(difference()).min(difference())
}

fn ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspend_is_found_once_and_noise_is_none() {
        const MINUTE: u64 = 60_000_000_000;
        let mut watch = SuspendWatch::default();
        let mut look = |suspended_ns, jiffies| {
            watch.look(suspended_ns, || Ok(jiffies)).expect("can be read");
            watch.last()
        };
        // Before the first look: not known, not of interest.
        assert_eq!(look(MINUTE, 10), Suspend::default());
        assert_eq!(look(MINUTE + NOISE_NS, 20), Suspend::default());
        let found = Suspend { found_jiffies: 30, length_ns: 2 * MINUTE };
        assert_eq!(look(3 * MINUTE, 30), found);
        assert_eq!(look(3 * MINUTE - 5, 40), found);
        assert_eq!((found.since(29), found.since(30)), (2 * MINUTE, 0));
        assert_eq!(look(4 * MINUTE, 50), Suspend { found_jiffies: 50, length_ns: MINUTE });
    }
}
