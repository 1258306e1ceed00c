//! How long a delivery goes on when it is told to end.
//!
//! Enters: that the agent stops, and each progress. Leaves: the moment to give up. While the agent
//! runs there is none: a store that is away is waited for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Limits of a delivery that is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Without anything being acknowledged.
    pub idle: Duration,
    /// In all; none if only the above counts.
    pub total: Option<Duration>,
}

/// Clones share what they know of progress.
#[derive(Clone, Debug)]
pub struct Patience {
    stopping: watch::Receiver<bool>,
    limits: Limits,
    /// When it began to stop, and when something was last acknowledged or taken up.
    times: Arc<Mutex<(Option<Instant>, Option<Instant>)>>,
}

impl Patience {
    /// From the moment when `stopping` is true, within these limits.
    pub fn new(stopping: watch::Receiver<bool>, limits: Limits) -> Self {
        Self { stopping, limits, times: Arc::default() }
    }

    /// Something went on.
    pub fn progress(&self, now: Instant) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(now);
    }

    /// The time that is left, once the agent stops.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        // A sender that is gone has stopped.
        if !*self.stopping.borrow() && self.stopping.has_changed().is_ok() {
            return None;
        }
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *times.0.get_or_insert(now);
        let quiet = now.saturating_duration_since(times.1.map_or(since, |last| last.max(since)));
        let left = self.limits.idle.saturating_sub(quiet);
        let total = self.limits.total.map(|total| total.saturating_sub(now - since));
        Some(total.map_or(left, |total| left.min(total)))
    }

    /// Ends when it is time to give up.
    pub async fn over(&self) {
        let mut stopping = self.stopping.clone();
        loop {
            match self.left(Instant::now()) {
                Some(Duration::ZERO) => return,
                Some(left) => tokio::time::sleep(left).await,
                None => drop(stopping.wait_for(|stopping| *stopping).await),
            }
        }
    }

    /// Waits for a while; less when the agent begins to stop, and not beyond the end.
    pub async fn pause(&self, pause: Duration) {
        const MOST_WHILE_STOPPING: Duration = Duration::from_secs(1);
        if let Some(left) = self.left(Instant::now()) {
            return tokio::time::sleep(pause.min(left).min(MOST_WHILE_STOPPING)).await;
        }
        let mut stopping = self.stopping.clone();
        drop(tokio::time::timeout(pause, stopping.wait_for(|stopping| *stopping)).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_begins_with_the_stop_and_is_renewed_by_progress() {
        let second = Duration::from_secs(1);
        let (stop, stopping) = watch::channel(false);
        let limits = Limits { idle: 10 * second, total: Some(15 * second) };
        let patience = Patience::new(stopping, limits);
        let start = Instant::now();
        patience.progress(start);
        assert_eq!(patience.left(start + 100 * second), None, "it runs");
        stop.send(true).expect("it listens");
        let stopped = start + 200 * second;
        assert_eq!(patience.left(stopped), Some(10 * second));
        assert_eq!(patience.left(stopped + 4 * second), Some(6 * second));
        patience.progress(stopped + 4 * second);
        assert_eq!(patience.left(stopped + 4 * second), Some(10 * second));
        assert_eq!(patience.left(stopped + 8 * second), Some(6 * second));
        assert_eq!(patience.left(stopped + 12 * second), Some(2 * second));
        patience.progress(stopped + 12 * second);
        assert_eq!(patience.left(stopped + 12 * second), Some(3 * second), "the whole is limited");
        assert_eq!(patience.left(stopped + 99 * second), Some(Duration::ZERO));
    }

    #[test]
    fn without_a_sender_it_has_stopped() {
        let (stop, stopping) = watch::channel(false);
        let limits = Limits { idle: Duration::from_secs(1), total: None };
        let patience = Patience::new(stopping, limits);
        drop(stop);
        assert_eq!(patience.left(Instant::now()), Some(Duration::from_secs(1)));
    }
}
