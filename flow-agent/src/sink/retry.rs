//! When to try again, and when to give up.
//!
//! Time and chance are arguments of [`Backoff`]; [`Deadline`] waits.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use uuid::Uuid;

use super::SinkError;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Between two tries while the agent stops.
const MOST_WHILE_STOPPING: Duration = Duration::from_secs(1);
/// How long one try may take.
const ATTEMPT: Duration = Duration::from_secs(60);
/// How often a store that stays away is news.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(10);

/// Pauses that grow exponentially up to a limit, each with full jitter: agents that lost the same
/// store do not come back in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { most: FIRST_PAUSE }
    }
}

impl Backoff {
    /// The next pause; `chance` is from 0 to 1.
    pub fn next(&mut self, chance: f64) -> Duration {
        let pause = self.most.mul_f64(chance.clamp(0.0, 1.0)).max(FIRST_PAUSE / 10);
        self.most = (self.most * 2).min(LONGEST_PAUSE);
        pause
    }

    /// The pause before somebody may have changed something.
    pub fn longest(chance: f64) -> Duration {
        LONGEST_PAUSE.mul_f64(chance.clamp(0.5, 1.0))
    }
}

/// From 0 to 1, for [`Backoff`].
pub(super) fn chance() -> f64 {
    f64::from(Uuid::now_v7().as_u128() as u32) / f64::from(u32::MAX)
}

/// When to give a store up.
#[derive(Clone, Debug)]
pub(super) struct Deadline {
    stopping: watch::Receiver<bool>,
    patience: Duration,
    /// When the agent began to stop, as seen here.
    since: Option<Instant>,
    /// When a failure was last told.
    told: Option<Instant>,
}

impl Deadline {
    pub fn new(stopping: watch::Receiver<bool>, patience: Duration) -> Self {
        Self { stopping, patience, since: None, told: None }
    }

    /// The time that is left, once the agent is stopping.
    pub fn left(&mut self) -> Option<Duration> {
        if !*self.stopping.borrow() {
            return None;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        Some(self.patience.saturating_sub(since.elapsed()))
    }

    /// Ends when the agent is stopping and its patience is over.
    pub async fn over(&mut self) {
        loop {
            match self.left() {
                Some(left) => return tokio::time::sleep(left).await,
                // A sender that is gone has stopped.
                None if self.stopping.changed().await.is_err() => return,
                None => {}
            }
        }
    }

    /// True when there is no use in trying again after `error`.
    fn gives_up(&mut self, error: &SinkError) -> bool {
        self.left().is_some_and(|left| left.is_zero() || !error.is_transient())
    }

    /// Waits before the next try; less when the agent begins to stop.
    pub async fn pause(&mut self, pause: Duration) {
        match self.left() {
            Some(left) => tokio::time::sleep(pause.min(left).min(MOST_WHILE_STOPPING)).await,
            None => drop(tokio::time::timeout(pause, self.stopping.changed()).await),
        }
    }

    /// Says that the store does not answer, but not at each try.
    fn tell(&mut self, error: &SinkError) {
        if self.told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            if let Some(left) = self.left() {
                tracing::warn!("{error} (waiting up to {} s more)", left.as_secs());
            } else {
                tracing::warn!("{error} (trying again until it answers)");
            }
        }
    }
}

/// Tries until it succeeds or the deadline is over, with a growing, jittered pause.
/// An attempt may hang: it is given up with the deadline, or after a minute.
pub(super) async fn retry<F: Future<Output = Result<(), SinkError>>>(
    deadline: &mut Deadline,
    mut attempt: impl FnMut() -> F,
) -> Result<(), SinkError> {
    let mut backoff = Backoff::default();
    let mut last = None;
    loop {
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(ATTEMPT, attempt()) => outcome,
            () = deadline.over() => return Err(last.unwrap_or(SinkError::TooLate)),
        };
        let error = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => SinkError::Silent { seconds: ATTEMPT.as_secs() },
        };
        if deadline.gives_up(&error) {
            return Err(error);
        }
        deadline.tell(&error);
        last = Some(error);
        deadline.pause(backoff.next(chance())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_spread_over_all_of_it() {
        let mut backoff = Backoff::default();
        let most: Vec<_> = (0..12).map(|_| backoff.next(1.0)).collect();
        assert_eq!(most[0], FIRST_PAUSE);
        assert!(most.windows(2).all(|two| two[1] == (two[0] * 2).min(LONGEST_PAUSE)), "{most:?}");
        assert_eq!(most[11], LONGEST_PAUSE);
        assert_eq!(backoff.next(0.5), LONGEST_PAUSE / 2);
        assert!(backoff.next(0.0) > Duration::ZERO, "never without a pause");
        assert!((0..1000).all(|_| (0.0..=1.0).contains(&chance())));
    }
}
