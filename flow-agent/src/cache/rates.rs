//! How often something happens per second, over the last 1, 5 and 15 minutes.

use super::stats::{Counter, Counts, Rates};

/// The windows, seconds.
const WINDOWS: [f64; 3] = [60.0, 300.0, 900.0];

/// Exponentially weighted means, as the load averages of a host are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    rates: Rates,
    /// When and at what counts they were last brought up to date.
    last: Option<(u64, [u64; 3])>,
}

impl Meter {
    /// Brings the rates up to date.
    pub fn tick(&mut self, now_ns: u64, counts: &Counts) {
        let sums = [counts.get(Counter::Hits), counts.get(Counter::Misses), counts.evictions()];
        let Some((then_ns, before)) = self.last else {
            self.last = Some((now_ns, sums));
            return;
        };
        // Also when the clock stands still or goes back.
        if now_ns <= then_ns {
            return;
        }
        let seconds = (now_ns - then_ns) as f64 / 1e9;
        let Rates { hits, misses, evictions } = &mut self.rates;
        for ((rates, sum), before) in [hits, misses, evictions].into_iter().zip(sums).zip(before) {
            let rate = (sum - before) as f64 / seconds;
            for (mean, window) in rates.iter_mut().zip(WINDOWS) {
                *mean += (1.0 - (-seconds / window).exp()) * (rate - *mean);
            }
        }
        self.last = Some((now_ns, sums));
    }

    /// The rates now.
    pub fn rates(&self) -> Rates {
        self.rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_told_and_forgotten_by_its_window() {
        let (mut meter, mut counts) = (Meter::default(), Counts::default());
        let mut now = 0;
        let mut run = |seconds: u64, a_second: u64| {
            for _ in 0..seconds {
                meter.tick(now, &counts);
                counts.add(Counter::Hits, a_second);
                now += 1_000_000_000;
            }
            meter.tick(now, &counts);
            meter.rates().hits
        };
        let [one, five, fifteen] = run(3600, 1000);
        assert!((one - 1000.0).abs() < 1.0 && (five - 1000.0).abs() < 1.0, "{one} {five}");
        assert!((fifteen - 981.7).abs() < 1.0, "{fifteen}");
        let [one, five, _] = run(60, 0);
        assert!((one - 367.9).abs() < 1.0, "{one}");
        assert!((five - 818.7).abs() < 1.0, "{five}");
    }
}
