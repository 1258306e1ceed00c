//! The section `analytics`: as it was said, and checked.

use std::time::Duration;

use toml::Value;

use super::values::{Said, texts, whole_number, yes_or_no};
use super::{ConfigError, Timeouts, number};
use crate::analytics::{AnalyticsConfig, Prefix};
use crate::batch::BatchLimits;
use crate::filter;

/// What was said.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the keys are documented in docs/configuration.md")]
pub struct AnalyticsSettings {
    pub enabled: Option<Said<bool>>,
    pub learning_s: Option<Said<i64>>,
    pub cool_down_s: Option<Said<i64>>,
    pub events_per_hour: Option<Said<i64>>,
    pub local_networks: Option<Said<Vec<String>>>,
    pub ignored_sources: Option<Said<Vec<String>>>,
    pub devices: Option<Said<bool>>,
    pub neighbour_interval_s: Option<Said<i64>>,
    pub listeners: Option<Said<bool>>,
    pub scans: Option<Said<bool>>,
    pub scan_window_s: Option<Said<i64>>,
    pub scan_ports: Option<Said<i64>>,
    pub scan_hosts: Option<Said<i64>>,
    pub syn_floods: Option<Said<bool>>,
    pub syn_flood_per_s: Option<Said<i64>>,
    pub changes: Option<Said<bool>>,
    pub change_factor: Option<Said<i64>>,
    pub change_deviations: Option<Said<i64>>,
    pub change_mbit_per_s: Option<Said<i64>>,
    pub change_packets_per_s: Option<Said<i64>>,
    pub change_flows_per_s: Option<Said<i64>>,
    pub top: Option<Said<bool>>,
    pub top_window_s: Option<Said<i64>>,
}

impl AnalyticsSettings {
    /// Takes one key, without the name of the section; false if there is no such key.
    pub(super) fn set(
        &mut self,
        key: &str,
        place: String,
        value: Value,
    ) -> Result<bool, ConfigError> {
        let switch = match key {
            "enabled" => Some(&mut self.enabled),
            "devices" => Some(&mut self.devices),
            "listeners" => Some(&mut self.listeners),
            "scans" => Some(&mut self.scans),
            "syn_floods" => Some(&mut self.syn_floods),
            "changes" => Some(&mut self.changes),
            "top" => Some(&mut self.top),
            _ => None,
        };
        if let Some(switch) = switch {
            *switch = Some(yes_or_no(place, value)?);
            return Ok(true);
        }
        let limit = match key {
            "learning_s" => &mut self.learning_s,
            "cool_down_s" => &mut self.cool_down_s,
            "events_per_hour" => &mut self.events_per_hour,
            "neighbour_interval_s" => &mut self.neighbour_interval_s,
            "scan_window_s" => &mut self.scan_window_s,
            "scan_ports" => &mut self.scan_ports,
            "scan_hosts" => &mut self.scan_hosts,
            "syn_flood_per_s" => &mut self.syn_flood_per_s,
            "change_factor" => &mut self.change_factor,
            "change_deviations" => &mut self.change_deviations,
            "change_mbit_per_s" => &mut self.change_mbit_per_s,
            "change_packets_per_s" => &mut self.change_packets_per_s,
            "change_flows_per_s" => &mut self.change_flows_per_s,
            "top_window_s" => &mut self.top_window_s,
            "local_networks" => {
                self.local_networks = Some(texts(place, value)?);
                return Ok(true);
            }
            "ignored_sources" => {
                self.ignored_sources = Some(texts(place, value)?);
                return Ok(true);
            }
            _ => return Ok(false),
        };
        *limit = Some(whole_number(place, value)?);
        Ok(true)
    }

    /// Checks every value and fills in the defaults; the timeouts say how late records come.
    pub(super) fn check(
        self,
        timeouts: &Timeouts,
        batch: &BatchLimits,
    ) -> Result<AnalyticsConfig, ConfigError> {
        const DAY: u64 = 86_400;
        const MANY: u64 = 1_000_000_000;
        let default = AnalyticsConfig::default();
        let seconds = |said, default: Duration, least, most| {
            number(said, default.as_secs(), least, most).map(Duration::from_secs)
        };
        let yes = |said: Option<Said<bool>>| said.is_none_or(|said| said.value);
        let [bits, packets, flows] = default.change_least.map(|least| least as u64);
        let mbit = number(self.change_mbit_per_s, bits / 1_000_000, 0, MANY)?;
        let packets = number(self.change_packets_per_s, packets, 0, MANY)?;
        let flows = number(self.change_flows_per_s, flows, 0, MANY)?;
        let factor = number(self.change_factor, default.change_factor as u64, 2, 1_000)?;
        let deviations =
            number(self.change_deviations, default.change_deviations as u64, 1, 1_000)?;
        let per_hour = number(self.events_per_hour, default.events_per_hour.into(), 1, 100_000)?;
        // The drain and the batch's way come on top.
        let lag = timeouts.longest() + batch.age + Duration::from_secs(20);
        Ok(AnalyticsConfig {
            enabled: yes(self.enabled),
            learning: seconds(self.learning_s, default.learning, 0, 7 * DAY)?,
            cool_down: seconds(self.cool_down_s, default.cool_down, 10, DAY)?,
            events_per_hour: per_hour as u32,
            local_networks: prefixes(self.local_networks)?.unwrap_or(default.local_networks),
            ignored_sources: prefixes(self.ignored_sources)?.unwrap_or_default(),
            devices: yes(self.devices),
            neighbour_interval: seconds(
                self.neighbour_interval_s,
                default.neighbour_interval,
                1,
                3_600,
            )?,
            listeners: yes(self.listeners),
            scans: yes(self.scans),
            scan_window: seconds(self.scan_window_s, default.scan_window, 1, 3_600)?,
            scan_ports: number(self.scan_ports, default.scan_ports, 5, 65_535)?,
            scan_hosts: number(self.scan_hosts, default.scan_hosts, 5, 1 << 24)?,
            syn_floods: yes(self.syn_floods),
            syn_flood_per_s: number(self.syn_flood_per_s, default.syn_flood_per_s, 1, MANY)?,
            changes: yes(self.changes),
            change_factor: factor as f64,
            change_deviations: deviations as f64,
            change_least: [(mbit * 1_000_000) as f64, packets as f64, flows as f64],
            change_lag: lag,
            top: yes(self.top),
            top_window: seconds(self.top_window_s, default.top_window, 10, DAY)?,
        })
    }
}

fn prefixes(said: Option<Said<Vec<String>>>) -> Result<Option<Vec<Prefix>>, ConfigError> {
    let Some(Said { value, place }) = said else { return Ok(None) };
    let parse = |text: &String| {
        let (address, bits) = text.parse::<filter::Prefix>()?.parts();
        Ok(Prefix::around(address, bits))
    };
    let parsed: Result<_, _> = value.iter().map(parse).collect();
    parsed.map(Some).map_err(|problem| ConfigError::Rule { place, problem })
}
