//! The section `memory`, checked.

use super::sections::MemorySettings;
use super::{ConfigError, number};
use crate::pressure::PressureLimits;

/// Limits from what was said; none when it is switched off.
pub(super) fn check(said: MemorySettings) -> Result<Option<PressureLimits>, ConfigError> {
    let defaults = PressureLimits::default();
    let percent = |said, default: u8, least, most| {
        number(said, u64::from(default), least, u64::from(most)).map(|percent| percent as u8)
    };
    let shrink = percent(said.shrink_above_percent, defaults.shrink_above_percent, 2, 100)?;
    // The default of one follows what was said of the other.
    let regrow = defaults.regrow_below_percent.min(shrink - 1);
    let regrow = percent(said.regrow_below_percent, regrow, 1, shrink - 1)?;
    let stall = percent(said.stall_percent, defaults.stall_percent, 1, 100)?;
    let floor = number(said.floor_flows, defaults.floor_flows as u64, 1, 1 << 30)?;
    let enabled = said.enabled.is_none_or(|said| said.value);
    Ok(enabled.then_some(PressureLimits {
        shrink_above_percent: shrink,
        regrow_below_percent: regrow,
        stall_percent: stall,
        floor_flows: floor as usize,
    }))
}
