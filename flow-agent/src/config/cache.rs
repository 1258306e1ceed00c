//! The section `cache`: as it was given, then checked.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Value;

use super::values::{Said, text, whole_number, yes_or_no};
use super::{ConfigError, number};
use crate::cache::{Class, ClassTimeouts, Limits, Policy, StatsLevel, Timeouts};

const DEFAULT_MAX_FLOWS: u64 = 1_000_000;
const DEFAULT_HOT_FLOWS: u64 = 20;
const LONGEST_S: u64 = 86_400;
const MOST_MEMORY_MIB: u64 = 1 << 20;

/// What the section says; everything is optional.
#[derive(Clone, Debug, Default)]
pub struct CacheSettings {
    enabled: Option<Said<bool>>,
    policy: Option<Said<String>>,
    statistics: Option<Said<String>>,
    /// By key.
    numbers: BTreeMap<String, Said<i64>>,
}

/// The section, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheChoice {
    /// What the cache may hold, and how long.
    pub limits: Limits,
    /// How much it counts.
    pub level: StatsLevel,
    /// Flows with most packets that it tells.
    pub hot_flows: usize,
}

impl CacheSettings {
    /// Takes the value of one of its keys.
    pub fn set(&mut self, key: &str, place: String, value: Value) -> Result<(), ConfigError> {
        match key {
            "enabled" => self.enabled = Some(yes_or_no(place, value)?),
            "policy" => self.policy = Some(text(place, value)?),
            "statistics" => self.statistics = Some(text(place, value)?),
            key => {
                self.numbers.insert(key.into(), whole_number(place, value)?);
            }
        }
        Ok(())
    }

    /// Checks every value. `max_flows` and the timeouts for all classes may be said above the
    /// sections, too.
    pub fn check(
        mut self,
        max_flows: Option<Said<i64>>,
        [idle, active]: [Duration; 2],
        shards: usize,
    ) -> Result<CacheChoice, ConfigError> {
        let mut take = |key: &str| self.numbers.remove(key);
        let max_flows = take("max_flows").or(max_flows);
        let max_flows = number(max_flows, DEFAULT_MAX_FLOWS, 1, 1 << 30)? as usize;
        // A shard with less than a MiB has no room for its tables.
        let memory = take("max_memory_mib")
            .map(|said| number(Some(said), 0, shards as u64, MOST_MEMORY_MIB))
            .transpose()?;
        let seconds = |said: Option<Said<i64>>, least| {
            said.map(|said| number(Some(said), 0, least, LONGEST_S).map(Duration::from_secs))
                .transpose()
        };
        let ttl = seconds(take("ttl_s"), 1)?;
        let mut timeouts = Timeouts { idle, active, ..Timeouts::default() };
        timeouts.linger = seconds(take("linger_s"), 0)?.unwrap_or(timeouts.linger);
        for (class, own) in Class::OPEN.into_iter().zip(&mut timeouts.classes) {
            let mut own_of = |what| take(&format!("{}_{what}_timeout_s", class.label()));
            *own = ClassTimeouts {
                idle: seconds(own_of("idle"), 1)?,
                active: seconds(own_of("active"), 1)?,
            };
        }
        let hot_flows = number(take("hot_flows"), DEFAULT_HOT_FLOWS, 1, 256)? as usize;
        let limits = Limits {
            policy: one_of(self.policy, &Policy::ALL.map(|policy| (policy.label(), policy)))?,
            max_flows,
            max_memory: memory.map(|mib| mib << 20),
            ttl,
            timeouts,
            enabled: self.enabled.is_none_or(|said| said.value),
        };
        let levels = StatsLevel::ALL.map(|level| (level.label(), level));
        Ok(CacheChoice { limits, level: one_of(self.statistics, &levels)?, hot_flows })
    }
}

/// The value with this name; without one the default.
pub(super) fn one_of<T: Copy + Default>(
    said: Option<Said<String>>,
    values: &[(&str, T)],
) -> Result<T, ConfigError> {
    let Some(Said { value, place }) = said else { return Ok(T::default()) };
    let found = values.iter().find(|(name, _)| *name == value).map(|(_, found)| *found);
    found.ok_or_else(|| ConfigError::Value {
        place,
        value: format!("{value:?}"),
        allowed: values.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or "),
    })
}
