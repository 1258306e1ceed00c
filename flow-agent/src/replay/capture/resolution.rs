//! pcapng timestamps enter, Unix nanoseconds leave (pcapng, section 4.2: `if_tsresol`).

use super::MAX_TIME_NS;

/// Units of an interface's timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolution {
    /// Units of so many nanoseconds: powers of ten down to the nanosecond.
    Nanoseconds(u64),
    /// So many units in a nanosecond: powers of ten below the nanosecond.
    PerNanosecond(u64),
    /// 2^n units in a second.
    Binary(u8),
}

impl Resolution {
    /// The unit of an interface that declares none: microseconds.
    pub(super) const DEFAULT: Self = Self::Nanoseconds(1_000);

    /// Reads the option: the power of ten, or with the highest bit set of two, by which a second
    /// is divided.
    pub(super) fn from_option(tsresol: u8) -> Self {
        let exponent = tsresol & 0x7f;
        if tsresol & 0x80 != 0 {
            return Self::Binary(exponent);
        }
        match exponent {
            0..=9 => Self::Nanoseconds(10_u64.pow(9 - u32::from(exponent))),
            _ => {
                Self::PerNanosecond(10_u64.checked_pow(u32::from(exponent) - 9).unwrap_or(u64::MAX))
            }
        }
    }

    /// Nanoseconds since 1970 of a timestamp, `offset_s` seconds (`if_tsoffset`) added, within
    /// 0 and [`MAX_TIME_NS`].
    #[inline]
    pub(super) fn time_ns(self, units: u64, offset_s: i64) -> u64 {
        let time_ns = match self {
            Self::Nanoseconds(ns) => units.saturating_mul(ns),
            Self::PerNanosecond(count) => units / count,
            Self::Binary(exponent) => {
                let ns = (u128::from(units) * 1_000_000_000) >> exponent;
                u64::try_from(ns).unwrap_or(u64::MAX)
            }
        };
        if offset_s == 0 {
            return time_ns.min(MAX_TIME_NS);
        }
        let time_ns = i128::from(time_ns) + i128::from(offset_s) * 1_000_000_000;
        time_ns.clamp(0, i128::from(MAX_TIME_NS)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_in_every_resolution() {
        // 1.5 s divides evenly by every power from 1 on.
        for exponent in 1..=18_u8 {
            let units = 10_u64.pow(u32::from(exponent)) / 2 * 3;
            assert_eq!(Resolution::from_option(exponent).time_ns(units, 0), 1_500_000_000);
        }
        for exponent in 1..=62_u8 {
            let units = 3 << (exponent - 1);
            assert_eq!(Resolution::from_option(0x80 | exponent).time_ns(units, 0), 1_500_000_000);
        }
        assert_eq!(Resolution::from_option(0).time_ns(3, 0), 3_000_000_000);
        assert_eq!(Resolution::from_option(6), Resolution::DEFAULT);
    }

    #[test]
    fn absurd_times_are_cut_off() {
        for tsresol in 0..=255 {
            for units in [0, 1, u64::MAX] {
                for offset_s in [i64::MIN, -1, 0, 1, i64::MAX] {
                    let time_ns = Resolution::from_option(tsresol).time_ns(units, offset_s);
                    assert!(time_ns <= MAX_TIME_NS);
                }
            }
        }
        assert_eq!(Resolution::DEFAULT.time_ns(5, -1), 0);
        assert_eq!(Resolution::DEFAULT.time_ns(u64::MAX, 0), MAX_TIME_NS);
        assert_eq!(Resolution::DEFAULT.time_ns(5_000_000, -2), 3_000_000_000);
    }
}
