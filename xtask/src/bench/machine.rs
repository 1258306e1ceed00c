//! Where something was measured.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::command;

/// What a figure depends on besides the program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// How many of them this system has.
    pub cpus: usize,
    /// GiB.
    pub memory_gib: f64,
    /// Linux's release.
    pub kernel: String,
    /// The compiler.
    pub rustc: String,
    /// What was measured.
    pub agent: String,
    /// The commit that is checked out; with a `+` if files differ from it.
    pub commit: String,
    /// When, as `YYYY-MM-DD`.
    pub date: String,
}

impl Machine {
    /// For people.
    pub fn line(&self) -> String {
        format!(
            "{}, {} CPUs, {:.0} GiB, Linux {}, {}, {} ({}), {}",
            self.cpu,
            self.cpus,
            self.memory_gib,
            self.kernel,
            self.rustc,
            self.agent,
            self.commit,
            self.date
        )
    }
}

/// This one.
pub fn describe(agent: &Path) -> Machine {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or(String::new(), |(_, v)| v.trim().into())
    };
    let cpu = file("/proc/cpuinfo");
    let memory_kb = field(&file("/proc/meminfo"), "MemTotal");
    let memory_kb: f64 = memory_kb.trim_end_matches(" kB").parse().unwrap_or_default();
    let said = |program: &str, words: &[&str]| {
        command::probe(program, words).unwrap_or_default().trim().to_owned()
    };
    let dirty = said("git", &["status", "--porcelain"]);
    let mark = if dirty.is_empty() { "" } else { "+" };
    let version = command::probe(agent, &["--version"]).unwrap_or_default();
    Machine {
        // Virtual machines hide the model behind numbers.
        cpu: [field(&cpu, "model name"), field(&cpu, "vendor_id")]
            .into_iter()
            .find(|name| !name.is_empty() && name != "unknown")
            .map(|name| format!("{name} (family {})", field(&cpu, "cpu family")))
            .unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_gib: memory_kb / 1024.0 / 1024.0,
        kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
        rustc: said("rustc", &["--version"]),
        agent: version.lines().next().unwrap_or_default().to_owned(),
        commit: said("git", &["rev-parse", "--short", "HEAD"]) + mark,
        date: said("date", &["-u", "+%Y-%m-%d"]),
    }
}
