//! What the detectors are told: switches, limits, and what is local.

use std::time::Duration;

use super::event::{Address, mapped};
use super::network::Prefix;

/// The section `analytics` of the configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalyticsConfig {
    /// Nothing is looked at without.
    pub enabled: bool,
    /// How long a start without saved state only learns devices and listeners.
    pub learning: Duration,
    /// How long nothing must happen until the same is another event.
    pub cool_down: Duration,
    /// Events of each kind, at most.
    pub events_per_hour: u32,
    /// Addresses of this network, beside those of directly connected networks.
    pub local_networks: Vec<Prefix>,
    /// Sources that may scan.
    pub ignored_sources: Vec<Prefix>,
    /// Keep the inventory of devices.
    pub devices: bool,
    /// Between two looks at the neighbour tables.
    pub neighbour_interval: Duration,
    /// Look for new listeners.
    pub listeners: bool,
    /// Look for scanners.
    pub scans: bool,
    /// Attempts are counted for so long.
    pub scan_window: Duration,
    /// Different ports of one host.
    pub scan_ports: u64,
    /// Different hosts at one port.
    pub scan_hosts: u64,
    /// Look for SYN floods.
    pub syn_floods: bool,
    /// Connection attempts a second that are not completed.
    pub syn_flood_per_s: u64,
    /// Look for sudden change.
    pub changes: bool,
    /// A change is at least so many times the usual.
    pub change_factor: f64,
    /// And at least so many mean deviations from it.
    pub change_deviations: f64,
    /// And this much: bit/s, packets/s, flows/s.
    pub change_least: [f64; 3],
    /// How late the records of a flow may come: timeouts and batches.
    pub change_lag: Duration,
    /// Keep the lists of who talks most.
    pub top: bool,
    /// They cover the last half to whole of this.
    pub top_window: Duration,
}

impl Default for AnalyticsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            learning: Duration::from_mins(10),
            cool_down: Duration::from_mins(15),
            events_per_hour: 120,
            local_networks: private_networks(),
            ignored_sources: Vec::new(),
            devices: true,
            neighbour_interval: Duration::from_secs(30),
            listeners: true,
            scans: true,
            scan_window: Duration::from_mins(1),
            scan_ports: 100,
            scan_hosts: 100,
            syn_floods: true,
            syn_flood_per_s: 200,
            changes: true,
            change_factor: 3.0,
            change_deviations: 6.0,
            change_least: [10e6, 2_000.0, 50.0],
            change_lag: Duration::from_secs(90),
            top: true,
            top_window: Duration::from_mins(10),
        }
    }
}

impl AnalyticsConfig {
    /// True for a source that may scan.
    pub fn ignores(&self, source: Address) -> bool {
        self.ignored_sources.iter().any(|prefix| prefix.contains(source))
    }
}

/// What nobody outside of a network can be (RFC 1918, 6598, 3927, 4193, 4291).
fn private_networks() -> Vec<Prefix> {
    let prefix = |(text, bits): (&str, u8)| {
        let address = text.parse().expect("a constant address");
        Prefix::around(mapped(address), bits)
    };
    let networks = [
        ("10.0.0.0", 104),
        ("172.16.0.0", 108),
        ("192.168.0.0", 112),
        ("100.64.0.0", 106),
        ("169.254.0.0", 112),
        ("fc00::", 7),
        ("fe80::", 10),
    ];
    networks.into_iter().map(prefix).collect()
}
