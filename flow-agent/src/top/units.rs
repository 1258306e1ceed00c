//! Numbers for people: values enter, short texts leave.

use jiff::Timestamp;

/// With a decimal prefix: `1.23M`; below 10,000 as it is.
pub fn short(value: u64) -> String {
    if value < 10_000 {
        return value.to_string();
    }
    scaled(value as f64)
}

/// A rate with a decimal prefix.
pub fn rate(value: f64) -> String {
    if value < 1000.0 { format!("{value:.0}") } else { scaled(value) }
}

fn scaled(mut value: f64) -> String {
    for prefix in ["", "k", "M", "G", "T"] {
        if value < 999.5 {
            return match value {
                _ if prefix.is_empty() => format!("{value:.0}"),
                value if value < 9.995 => format!("{value:.2}{prefix}"),
                value if value < 99.95 => format!("{value:.1}{prefix}"),
                value => format!("{value:.0}{prefix}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1}P")
}

/// Octets with a binary prefix.
pub fn memory(octets: u64) -> String {
    let mut value = octets as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            let digits = usize::from(unit != "B" && value < 100.0);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} PiB")
}

/// Time in seconds, as the two largest units.
pub fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    match (days, hours, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

/// Seconds from one RFC 3339 time to another; none if one is missing.
pub fn between(from: Option<&str>, to: Option<&str>) -> Option<f64> {
    let time = |text: Option<&str>| text?.parse::<Timestamp>().ok();
    let (from, to) = (time(from)?, time(to)?);
    Some((to.as_nanosecond() - from.as_nanosecond()) as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_short_and_near() {
        let scales = [("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)];
        for power in 0..17 {
            for step in [10, 14, 31, 99, 100] {
                let value = 10_u64.pow(power) * step / 10;
                let text = short(value);
                let scale = scales.iter().find(|(unit, _)| text.ends_with(unit));
                let number = text.trim_end_matches(char::is_alphabetic);
                let read = number.parse::<f64>().unwrap() * scale.map_or(1.0, |(_, by)| *by);
                assert!((read - value as f64).abs() <= value as f64 * 0.006, "{value}: {text}");
                assert!(text.len() <= 6, "{text}");
            }
        }
    }

    #[test]
    fn times_and_memory_have_units() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(3_661), "1 h 1 min");
        assert_eq!(duration(90_000), "1 d 1 h");
        assert_eq!(memory(1536), "1.5 KiB");
        let (a, b) = (Some("2026-11-20T00:00:00Z"), Some("2026-11-20T00:00:01.5Z"));
        assert_eq!(between(a, b), Some(1.5));
        assert_eq!(between(None, b), None);
    }
}
