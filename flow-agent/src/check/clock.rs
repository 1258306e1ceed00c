//! The clock: rows carry its time, so a clock that jumps or is wrong puts them elsewhere.

use std::fs;

use rustix::time::{ClockId, Timespec, clock_gettime};

use super::Finding;

/// Both clocks at one moment, in ns.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    real: i128,
    steady: i128,
}

/// Reads both clocks.
pub fn sample() -> Sample {
    let ns = |time: Timespec| i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    Sample {
        real: ns(clock_gettime(ClockId::Realtime)),
        steady: ns(clock_gettime(ClockId::Boottime)),
    }
}

/// Whether it was set in between, is possible at all, and is kept right by somebody.
pub fn check(before: Sample, after: Sample) -> Vec<Finding> {
    vec![steps(before, after), keeper()]
}

fn steps(before: Sample, after: Sample) -> Finding {
    const CHECK: &str = "clock";
    /// 2025-01-01.
    const EARLIEST: i128 = 1_735_689_600_000_000_000;
    /// Beyond what slewing does while this looks.
    const STEP_MS: i128 = 50;
    let fix = "let chrony or systemd-timesyncd set it, and start the agent afterwards";
    if after.real < EARLIEST {
        return Finding::fail(CHECK, "it is before 2025", fix);
    }
    let moved = (after.real - before.real) - (after.steady - before.steady);
    let moved = moved / 1_000_000;
    if moved.abs() > STEP_MS {
        let found = format!("it was set by {moved} ms while this looked: times of flows jump");
        return Finding::warn(CHECK, found, fix);
    }
    Finding::ok(CHECK, "CLOCK_REALTIME runs as CLOCK_BOOTTIME does")
}

/// Who keeps it right; the kernel's own word (adjtimex) is not asked.
fn keeper() -> Finding {
    const CHECK: &str = "time_sync";
    if fs::exists("/run/systemd/timesync/synchronized").unwrap_or(false) {
        return Finding::ok(CHECK, "systemd-timesyncd has synchronised the clock");
    }
    const DAEMONS: [&str; 7] =
        ["chronyd", "ntpd", "ntpd-rs", "ntp-daemon", "phc2sys", "openntpd", "timemaster"];
    let running = fs::read_dir("/proc").ok().and_then(|processes| {
        processes.flatten().find_map(|process| {
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            DAEMONS.into_iter().find(|daemon| *daemon == name.trim())
        })
    });
    match running {
        Some(daemon) => Finding::ok(CHECK, format!("{daemon} runs")),
        None => Finding::warn(
            CHECK,
            "no time daemon is seen here: nobody may keep the clock right",
            "apt-get install systemd-timesyncd or chrony (in a container the host may have one)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_step_and_an_impossible_year_are_seen() {
        const S: i128 = 1_000_000_000;
        let now = Sample { real: 1_800_000_000 * S, steady: 5 * S };
        let later = |real: i128| Sample { real: now.real + real, steady: now.steady + S };
        assert_eq!(steps(now, later(S)).verdict, Verdict::Ok);
        assert_eq!(steps(now, later(S + S / 100)).verdict, Verdict::Ok);
        assert_eq!(steps(now, later(3600 * S)).verdict, Verdict::Warn);
        assert_eq!(steps(now, later(-S)).verdict, Verdict::Warn);
        let long_ago = Sample { real: 0, steady: 0 };
        assert_eq!(steps(long_ago, long_ago).verdict, Verdict::Fail);
    }
}
