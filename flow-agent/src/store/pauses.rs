//! How long to wait before a store that has ended is started again: enters how
//! long it ran, leaves a pause that doubles while it keeps ending at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_mins(1);
/// Who ran so long is well: its end is an accident, not a loop.
const WELL: Duration = Duration::from_mins(1);

/// The pauses between starts.
#[derive(Debug, Default)]
pub struct Pauses {
    next: Option<Duration>,
}

impl Pauses {
    /// The pause before the next start of a store that ran for `ran`; zero if it did not start.
    pub fn after(&mut self, ran: Duration) -> Duration {
        let pause = match self.next {
            Some(pause) if ran < WELL => pause,
            // At once: most often somebody killed it.
            _ => Duration::ZERO,
        };
        self.next = Some((pause * 2).clamp(FIRST, LONGEST));
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_double_up_to_a_minute_and_begin_anew_after_a_long_run() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.after(Duration::from_hours(1)), Duration::ZERO);
        let grown: Vec<_> = (0..9).map(|_| pauses.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(grown, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(pauses.after(WELL), Duration::ZERO);
        assert_eq!(pauses.after(Duration::ZERO), FIRST);
    }
}
