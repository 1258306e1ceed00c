//! The section `log`: as it was given, then checked.

use std::time::Duration;

use super::cache::one_of;
use super::values::Said;
use super::{ConfigError, number};
use crate::logging::{Format, LogConfig, check_level};

/// What the section says; everything is optional.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is its key")]
pub struct LogSettings {
    pub format: Option<Said<String>>,
    pub level: Option<Said<String>>,
    pub repeat_limit: Option<Said<i64>>,
    pub repeat_interval_s: Option<Said<i64>>,
}

impl LogSettings {
    /// Checks every value and fills in the defaults.
    pub(super) fn check(self) -> Result<LogConfig, ConfigError> {
        let defaults = LogConfig::default();
        let interval = defaults.repeat_interval.as_secs();
        let level = match self.level {
            None => defaults.level,
            Some(Said { value, place }) => match check_level(&value) {
                Ok(()) => value,
                Err(problem) => return Err(ConfigError::Rule { place, problem }),
            },
        };
        Ok(LogConfig {
            format: one_of(self.format, &Format::ALL.map(|format| (format.label(), format)))?,
            level,
            repeat_limit: number(self.repeat_limit, defaults.repeat_limit.into(), 0, 100_000)?
                as u32,
            repeat_interval: Duration::from_secs(number(
                self.repeat_interval_s,
                interval,
                1,
                3600,
            )?),
        })
    }
}
