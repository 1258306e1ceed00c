//! CPU time of a process, as the kernel counts it.

use anyhow::{Context, Result};

/// `/proc/PID/stat` counts in these; the same on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// Seconds on a CPU, of all threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// In its own code.
    pub user_s: f64,
    /// In the kernel, for it.
    pub system_s: f64,
}

impl Cpu {
    /// Of a process, since its start.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        // The name, in parentheses, may have anything in it; user and system time are the 12th
        // and 13th word after it.
        let after = text.rsplit_once(") ").map_or("", |(_, after)| after);
        let mut ticks = after.split(' ').skip(11).map(str::parse::<f64>);
        let mut next = || ticks.next().with_context(|| format!("{path} has no CPU times"));
        let (user, system) = (next()??, next()??);
        Ok(Self { user_s: user / TICKS_PER_S, system_s: system / TICKS_PER_S })
    }

    /// What has come since.
    pub fn since(self, before: Self) -> Self {
        Self { user_s: self.user_s - before.user_s, system_s: self.system_s - before.system_s }
    }
}
