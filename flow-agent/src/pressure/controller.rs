//! Decides how many flows may be open: time and readings are arguments.

use std::time::Duration;

use super::Source;

/// When the cache is made smaller and larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressureLimits {
    /// Memory in use, in percent of the limit, above which it shrinks.
    pub shrink_above_percent: u8,
    /// And below which it may grow again.
    pub regrow_below_percent: u8,
    /// Share of the last 10 s in which tasks waited for memory, in percent, from which on it
    /// shrinks.
    pub stall_percent: u8,
    /// Open flows that it is never made smaller than, unless fewer are configured.
    pub floor_flows: usize,
}

impl Default for PressureLimits {
    fn default() -> Self {
        Self {
            shrink_above_percent: 90,
            regrow_below_percent: 75,
            stall_percent: 10,
            floor_flows: 10_000,
        }
    }
}

/// How long a step gets to show its effect before the next one makes the cache smaller.
const SETTLE: Duration = Duration::from_secs(10);
/// How long memory must have been calm before the cache grows, and between two such steps.
const CALM: Duration = Duration::from_secs(60);

/// What the system says of memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// In use, without what can be dropped at once.
    pub used_bytes: u64,
    /// Of so much.
    pub limit_bytes: u64,
    /// Share of the last 10 s in which some task waited for memory; 0 where the kernel does
    /// not say.
    pub stall_percent: f32,
    /// Who says so.
    pub source: Source,
}

impl Reading {
    /// Memory in use in percent of the limit.
    pub fn used_percent(&self) -> f64 {
        if self.limit_bytes == 0 {
            return 0.0;
        }
        self.used_bytes as f64 * 100.0 / self.limit_bytes as f64
    }
}

/// A change of the most flows that may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Memory is short.
    Shrink {
        /// The most until now.
        from: usize,
        /// The most from now on.
        to: usize,
    },
    /// It has been calm for long enough.
    Regrow {
        /// The most until now.
        from: usize,
        /// The most from now on.
        to: usize,
    },
}

impl Step {
    /// The most from now on.
    pub const fn to(self) -> usize {
        match self {
            Self::Shrink { to, .. } | Self::Regrow { to, .. } => to,
        }
    }
}

/// The state between two looks.
#[derive(Clone, Debug)]
pub struct Controller {
    limits: PressureLimits,
    configured: usize,
    max_flows: usize,
    /// When it last made the cache smaller.
    shrunk: Option<Duration>,
    /// Since when there has been enough memory, or when it last let the cache grow.
    calm_since: Option<Duration>,
}

impl Controller {
    /// Of a cache for at most so many flows.
    pub fn new(limits: PressureLimits, max_flows: usize) -> Self {
        Self { limits, configured: max_flows, max_flows, shrunk: None, calm_since: None }
    }

    /// How many flows may be open now.
    pub fn max_flows(&self) -> usize {
        self.max_flows
    }

    /// How many may be open when memory is not short.
    pub fn configured(&self) -> usize {
        self.configured
    }

    /// Takes a reading at a time since some start; `open` flows are in the cache.
    pub fn look(&mut self, now: Duration, reading: &Reading, open: usize) -> Option<Step> {
        let used = reading.used_percent();
        let stalls = reading.stall_percent >= f32::from(self.limits.stall_percent);
        if used > f64::from(self.limits.shrink_above_percent) || stalls {
            self.calm_since = None;
            return self.shrink(now, open);
        }
        if used >= f64::from(self.limits.regrow_below_percent) {
            self.calm_since = None;
            return None;
        }
        let since = *self.calm_since.get_or_insert(now);
        if self.max_flows >= self.configured || now.saturating_sub(since) < CALM {
            return None;
        }
        self.calm_since = Some(now);
        let from = self.max_flows;
        self.max_flows = (from + (from / 2).max(1)).min(self.configured);
        Some(Step::Regrow { from, to: self.max_flows })
    }

    fn shrink(&mut self, now: Duration, open: usize) -> Option<Step> {
        if self.shrunk.is_some_and(|last| now.saturating_sub(last) < SETTLE) {
            return None;
        }
        let from = self.max_flows;
        let floor = self.limits.floor_flows.min(self.configured);
        // What is not open takes no memory: to give up room for it would free nothing.
        let to = (from.min(open) / 4 * 3).max(floor);
        if to >= from {
            return None;
        }
        self.shrunk = Some(now);
        self.max_flows = to;
        Some(Step::Shrink { from, to })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn used(percent: u64) -> Reading {
        let source = Source::Host;
        Reading { used_bytes: percent, limit_bytes: 100, stall_percent: 0.0, source }
    }

    /// What each second of a list of readings does; the cache is full.
    fn run(controller: &mut Controller, readings: &[Reading]) -> Vec<(u64, Step)> {
        let mut steps = Vec::new();
        for (second, reading) in (0..).zip(readings) {
            let open = controller.max_flows();
            let step = controller.look(SECOND * second as u32, reading, open);
            steps.extend(step.map(|step| (second, step)));
        }
        steps
    }

    #[test]
    fn it_shrinks_in_steps_to_the_floor_and_regrows_when_calm() {
        let mut controller = Controller::new(PressureLimits::default(), 40_000);
        let steps = run(&mut controller, &[used(95); 60]);
        let shrunk: Vec<_> = steps.iter().map(|(second, step)| (*second, step.to())).collect();
        assert_eq!(shrunk, [(0, 30_000), (10, 22_500), (20, 16_875), (30, 12_654), (40, 10_000)]);
        let steps = run(&mut controller, &[used(20); 300]);
        let grown: Vec<_> = steps.iter().map(|(second, step)| (*second, step.to())).collect();
        assert_eq!(grown, [(60, 15_000), (120, 22_500), (180, 33_750), (240, 40_000)]);
    }

    #[test]
    fn a_nearly_empty_cache_gives_up_its_room_at_once() {
        let mut controller = Controller::new(PressureLimits::default(), 1_000_000);
        let step = controller.look(SECOND, &used(99), 40_000);
        assert_eq!(step, Some(Step::Shrink { from: 1_000_000, to: 30_000 }));
        assert_eq!(
            controller.look(SECOND * 60, &used(99), 10),
            Some(Step::Shrink { from: 30_000, to: 10_000 })
        );
    }

    #[test]
    fn stalls_alone_shrink_it() {
        let mut controller = Controller::new(PressureLimits::default(), 100_000);
        let reading = Reading { stall_percent: 10.0, ..used(1) };
        assert!(matches!(controller.look(SECOND, &reading, 100_000), Some(Step::Shrink { .. })));
        let reading = Reading { stall_percent: 9.9, ..used(1) };
        assert_eq!(controller.look(SECOND * 30, &reading, 100_000), None);
    }

    #[test]
    fn a_floor_above_what_is_configured_changes_nothing() {
        let mut controller = Controller::new(PressureLimits::default(), 5);
        assert_eq!(run(&mut controller, &[used(100); 100]), []);
        assert_eq!(controller.max_flows(), 5);
    }

    fn readings() -> impl Strategy<Value = Vec<Reading>> {
        let stretch = (0u64..110, 0f32..15.0, 1usize..200).prop_map(|(percent, stall, seconds)| {
            vec![Reading { stall_percent: stall, ..used(percent) }; seconds]
        });
        proptest::collection::vec(stretch, 1..20).prop_map(|stretches| stretches.concat())
    }

    proptest! {
        #[test]
        fn whatever_is_read_the_bounds_hold(
            readings in readings(),
            configured in 1usize..1 << 30,
            floor in 1usize..1 << 30,
            share in 0usize..=4,
        ) {
            let limits = PressureLimits { floor_flows: floor, ..PressureLimits::default() };
            let mut controller = Controller::new(limits, configured);
            let (mut shrunk, mut grown, mut calm) = (None::<u32>, None::<u32>, 0u32);
            for (second, reading) in (0u32..).zip(&readings) {
                let before = controller.max_flows();
                let step = controller.look(SECOND * second, reading, before / 4 * share);
                let after = controller.max_flows();
                prop_assert!(after <= configured && after >= floor.min(configured));
                let stalls = reading.stall_percent >= 10.0;
                let pressed = reading.used_percent() > 90.0 || stalls;
                calm = if reading.used_percent() < 75.0 && !stalls { calm + 1 } else { 0 };
                match step {
                    None => prop_assert_eq!(before, after),
                    Some(Step::Shrink { from, to }) => {
                        prop_assert!(pressed && to < from);
                        prop_assert_eq!((from, to), (before, after));
                        prop_assert!(shrunk.is_none_or(|last| second - last >= 10));
                        shrunk = Some(second);
                    }
                    Some(Step::Regrow { from, to }) => {
                        prop_assert!(calm > 60 && to > from, "calm for {} s", calm);
                        prop_assert_eq!((from, to), (before, after));
                        prop_assert!(grown.is_none_or(|last| second - last >= 60));
                        grown = Some(second);
                    }
                }
            }
            // Calm for long enough brings back all of it, pressure for long enough the floor.
            let hour = readings.len() as u32 + 3_600;
            for second in readings.len() as u32..hour {
                controller.look(SECOND * second, &used(10), 0);
            }
            prop_assert_eq!(controller.max_flows(), configured);
            for second in hour..hour + 3_600 {
                controller.look(SECOND * second, &used(99), controller.max_flows());
            }
            prop_assert_eq!(controller.max_flows(), floor.min(configured));
        }
    }
}
