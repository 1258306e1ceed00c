//! What differs from the baseline.

use std::collections::{BTreeMap, BTreeSet};

use super::baseline::{Baseline, Figures};

/// More than this is a change that must be accepted.
pub const LIMIT_PERCENT: f64 = 5.0;

/// A figure that is not what it was.
#[derive(Debug, PartialEq)]
pub struct Change {
    /// Which.
    pub what: String,
    /// The old figure and the new one.
    pub words: String,
}

/// Everything that differs by more than the limit, is new or is gone.
pub fn changes(old: &Baseline, new: &Baseline) -> Vec<Change> {
    let (old, new) = (flat(old), flat(new));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let change = |name: &&String| {
        let words = match (old.get(*name), new.get(*name)) {
            (Some(old), Some(new)) => {
                let percent = if *old > 0.0 { (new - old) / old * 100.0 } else { f64::INFINITY };
                // A figure that was 0 and is 0 has not grown.
                if old.total_cmp(new).is_eq() || percent.abs() <= LIMIT_PERCENT {
                    return None;
                }
                format!("{old} -> {new} ({percent:+.1} %)")
            }
            (None, Some(new)) => format!("is new: {new}"),
            (Some(old), None) => format!("is gone: it was {old}"),
            (None, None) => return None,
        };
        Some(Change { what: (*name).clone(), words })
    };
    names.iter().filter_map(change).collect()
}

/// Tools whose versions differ: name, old and new.
pub fn other_tools<'a>(old: &'a Baseline, new: &'a Baseline) -> Vec<(&'a str, &'a str, &'a str)> {
    let other = |(tool, new): (&'a String, &'a String)| {
        let old = old.made_with.get(tool).map_or("unknown", String::as_str);
        (old != new).then_some((tool.as_str(), old, new.as_str()))
    };
    new.made_with.iter().filter_map(other).collect()
}

/// All figures, by the path of their names.
fn flat(baseline: &Baseline) -> Figures {
    let mut all: BTreeMap<_, _> = baseline.instructions.clone();
    for (program, figures) in &baseline.ebpf {
        all.extend(figures.iter().map(|(what, count)| (format!("{program} {what}"), *count)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(figures: &[(&str, f64)], stack: f64) -> Baseline {
        let named = |(name, count): &(&str, f64)| ((*name).to_owned(), *count);
        Baseline {
            made_with: [("rustc".to_owned(), "1.95.0".to_owned())].into(),
            instructions: figures.iter().map(named).collect(),
            ebpf: [("xdp".to_owned(), [("stack_bytes".to_owned(), stack)].into())].into(),
        }
    }

    #[test]
    fn both_directions_count_and_small_changes_do_not() {
        let old = baseline(&[("a", 100.0), ("b", 100.0), ("c", 100.0), ("gone", 7.0)], 0.0);
        let new = baseline(&[("a", 105.0), ("b", 106.0), ("c", 94.0), ("new", 1.0)], 8.0);
        let found = changes(&old, &new);
        let names: Vec<_> = found.iter().map(|change| change.what.as_str()).collect();
        assert_eq!(names, ["b", "c", "gone", "new", "xdp stack_bytes"]);
        assert_eq!(found[0].words, "100 -> 106 (+6.0 %)");
        assert_eq!(changes(&old, &old), []);
    }

    #[test]
    fn another_compiler_is_named() {
        let old = baseline(&[], 0.0);
        let mut new = old.clone();
        assert_eq!(other_tools(&old, &new), []);
        new.made_with.insert("rustc".into(), "1.96.0".into());
        assert_eq!(other_tools(&old, &new), [("rustc", "1.95.0", "1.96.0")]);
    }

    #[test]
    fn a_baseline_is_what_was_written() {
        let written = baseline(&[("a", 1.5)], 64.0);
        let text = toml::to_string(&written).expect("plain values");
        assert_eq!(toml::from_str::<Baseline>(&text).expect("the same"), written);
    }
}
