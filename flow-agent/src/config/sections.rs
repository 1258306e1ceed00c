//! The sections `memory` and `filter`, as they were given.

use toml::Value;

use super::ConfigError;
use super::values::{Said, numbers, texts, whole_number, yes_or_no};

/// The section `memory`.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is its key")]
pub struct MemorySettings {
    pub enabled: Option<Said<bool>>,
    pub shrink_above_percent: Option<Said<i64>>,
    pub regrow_below_percent: Option<Said<i64>>,
    pub stall_percent: Option<Said<i64>>,
    pub floor_flows: Option<Said<i64>>,
}

impl MemorySettings {
    /// Takes the value of a key; false if there is no such key.
    pub(super) fn set(
        &mut self,
        key: &str,
        place: String,
        value: Value,
    ) -> Result<bool, ConfigError> {
        let number = match key {
            "enabled" => {
                self.enabled = Some(yes_or_no(place, value)?);
                return Ok(true);
            }
            "shrink_above_percent" => &mut self.shrink_above_percent,
            "regrow_below_percent" => &mut self.regrow_below_percent,
            "stall_percent" => &mut self.stall_percent,
            "floor_flows" => &mut self.floor_flows,
            _ => return Ok(false),
        };
        *number = Some(whole_number(place, value)?);
        Ok(true)
    }
}

/// The section `filter`; numbers are given as texts.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is its key")]
pub struct FilterSettings {
    pub include: Option<Said<Vec<String>>>,
    pub exclude: Option<Said<Vec<String>>>,
    pub include_ports: Option<Said<Vec<String>>>,
    pub exclude_ports: Option<Said<Vec<String>>>,
    pub include_protocols: Option<Said<Vec<String>>>,
    pub exclude_protocols: Option<Said<Vec<String>>>,
}

impl FilterSettings {
    /// Takes the value of a key; false if there is no such key.
    pub(super) fn set(
        &mut self,
        key: &str,
        place: String,
        value: Value,
    ) -> Result<bool, ConfigError> {
        match key {
            "include" => self.include = Some(texts(place, value)?),
            "exclude" => self.exclude = Some(texts(place, value)?),
            "include_ports" => self.include_ports = Some(numbers(place, value)?),
            "exclude_ports" => self.exclude_ports = Some(numbers(place, value)?),
            "include_protocols" => self.include_protocols = Some(numbers(place, value)?),
            "exclude_protocols" => self.exclude_protocols = Some(numbers(place, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}
