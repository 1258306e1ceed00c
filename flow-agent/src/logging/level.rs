//! How much is logged: `info`, or `info,flow_agent::sink=debug,hyper=off`.

use tracing_log::log;
use tracing_subscriber::filter::{LevelFilter, Targets};

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// Says whether a text is a level, or levels of modules, with commas.
///
/// # Errors
/// What is wrong and what is allowed.
pub fn check_level(text: &str) -> Result<(), String> {
    parts(text).map(drop)
}

/// The filter; what is no level is left out, because it was checked before.
pub fn targets(text: &str) -> Targets {
    let parts = parts(text).unwrap_or_default();
    // Without a level for the rest, the rest is as usual.
    let rest = parts.iter().find(|(module, _)| module.is_none()).map(|(_, level)| *level);
    let modules = parts.iter().filter_map(|(module, level)| Some(((*module)?, *level)));
    Targets::new().with_default(rest.unwrap_or(LevelFilter::INFO)).with_targets(modules)
}

/// The most that any module may say.
pub fn most(text: &str) -> log::LevelFilter {
    let parts = parts(text).unwrap_or_default();
    let most = parts.iter().map(|(_, level)| *level).max().unwrap_or(LevelFilter::INFO);
    let all = parts.iter().any(|(module, _)| module.is_none());
    match if all { most } else { most.max(LevelFilter::INFO) } {
        LevelFilter::OFF => log::LevelFilter::Off,
        LevelFilter::ERROR => log::LevelFilter::Error,
        LevelFilter::WARN => log::LevelFilter::Warn,
        LevelFilter::INFO => log::LevelFilter::Info,
        LevelFilter::DEBUG => log::LevelFilter::Debug,
        LevelFilter::TRACE => log::LevelFilter::Trace,
    }
}

fn parts(text: &str) -> Result<Vec<(Option<&str>, LevelFilter)>, String> {
    let mut parts = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (module, name) = match part.split_once('=') {
            Some((module, name)) => (Some(module.trim()), name.trim()),
            None => (None, part),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
        if module.is_some_and(|module| module.is_empty() || !module.chars().all(plain)) {
            return Err(format!(
                "{part:?} names no module; write for example \"info,flow_agent::sink=debug\""
            ));
        }
        let level = LEVELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let Some((_, level)) = level else {
            return Err(format!(
                "{name:?} is no level; it must be off, error, warn, info, debug or trace, or \
                 MODULE=LEVEL, with commas"
            ));
        };
        parts.push((module, *level));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_module_has_its_own_level_and_the_rest_the_other_one() {
        let filter = targets("warn, flow_agent::sink=debug");
        assert!(filter.would_enable("flow_agent::sink::delivery", &Level::DEBUG));
        assert!(!filter.would_enable("flow_agent::cache", &Level::INFO));
        assert!(filter.would_enable("flow_agent::cache", &Level::WARN));
        let alone = targets("flow_agent::sink=debug");
        assert!(alone.would_enable("flow_agent::cache", &Level::INFO), "as usual");
        assert_eq!(most("flow_agent::sink=debug"), log::LevelFilter::Debug);
        assert_eq!(most("error"), log::LevelFilter::Error);
        assert_eq!(most("flow_agent::sink=error"), log::LevelFilter::Info);
    }

    #[test]
    fn words_that_are_no_level_are_refused() {
        for text in ["", "infoo", "info,", "=debug", "a b=debug", "flow_agent", "x=1", "info debug"]
        {
            assert!(check_level(text).is_err(), "{text}");
        }
        for text in ["OFF", "info", "Debug,hyper=off", "a::b=trace"] {
            assert!(check_level(text).is_ok(), "{text}");
        }
    }
}
