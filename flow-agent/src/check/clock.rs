//! The clock: rows carry its time, so a clock that jumps or is wrong puts them elsewhere.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crossbeam::channel::bounded;
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

const TIME_SYNC: &str = "time_sync";

/// Whether the clock is right, by the kernel's own word; where nobody passes that on, who keeps it
/// right.
fn keeper() -> Finding {
    let kernel = said(&["timedatectl", "show", "--property=NTPSynchronized", "--value"]);
    let chrony = said(&["chronyc", "-c", "-n", "tracking"]);
    let kernel = kernel.as_deref().map(str::trim);
    synchronised(kernel, chrony.as_deref().and_then(estimate)).unwrap_or_else(daemon)
}

/// What is known for certain. `kernel` is what systemd-timedated reads by adjtimex(2): `yes` while
/// the kernel's estimate of the largest error is below 16 s. `estimate` is the time daemon's, s.
fn synchronised(kernel: Option<&str>, estimate: Option<f64>) -> Option<Finding> {
    let error =
        estimate.map_or(String::new(), |s| format!("; its error is at most {:.3} ms", s * 1e3));
    match (kernel, estimate) {
        (Some("yes"), _) => {
            let found = format!("the kernel has the clock as synchronised{error}");
            Some(Finding::ok(TIME_SYNC, found))
        }
        (None, Some(_)) => {
            Some(Finding::ok(TIME_SYNC, format!("chronyd has synchronised the clock{error}")))
        }
        (Some("no"), _) => Some(Finding::warn(
            TIME_SYNC,
            "the kernel has the clock as not synchronised (adjtimex: STA_UNSYNC): times in rows \
             may be wrong",
            "timedatectl set-ntp true, or look why the time daemon reaches no server \
             (timedatectl timesync-status, chronyc sources)",
        )),
        _ => None,
    }
}

/// The largest error of the clock, s, by the line of `chronyc -c tracking`: the offset of the
/// system's clock, half of the root delay and the root dispersion. None if chronyd has not
/// synchronised it.
fn estimate(line: &str) -> Option<f64> {
    let fields: Vec<_> = line.trim().split(',').collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let leap = *fields.get(13)?;
    (leap != "Not synchronised")
        .then(|| Some(number(4)?.abs() + number(10)? / 2.0 + number(11)?))
        .flatten()
}

/// What a program says, if it is there, succeeds and is quick.
fn said(words: &[&str]) -> Option<String> {
    const PATIENCE: Duration = Duration::from_secs(3);
    let mut command = Command::new(words.first()?);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let output = child.stdout.take()?;
    let (sender, answer) = bounded(1);
    let read = move || {
        // Nobody waits any more for one that is too late.
        let _ = sender.send(std::io::read_to_string(output));
    };
    std::thread::Builder::new().name("ask".into()).spawn(read).ok()?;
    let answer = answer.recv_timeout(PATIENCE).ok().and_then(Result::ok);
    if answer.is_none() {
        // It may have ended just now.
        let _ = child.kill();
    }
    child.wait().is_ok_and(|status| status.success()).then_some(answer).flatten()
}

/// Nobody passes on what the kernel knows.
fn daemon() -> Finding {
    const CHECK: &str = TIME_SYNC;
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
    fn the_kernels_word_is_stronger_than_the_daemons() {
        let right = "D8EF,216.239.35.0,2,1763690000.1,-0.000020,0.0,0.0,1.2,0.0,0.1,0.010,0.001,64.0,Normal\n";
        let error = estimate(right).expect("synchronised");
        assert!((error - 0.006_02).abs() < 1e-9, "{error}");
        let lost = right.replace("Normal", "Not synchronised");
        for bad in [lost.as_str(), "", "506 Cannot talk to daemon", "a,b"] {
            assert_eq!(estimate(bad), None, "{bad}");
        }
        let verdict = |kernel, estimate| synchronised(kernel, estimate).map(|it| it.verdict);
        assert_eq!(verdict(Some("yes"), None), Some(Verdict::Ok));
        assert_eq!(verdict(Some("no"), Some(0.1)), Some(Verdict::Warn));
        assert_eq!(verdict(None, Some(0.1)), Some(Verdict::Ok));
        for unknown in [None, Some(""), Some("n/a")] {
            assert_eq!(verdict(unknown, None), None);
        }
    }

    #[test]
    fn programs_that_are_missing_fail_or_hang_say_nothing() {
        assert_eq!(said(&["echo", "yes"]).as_deref(), Some("yes\n"));
        assert_eq!(said(&["false"]), None);
        assert_eq!(said(&["/nowhere/timedatectl"]), None);
        assert_eq!(said(&["sleep", "60"]), None);
    }

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
