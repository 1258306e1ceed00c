//! The section `batch`: as it was given, then checked.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Value;

use super::values::{Said, whole_number};
use super::{ConfigError, number};
use crate::batch::{BatchLimits, MOST_ROWS};

const LONGEST_MS: u64 = 60_000;

/// What the section says; everything is optional.
#[derive(Clone, Debug, Default)]
pub struct BatchSettings(BTreeMap<String, Said<i64>>);

impl BatchSettings {
    /// Takes the value of one of its keys.
    pub fn set(&mut self, key: &str, place: String, value: Value) -> Result<(), ConfigError> {
        self.0.insert(key.into(), whole_number(place, value)?);
        Ok(())
    }

    /// Checks every value. Without a floor or ceiling that was said, the default gives way to the
    /// other one.
    pub fn check(mut self) -> Result<BatchLimits, ConfigError> {
        let defaults = BatchLimits::default();
        let most = MOST_ROWS as u64;
        let millis = |said, default: Duration, least| {
            number(said, default.as_millis() as u64, least, LONGEST_MS).map(Duration::from_millis)
        };
        let target = millis(self.0.remove("target_insert_ms"), defaults.target, 1)?;
        let age = millis(self.0.remove("age_ms"), defaults.age, 10)?;
        let min =
            self.0.remove("min_rows").map(|said| number(Some(said), 0, 1, most)).transpose()?;
        let max = defaults.max_rows.max(min.unwrap_or(0) as usize) as u64;
        let max = number(self.0.remove("max_rows"), max, min.unwrap_or(1), most)?;
        let min = min.unwrap_or(max.min(defaults.min_rows as u64));
        Ok(BatchLimits { target, min_rows: min as usize, max_rows: max as usize, age })
    }
}
