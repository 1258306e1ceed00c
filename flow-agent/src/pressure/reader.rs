//! Reads how much memory is used and of how much: the control group's files, else the host's.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Reading;

/// Files of `/proc` and of control groups are small.
const MOST_OCTETS: u64 = 1 << 16;
/// Control groups above each other that are looked at.
const MOST_LEVELS: usize = 64;

/// Who says how much memory there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The control group of this process, or one above it.
    ControlGroup,
    /// The host: no control group limits this process.
    Host,
}

impl Source {
    /// The name in metrics and documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ControlGroup => "cgroup",
            Self::Host => "host",
        }
    }
}

/// Where the files are.
#[derive(Clone, Debug)]
pub struct Reader {
    proc: PathBuf,
    /// The folders of the control group and those above it, innermost first.
    groups: Vec<PathBuf>,
}

impl Reader {
    /// The files of this process.
    pub fn new() -> Self {
        Self::at("/proc", "/sys/fs/cgroup")
    }

    /// The same, below other folders.
    pub fn at(proc: impl Into<PathBuf>, control_groups: impl AsRef<Path>) -> Self {
        let (proc, root) = (proc.into(), control_groups.as_ref());
        let own = text(&proc.join("self/cgroup")).unwrap_or_default();
        // Version 2 has the hierarchy 0, without controllers.
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let groups = path.map(|path| root.join(path)).filter(|group| group.is_dir());
        let groups = groups.iter().flat_map(|group| group.ancestors());
        let below = groups.take_while(|group| group.starts_with(root)).take(MOST_LEVELS);
        Self { groups: below.map(Path::to_owned).collect(), proc }
    }

    /// What they say now; none where neither can be read.
    pub fn read(&self) -> Option<Reading> {
        let stall_percent = self.stall_percent();
        let limited = self.groups.iter().filter_map(|group| limited(group));
        // The one that is nearest to its limit is felt first.
        let nearest = limited.max_by(|a, b| share(*a).total_cmp(&share(*b)));
        if let Some((used_bytes, limit_bytes)) = nearest {
            let source = Source::ControlGroup;
            return Some(Reading { used_bytes, limit_bytes, stall_percent, source });
        }
        let memory = text(&self.proc.join("meminfo"))?;
        let of = |key| value(&memory, key).map(|kib| kib << 10);
        let (total, available) = (of("MemTotal:")?, of("MemAvailable:")?);
        let used_bytes = total.saturating_sub(available);
        Some(Reading { used_bytes, limit_bytes: total, stall_percent, source: Source::Host })
    }

    /// `some avg10` of the own group, else of the host; 0 where neither says.
    fn stall_percent(&self) -> f32 {
        let group = self.groups.first().map(|group| group.join("memory.pressure"));
        let pressure = group.and_then(|path| text(&path));
        let pressure = pressure.or_else(|| text(&self.proc.join("pressure/memory")));
        pressure.as_deref().and_then(average).unwrap_or(0.0)
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

/// Octets in use and the limit of a group that has one.
fn limited(group: &Path) -> Option<(u64, u64)> {
    let number = |name: &str| text(&group.join(name))?.trim().parse::<u64>().ok();
    // "max" is no number: no limit.
    let limit = [number("memory.high"), number("memory.max")].into_iter().flatten().min()?;
    let statistics = text(&group.join("memory.stat")).unwrap_or_default();
    let droppable = value(&statistics, "inactive_file").unwrap_or(0);
    Some((number("memory.current")?.saturating_sub(droppable), limit))
}

fn share((used, limit): (u64, u64)) -> f64 {
    used as f64 / limit.max(1) as f64
}

/// The number behind a key at the beginning of a line.
fn value(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.strip_prefix(|c: char| c.is_whitespace())?.split_whitespace().next()?.parse().ok()
}

/// `some avg10=1.25 avg60=...`.
fn average(pressure: &str) -> Option<f32> {
    let some = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
    let average = some.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    average.parse().ok().filter(|percent: &f32| percent.is_finite())
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MOST_OCTETS).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    struct Made(TempDir);

    impl Made {
        fn new(files: &[(&str, &str)]) -> Self {
            let made = Self(tempfile::tempdir().expect("a folder"));
            for (name, text) in files {
                made.write(name, text);
            }
            made
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("ours");
            fs::write(path, text).expect("ours");
        }

        fn reader(&self) -> Reader {
            Reader::at(self.0.path().join("proc"), self.0.path().join("cgroup"))
        }
    }

    const MEMINFO: &str =
        "MemTotal:       1000 kB\nMemFree:          10 kB\nMemAvailable:    250 kB\n";

    #[test]
    fn the_lower_limit_counts_and_droppable_pages_do_not() {
        let made = Made::new(&[
            ("proc/self/cgroup", "0::/system.slice/flow-agent.service\n"),
            ("proc/meminfo", MEMINFO),
            ("cgroup/system.slice/flow-agent.service/memory.current", "900\n"),
            ("cgroup/system.slice/flow-agent.service/memory.high", "1000\n"),
            ("cgroup/system.slice/flow-agent.service/memory.max", "2000\n"),
            (
                "cgroup/system.slice/flow-agent.service/memory.stat",
                "anon 500\nfile 400\ninactive_file 300\nactive_file 100\n",
            ),
            (
                "cgroup/system.slice/flow-agent.service/memory.pressure",
                "some avg10=12.50 avg60=1.00 avg300=0.00 total=5\nfull avg10=3.00 total=1\n",
            ),
            ("cgroup/system.slice/memory.max", "max\n"),
            ("cgroup/system.slice/memory.high", "max\n"),
            ("cgroup/system.slice/memory.current", "5000\n"),
        ]);
        let reading = made.reader().read().expect("a limit");
        let source = Source::ControlGroup;
        let expected = Reading { used_bytes: 600, limit_bytes: 1000, stall_percent: 12.5, source };
        assert_eq!(reading, expected);
        // A group above it is nearer to its limit.
        made.write("cgroup/system.slice/memory.max", "6000\n");
        let reading = made.reader().read().expect("a limit");
        assert_eq!((reading.used_bytes, reading.limit_bytes), (5000, 6000));
    }

    #[test]
    fn without_a_limit_the_host_counts() {
        let made = Made::new(&[
            ("proc/self/cgroup", "0::/\n"),
            ("proc/meminfo", MEMINFO),
            ("proc/pressure/memory", "some avg10=0.50 avg60=0.00 avg300=0.00 total=0\n"),
            ("cgroup/cgroup.procs", "1\n"),
        ]);
        let expected = Reading {
            used_bytes: 750 << 10,
            limit_bytes: 1000 << 10,
            stall_percent: 0.5,
            source: Source::Host,
        };
        assert_eq!(made.reader().read(), Some(expected));
        assert!((expected.used_percent() - 75.0).abs() < f64::EPSILON);
    }

    #[test]
    fn damaged_files_are_no_limit_and_no_panic() {
        for text in ["", "max", "-1", "x", "18446744073709551616", "\0", "12 34"] {
            let made = Made::new(&[
                ("proc/self/cgroup", "11:memory:/a\n0::/a\n"),
                ("proc/meminfo", MEMINFO),
                ("cgroup/a/memory.current", text),
                ("cgroup/a/memory.max", text),
                ("cgroup/a/memory.high", text),
                ("cgroup/a/memory.stat", text),
                ("cgroup/a/memory.pressure", text),
            ]);
            let reading = made.reader().read().expect("the host's");
            assert_eq!((reading.source, reading.stall_percent), (Source::Host, 0.0), "{text}");
        }
        assert_eq!(Made::new(&[]).reader().read(), None);
        // Version 1 only, and a group that is not below the folder.
        let made = Made::new(&[
            ("proc/self/cgroup", "3:memory:/a\n0::/../../etc\n"),
            ("proc/meminfo", MEMINFO),
        ]);
        assert_eq!(made.reader().read().expect("the host's").source, Source::Host);
    }

    #[test]
    fn this_host_says_something_sensible() {
        let reading = Reader::new().read().expect("Linux says how much memory there is");
        assert!(reading.limit_bytes > 1 << 20, "{reading:?}");
        assert!(reading.used_bytes > 0 && reading.used_percent() < 200.0, "{reading:?}");
    }
}
