//! The section `retention`: how long rows are kept, as it was given and checked.

use toml::Value;

use super::values::{Said, whole_number};
use super::{ConfigError, number};
use crate::schema::Retention;

/// The section `retention`.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, clippy::struct_field_names, reason = "each is its key")]
pub struct RetentionSettings {
    pub flows_days: Option<Said<i64>>,
    pub flows_1m_days: Option<Said<i64>>,
    pub flows_1h_days: Option<Said<i64>>,
}

impl RetentionSettings {
    /// Takes the value of a key; false if there is no such key.
    pub(super) fn set(
        &mut self,
        key: &str,
        place: String,
        value: Value,
    ) -> Result<bool, ConfigError> {
        let days = match key {
            "flows_days" => &mut self.flows_days,
            "flows_1m_days" => &mut self.flows_1m_days,
            "flows_1h_days" => &mut self.flows_1h_days,
            _ => return Ok(false),
        };
        *days = Some(whole_number(place, value)?);
        Ok(true)
    }

    /// Rollups are kept at least as long as rows: the evidence of a batch is in both.
    /// None if nothing is said.
    pub(super) fn check(self) -> Result<Option<Retention>, ConfigError> {
        let said = [&self.flows_days, &self.flows_1m_days, &self.flows_1h_days];
        if said.iter().all(|said| said.is_none()) {
            return Ok(None);
        }
        let defaults = Retention::default();
        let (least, most) = (Retention::ALLOWED.start(), Retention::ALLOWED.end());
        let days = |said, default: u32, least: u32| {
            number(said, u64::from(default.max(least)), u64::from(least), u64::from(*most))
                .map(|days| days as u32)
        };
        let flows = days(self.flows_days, defaults.flows_days, *least)?;
        Ok(Some(Retention {
            flows_days: flows,
            flows_1m_days: days(self.flows_1m_days, defaults.flows_1m_days, flows)?,
            flows_1h_days: days(self.flows_1h_days, defaults.flows_1h_days, flows)?,
        }))
    }
}
