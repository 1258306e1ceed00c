//! A virtual machine, from its start to the words on its console.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command;

/// An emulated processor is ten to thirty times slower; more than that and it hangs.
const LIMIT_SECONDS: &str = "1200";

/// A kernel, what it runs, and where its console goes.
pub struct Machine<'a> {
    pub kernel: &'a Path,
    pub initramfs: &'a Path,
    pub log: &'a Path,
}

/// How a test program ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub program: String,
    pub took: Duration,
    code: i32,
    passed: usize,
    failed: Vec<String>,
}

impl Machine<'_> {
    /// Boots, waits until it switches itself off, and reads what it said.
    pub fn run(&self) -> Result<Vec<Outcome>> {
        let log = File::create(self.log)
            .with_context(|| format!("cannot create {}", self.log.display()))?;
        let mut qemu = Command::new("timeout");
        qemu.args(["--kill-after=10", LIMIT_SECONDS, "qemu-system-x86_64"]);
        qemu.args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "2048"]);
        qemu.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]);
        qemu.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        // A panic ends the machine; a busy host makes its timers late, which is no panic.
        qemu.args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"]);
        qemu.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let status = qemu.status().with_context(|| command::shown(&qemu))?;
        let console = String::from_utf8_lossy(&fs::read(self.log)?).into_owned();
        let outcomes = outcomes(&console);
        if !status.success() || outcomes.iter().any(|outcome| !outcome.is_good()) {
            let lines: Vec<&str> = console.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        if !console.contains("== uname ") {
            bail!("the kernel did not come up: see {}", self.log.display());
        }
        Ok(outcomes)
    }
}

impl Outcome {
    /// True if it ran tests, and all passed.
    pub fn is_good(&self) -> bool {
        self.code == 0 && self.passed > 0 && self.failed.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_good(), self.failed.first()) {
            (true, _) => write!(out, "ok, {} tests", self.passed),
            (false, None) => write!(out, "FAILED, exit code {}", self.code),
            (false, Some(first)) => write!(out, "FAILED: {first}"),
        }
    }
}

/// What the init script and the test programs wrote.
fn outcomes(console: &str) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let (mut passed, mut failed) = (0, Vec::new());
    for line in console.lines().map(str::trim_end) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["==", "begin", _] => (passed, failed) = (0, Vec::new()),
            ["test", _, "...", .., "ok"] => passed += 1,
            ["test", name, "...", .., "FAILED"] => failed.push(name.to_owned()),
            ["==", "end", program, code, seconds] => outcomes.push(Outcome {
                program: program.to_owned(),
                took: Duration::from_secs(seconds.parse().unwrap_or_default()),
                code: code.parse().unwrap_or(-1),
                passed,
                failed: std::mem::take(&mut failed),
            }),
            _ => {}
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_read() {
        let console = "== uname 6.1\r\n== begin a\r\ntest x ... ok\r\ntest y ... ok\r\n\
                       == end a 0 12\r\n== begin b\r\ntest z ... FAILED\r\n== end b 101 3\r\n\
                       == begin c\r\n== end c 0 0\r\n== begin d\r\n";
        let outcomes = outcomes(console);
        let good: Vec<bool> = outcomes.iter().map(Outcome::is_good).collect();
        assert_eq!(good, [true, false, false], "one that ran nothing is not good");
        let shown: Vec<String> = outcomes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["ok, 2 tests", "FAILED: z", "FAILED, exit code 0"]);
        assert_eq!(outcomes[0].took, Duration::from_secs(12));
    }
}
