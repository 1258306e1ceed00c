//! Kernel time: jiffies and the boot clock of table entries become agent time.
//!
//! Ordinary packets are stamped with jiffies, which cost nothing, so the last
//! packet of a flow is known to a tick (1 to 10 ms). *Agent time* is the boot
//! clock plus the offset to the wall clock at start: it never steps, so timeouts
//! do not either. How far the wall clock has moved since is sampled at each drain
//! and added when a record leaves the cache. What suspends of the host do to jiffies is
//! in [`super::suspend`].

use aya::maps::{Array, MapData};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use flow_common::table::ClockReading;

use super::DrainError;
use super::suspend::{Suspend, SuspendWatch, suspended_ns};

/// Tick rates that Linux can be built with on x86-64 and arm64, in Hz (kernel/Kconfig.hz).
const KNOWN_HZ: [u64; 4] = [100, 250, 300, 1000];

/// Converts kernel times; valid until the next drain.
#[derive(Clone, Copy, Debug)]
pub struct KernelClock {
    reading: ClockReading,
    tick_ns: u64,
    /// Agent time minus boot time.
    offset_ns: i64,
    /// Unix time minus agent time.
    drift_ns: i64,
    suspend: Suspend,
}

impl KernelClock {
    /// Agent time of a boot-clock stamp, in ns; 0 stays 0, which means "never".
    pub fn agent_ns(&self, boot_ns: u64) -> u64 {
        if boot_ns == 0 { 0 } else { boot_ns.saturating_add_signed(self.offset_ns) }
    }

    /// Agent time of the reading, in ns.
    pub fn now_ns(&self) -> u64 {
        self.agent_ns(self.reading.boot_ns)
    }

    /// The kernel's clocks at that moment.
    pub(super) const fn reading(&self) -> ClockReading {
        self.reading
    }

    /// What agent time lacks to Unix time, in ns.
    pub const fn drift_ns(&self) -> i64 {
        self.drift_ns
    }

    /// Agent time of the low half of a jiffies stamp that is at most 2^31 ticks old, in ns.
    pub fn agent_ns_of_jiffies(&self, jiffies: u32) -> u64 {
        let age = (self.reading.jiffies as u32).wrapping_sub(jiffies) as i32;
        // A stamp may be newer than the reading by the ticks since.
        let stamp = self.reading.jiffies.saturating_add_signed(-i64::from(age));
        let age_ns = i64::from(age) * self.tick_ns as i64 + self.suspend.since(stamp) as i64;
        self.agent_ns(self.reading.boot_ns.saturating_add_signed(-age_ns))
    }
}

/// Reads the kernel's clocks by running a program that is attached nowhere.
pub struct ClockReader {
    map: Array<MapData, [u64; 2]>,
    tick_ns: u64,
    /// Agent time minus boot time, from the first sample on.
    offset_ns: Option<i64>,
    suspends: SuspendWatch,
}

impl ClockReader {
    /// Measures the length of a tick, three times over five of them.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn new(
        program: &SchedClassifier,
        map: Array<MapData, [u64; 2]>,
    ) -> Result<Self, DrainError> {
        let mut reader =
            Self { map, tick_ns: 0, offset_ns: None, suspends: SuspendWatch::default() };
        let mut rates = [0; 3];
        for rate in &mut rates {
            let first = reader.next_tick(program, 1)?;
            let last = reader.next_tick(program, 5)?;
            let elapsed = last.boot_ns.saturating_sub(first.boot_ns).max(1);
            *rate = (last.jiffies - first.jiffies) * 1_000_000_000 / elapsed;
        }
        // A measurement that was interrupted is off; the kernel's constant is not.
        rates.sort_unstable();
        let hz = KNOWN_HZ.into_iter().min_by_key(|hz| hz.abs_diff(rates[1])).unwrap_or(250);
        reader.tick_ns = 1_000_000_000 / hz;
        Ok(reader)
    }

    /// Samples all clocks now; `wall_clock` reads Unix ns.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn sample(
        &mut self,
        program: &SchedClassifier,
        wall_clock: impl FnOnce() -> u64,
    ) -> Result<KernelClock, DrainError> {
        let reading = self.read(program)?;
        self.suspends.look(suspended_ns(), || Ok(reading.jiffies))?;
        let unix_offset_ns = wall_clock() as i64 - reading.boot_ns as i64;
        let offset_ns = *self.offset_ns.get_or_insert(unix_offset_ns);
        let drift_ns = unix_offset_ns - offset_ns;
        let (tick_ns, suspend) = (self.tick_ns, self.suspends.last());
        Ok(KernelClock { reading, tick_ns, offset_ns, drift_ns, suspend })
    }

    /// Looks whether the host was suspended; to be called often, costs two readings of clocks.
    ///
    /// # Errors
    /// It was, and the program cannot be run.
    pub fn look(&mut self, program: &SchedClassifier) -> Result<(), DrainError> {
        let mut suspends = self.suspends;
        suspends.look(suspended_ns(), || Ok(self.read(program)?.jiffies))?;
        self.suspends = suspends;
        Ok(())
    }

    fn next_tick(&self, program: &SchedClassifier, ticks: u64) -> Result<ClockReading, DrainError> {
        let start = self.read(program)?.jiffies;
        loop {
            let reading = self.read(program)?;
            if reading.jiffies >= start + ticks {
                return Ok(reading);
            }
        }
    }

    fn read(&self, program: &SchedClassifier) -> Result<ClockReading, DrainError> {
        // The program looks at no packet, but a test run must be given one.
        let frame = [0u8; 14];
        let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
        program.test_run(options).map_err(DrainError::clock)?;
        let [jiffies, boot_ns] = self.map.get(&0, 0).map_err(DrainError::map)?;
        Ok(ClockReading { jiffies, boot_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: KernelClock = KernelClock {
        reading: ClockReading { jiffies: 0x1_0000_0005, boot_ns: 1_000_000_000 },
        tick_ns: 4_000_000,
        offset_ns: 5_000_000_000,
        drift_ns: 0,
        suspend: Suspend { found_jiffies: 0, length_ns: 0 },
    };

    #[test]
    fn boot_time_moves_by_the_offset() {
        assert_eq!(CLOCK.agent_ns(2_000_000_000), 7_000_000_000);
        assert_eq!(CLOCK.agent_ns(0), 0);
    }

    #[test]
    fn jiffies_wrap_and_may_be_newer_than_the_reading() {
        assert_eq!(CLOCK.agent_ns_of_jiffies(5), 6_000_000_000);
        assert_eq!(CLOCK.agent_ns_of_jiffies(u32::MAX), 6_000_000_000 - 6 * 4_000_000);
        assert_eq!(CLOCK.agent_ns_of_jiffies(6), 6_004_000_000);
    }
    #[test]
    fn stamps_from_before_a_suspend_are_older_by_its_length() {
        // Found two ticks before the reading.
        let suspend = Suspend { found_jiffies: 0x1_0000_0003, length_ns: 600_000_000 };
        let clock = KernelClock { suspend, ..CLOCK };
        assert_eq!(clock.agent_ns_of_jiffies(6), 6_004_000_000);
        assert_eq!(clock.agent_ns_of_jiffies(3), 6_000_000_000 - 2 * 4_000_000);
        assert_eq!(clock.agent_ns_of_jiffies(2), 5_400_000_000 - 3 * 4_000_000);
        assert_eq!(clock.agent_ns_of_jiffies(u32::MAX), 5_400_000_000 - 6 * 4_000_000);
    }
}
