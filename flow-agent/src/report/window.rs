//! The time that a report is about: what was typed and the present enter, a window leaves.
//!
//! What must hold: a window is of whole minutes, `to` excluded, and not empty.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const MINUTE: i64 = 60;
/// Seconds of an hour.
pub(super) const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Rollups by the hour are kept for so long by default; nobody needs more at once.
const LONGEST: i64 = 400 * DAY;

/// A length of time as it is typed: `90m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(i64);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [('m', MINUTE), ('h', HOUR), ('d', DAY), ('w', 7 * DAY)];
        let seconds = units.into_iter().find_map(|(unit, seconds)| {
            let number: i64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(seconds)
        });
        seconds.filter(|seconds| (MINUTE..=LONGEST).contains(seconds)).map(Self).ok_or_else(|| {
            "write a number and m, h, d or w, for example 90m, 1h or 7d; at least 1m, at most 400d"
                .into()
        })
    }
}

/// From a time to another, Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    from: i64,
    to: i64,
}

impl Window {
    /// The last of a length; up to the end of the minute that `now` is in.
    pub fn last(span: Span, now: Timestamp) -> Self {
        let to = ceil(now.as_second() + 1, MINUTE);
        Self { from: to - span.0, to }
    }

    /// Between two times, rounded outwards to whole minutes.
    ///
    /// # Errors
    /// A sentence: it is empty or too long.
    pub fn between(from: Timestamp, to: Timestamp) -> Result<Self, String> {
        let (from_s, to_s) = (floor(from.as_second(), MINUTE), ceil(to.as_second(), MINUTE));
        if to_s <= from_s {
            return Err(format!("--from {from} is not before --to {to}; exchange them"));
        }
        if to_s - from_s > LONGEST {
            return Err(format!(
                "from {from} to {to} is more than {} days; ask for less",
                LONGEST / DAY
            ));
        }
        Ok(Self { from: from_s, to: to_s })
    }

    /// A time as it is typed: RFC 3339, or without an offset for UTC.
    ///
    /// # Errors
    /// A sentence.
    pub fn time(text: &str) -> Result<Timestamp, String> {
        let utc = |civil: DateTime| civil.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
        text.parse().or_else(|_| text.parse().and_then(utc)).map_err(|_| {
            "write a time such as 2026-11-20T13:00:00Z, or '2026-11-20 13:00' for UTC".to_owned()
        })
    }

    /// Its first second.
    pub fn from(self) -> Timestamp {
        Timestamp::from_second(self.from).unwrap_or_default()
    }

    /// The second after its last.
    pub fn to(self) -> Timestamp {
        Timestamp::from_second(self.to).unwrap_or_default()
    }

    /// Seconds.
    pub fn seconds(self) -> i64 {
        self.to - self.from
    }

    /// Of both ends, Unix seconds.
    pub fn bounds(self) -> (i64, i64) {
        (self.from, self.to)
    }

    /// Rounded outwards to whole hours.
    #[must_use]
    pub fn hours(self) -> Self {
        Self { from: floor(self.from, HOUR), to: ceil(self.to, HOUR) }
    }

    /// As long, and just before.
    #[must_use]
    pub fn before(self) -> Self {
        Self { from: self.from - self.seconds(), to: self.from }
    }

    /// True if hours are as good as minutes, or there would be too many minutes.
    pub fn is_by_hours(self) -> bool {
        self.hours() == self || self.seconds() > DAY
    }

    /// Seconds of a point of a chart: at most 60 of them, whole minutes.
    pub fn step(self) -> i64 {
        ceil((self.seconds() + 59) / 60, MINUTE)
    }
}

fn floor(second: i64, to: i64) -> i64 {
    second.div_euclid(to) * to
}

fn ceil(second: i64, to: i64) -> i64 {
    floor(second + to - 1, to)
}

impl Display for Window {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let time = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M");
        write!(f, "{} to {} UTC", time(self.from()), time(self.to()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_and_times_are_as_typed_or_refused() {
        for (text, seconds) in [("1m", 60), ("90m", 5400), ("1h", 3600), ("2d", 172_800)] {
            assert_eq!(text.parse(), Ok(Span(seconds)));
        }
        for text in ["", "h", "1", "0h", "-1h", "1y", "401d", "99999999999999999999d"] {
            assert!(text.parse::<Span>().is_err_and(|said| said.contains("90m")), "{text}");
        }
        let noon = Timestamp::from_second(1_795_176_000).unwrap();
        for text in ["2026-11-20T12:00:00Z", "2026-11-20 12:00", "2026-11-20T13:00:00+01:00"] {
            assert_eq!(Window::time(text), Ok(noon), "{text}");
        }
        assert!(Window::time("noon").is_err());
        assert!(Window::between(noon, noon).is_err_and(|said| said.contains("not before")));
    }

    proptest! {
        #[test]
        fn windows_hold_what_was_asked_and_are_whole(from in 0_i64..2_000_000_000, length in 1_i64..9_000_000) {
            let time = |second| Timestamp::from_second(second).unwrap();
            let window = Window::between(time(from), time(from + length)).unwrap();
            for window in [window, window.hours(), window.before()] {
                let (from, to) = window.bounds();
                prop_assert!(from % 60 == 0 && to % 60 == 0 && from < to);
            }
            prop_assert!(window.from <= from && window.to >= from + length);
            prop_assert!(window.seconds() < length + 120);
            prop_assert_eq!(window.before().to, window.from);
            prop_assert_eq!(window.before().seconds(), window.seconds());
            let points = (window.seconds() + window.step() - 1) / window.step();
            prop_assert!((1..=60).contains(&points) && window.step() % 60 == 0);
        }
    }
}
