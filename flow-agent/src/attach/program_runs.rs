//! What the programs cost in the kernel: how often they ran and how long, as the kernel counts it.
//!
//! Enters: descriptors of loaded programs. Leaves: their runs and nanoseconds, read from
//! `/proc/self/fdinfo` when somebody asks, which takes no capability. It holds that nothing is
//! read on the way of a packet; the counting itself is the kernel's, and costs a packet two reads
//! of a clock while somebody has switched it on.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::sys::{Stats, enable_stats};
use flow_common::table::names;

/// What is called lately: this long, up to twice as long if it is asked for often.
const LATELY: Duration = Duration::from_secs(10);

/// Switches the counting on and off for the whole host.
pub const STATISTICS_SYSCTL: &str = "kernel.bpf_stats_enabled";

/// Runs and the time that they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// How many; a super-packet is one.
    pub count: u64,
    /// Of all of them.
    pub time_ns: u64,
}

impl Runs {
    /// Mean time of a run, ns; none without runs.
    pub fn mean_ns(self) -> Option<f64> {
        (self.count > 0).then(|| self.time_ns as f64 / self.count as f64)
    }

    fn add(&mut self, more: Self) {
        self.count += more.count;
        self.time_ns += more.time_ns;
    }

    fn since(self, before: Self) -> Self {
        Self {
            count: self.count.saturating_sub(before.count),
            time_ns: self.time_ns.saturating_sub(before.time_ns),
        }
    }
}

/// Why the kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedFor {
    /// `kernel.bpf_stats_enabled` is 1.
    Sysctl,
    /// This agent has asked for it.
    Agent,
    /// Runs are counted, so some other process has asked for it.
    Another,
}

impl CountedFor {
    /// The name in answers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Sysctl => "sysctl",
            Self::Agent => "agent",
            Self::Another => "another process",
        }
    }
}

/// What is known at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProgramReading {
    /// None: the kernel does not count.
    pub counted_for: Option<CountedFor>,
    /// By the name of the program, since it was loaded.
    pub programs: Vec<(&'static str, Runs)>,
    /// All of them.
    pub total: Runs,
    /// What of that is of lately, and of how long.
    pub lately: (Runs, Duration),
}

impl ProgramReading {
    /// Mean time of a run, ns: lately, or since the start if nothing ran lately. None if the
    /// kernel does not count, or nothing has run.
    pub fn mean_ns(&self) -> Option<f64> {
        self.counted_for?;
        self.lately.0.mean_ns().or_else(|| self.total.mean_ns())
    }

    /// Share of one CPU that the programs took lately; none if the kernel does not count.
    pub fn cpu_share(&self) -> Option<f64> {
        self.counted_for?;
        let (runs, span) = self.lately;
        (!span.is_zero()).then(|| runs.time_ns as f64 / span.as_nanos() as f64)
    }
}

/// Descriptors of the programs; clones share them.
#[derive(Clone, Debug)]
pub struct ProgramBook(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    programs: Vec<(&'static str, OwnedFd)>,
    /// Held for as long as the kernel is to count.
    switch: Option<OwnedFd>,
    /// Two moments, at least [`LATELY`] apart, and what had run until then.
    marks: [(Instant, Runs); 2],
}

impl ProgramBook {
    /// Without programs.
    pub fn new(now: Instant) -> Self {
        let marks = [(now, Runs::default()); 2];
        Self(Arc::new(Mutex::new(Known { programs: Vec::new(), switch: None, marks })))
    }

    /// Has the kernel count until the last clone is dropped.
    ///
    /// # Errors
    /// It refuses: that takes `CAP_SYS_ADMIN`.
    pub fn switch_on(&self) -> std::io::Result<()> {
        let switch = enable_stats(Stats::RunTime).map_err(|error| error.io_error)?;
        self.known().switch = Some(switch);
        Ok(())
    }

    /// Adds the programs of a load that are attached.
    pub(super) fn add(&self, ebpf: &Ebpf) -> std::io::Result<()> {
        for name in [names::XDP_INGRESS, names::TC_INGRESS, names::TC_EGRESS] {
            // A program that is not loaded has none.
            let Some(Ok(fd)) = ebpf.program(name).map(aya::programs::Program::fd) else { continue };
            let fd = fd.as_fd().try_clone_to_owned()?;
            self.known().programs.push((name, fd));
        }
        Ok(())
    }

    /// What has run until `now`.
    pub fn read(&self, now: Instant) -> ProgramReading {
        let sysctl = std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled");
        let sysctl = sysctl.is_ok_and(|text| text.trim() == "1");
        let mut known = self.known();
        let mut programs: Vec<(&'static str, Runs)> = Vec::new();
        let mut total = Runs::default();
        for (name, fd) in &known.programs {
            let runs = runs_of(fd).unwrap_or_default();
            total.add(runs);
            // Loaded once for each plane.
            match programs.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => sum.add(runs),
                None => programs.push((name, runs)),
            }
        }
        let lately = lately(&mut known.marks, now, total);
        let counted_for = if known.switch.is_some() {
            Some(CountedFor::Agent)
        } else if sysctl {
            Some(CountedFor::Sysctl)
        } else {
            (lately.0.count > 0).then_some(CountedFor::Another)
        };
        ProgramReading { counted_for, programs, total, lately }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has run since the older mark, and how long that is ago.
fn lately(marks: &mut [(Instant, Runs); 2], now: Instant, total: Runs) -> (Runs, Duration) {
    if now.saturating_duration_since(marks[1].0) >= LATELY {
        *marks = [marks[1], (now, total)];
    }
    let (at, before) = marks[0];
    (total.since(before), now.saturating_duration_since(at))
}

/// None if the kernel does not say.
fn runs_of(fd: &OwnedFd) -> Option<Runs> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    parse(&std::fs::read_to_string(path).ok()?)
}

fn parse(text: &str) -> Option<Runs> {
    let number = |key| {
        let value = text.lines().find_map(|line| line.strip_prefix(key))?;
        value.trim().parse().ok()
    };
    Some(Runs { count: number("run_cnt:")?, time_ns: number("run_time_ns:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn runs(count: u64, time_ns: u64) -> Runs {
        Runs { count, time_ns }
    }

    #[test]
    fn the_kernels_words_are_understood() {
        let text = "pos:\t0\nprog_type:\t6\nprog_id:\t7\nrun_time_ns:\t900\nrun_cnt:\t10\n";
        assert_eq!(parse(text), Some(runs(10, 900)));
        for without in ["", "run_cnt:\t10\n", "run_cnt:\tx\nrun_time_ns:\t1\n"] {
            assert_eq!(parse(without), None, "{without}");
        }
    }

    #[test]
    fn lately_is_between_one_and_two_spans_for_who_asks_often() {
        let start = Instant::now();
        let mut marks = [(start, Runs::default()); 2];
        let mut seen = Vec::new();
        for second in 0..60 {
            // A thousand runs a second, each of 100 ns.
            let total = runs(1_000 * second, 100_000 * second);
            let (part, span) = lately(&mut marks, start + S * second as u32, total);
            assert_eq!(part.count, 1_000 * span.as_secs(), "at {second} s");
            seen.push(span);
        }
        assert!(seen[20..].iter().all(|span| (LATELY..=2 * LATELY).contains(span)), "{seen:?}");
        // Nobody has asked for an hour: that is lately, then.
        let (part, span) = lately(&mut marks, start + S * 3_600, runs(60_000, 6_000_000));
        assert!(part.count <= 20_000 && span > S * 3_000, "{part:?} {span:?}");
    }

    #[test]
    fn without_counting_nothing_is_said_and_a_pause_keeps_the_last_mean() {
        let mut reading = ProgramReading {
            counted_for: Some(CountedFor::Sysctl),
            programs: Vec::new(),
            total: runs(10, 1_000),
            lately: (runs(2, 500), S),
        };
        assert_eq!(reading.mean_ns(), Some(250.0));
        assert_eq!(reading.cpu_share(), Some(500.0 / 1e9));
        reading.lately.0 = Runs::default();
        assert_eq!((reading.mean_ns(), reading.cpu_share()), (Some(100.0), Some(0.0)));
        reading.counted_for = None;
        assert_eq!((reading.mean_ns(), reading.cpu_share()), (None, None));
    }
}
