//! What the detectors say: findings, and the events that become rows.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A device that was never seen in a network of this host.
    NewDevice,
    /// An address has another MAC than before.
    MacChanged,
    /// An address of this network answers at a port for the first time.
    NewListener,
    /// One source tried many ports of one host.
    PortScan,
    /// One source tried many hosts.
    HostScan,
    /// Many connections to one host were begun and never completed.
    SynFlood,
    /// A service carries far more than it used to.
    TrafficRise,
    /// A service carries far less than it used to.
    TrafficDrop,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::NewDevice,
        Self::MacChanged,
        Self::NewListener,
        Self::PortScan,
        Self::HostScan,
        Self::SynFlood,
        Self::TrafficRise,
        Self::TrafficDrop,
    ];

    /// The name in rows, metrics and documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NewDevice => "new_device",
            Self::MacChanged => "mac_changed",
            Self::NewListener => "new_listener",
            Self::PortScan => "port_scan",
            Self::HostScan => "host_scan",
            Self::SynFlood => "syn_flood",
            Self::TrafficRise => "traffic_rise",
            Self::TrafficDrop => "traffic_drop",
        }
    }
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look at it by day.
    Warning,
    /// Somebody should look at it now.
    Critical,
}

impl Severity {
    /// The name in rows and documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// An address as records have it, IPv4 mapped.
pub type Address = [u8; 16];

/// No address.
pub const NONE: Address = [0; 16];

/// An address as people write it.
pub fn ip(address: Address) -> IpAddr {
    Ipv6Addr::from(address).to_canonical()
}

/// An address of either family as records have it.
pub fn mapped(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// What a detector has found; the numbers grow while it goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What happened.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// Where it was seen first.
    pub interface: Arc<str>,
    /// Who did it; `::` for nobody or many.
    pub src: Address,
    /// To whom; `::` for nobody or many.
    pub dst: Address,
    /// The port, 0 for none or many.
    pub port: u16,
    /// The IP protocol, 0 for none or several.
    pub protocol: u8,
    /// The name of the service, empty if unknown.
    pub service: &'static str,
    /// What was measured.
    pub value: f64,
    /// What it was compared with.
    pub threshold: f64,
    /// Flow records that belong to it.
    pub count: u64,
    /// Their first packet, Unix ns.
    pub first_ns: u64,
    /// Their last packet, Unix ns.
    pub last_ns: u64,
    /// What else there is to know.
    pub details: BTreeMap<&'static str, String>,
}

impl Finding {
    /// Adds a record that belongs to it.
    pub fn add(&mut self, first_ns: u64, last_ns: u64) {
        self.count += 1;
        self.first_ns = self.first_ns.min(first_ns);
        self.last_ns = self.last_ns.max(last_ns);
    }

    /// Another detail of it, or an empty text.
    pub fn detail(&self, name: &'static str) -> &str {
        self.details.get(name).map_or("", String::as_str)
    }
}

/// A row of the table `events`. The same `id` comes again with a higher `revision` when the
/// numbers have grown.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Of all revisions.
    pub id: Uuid,
    /// From 1.
    pub revision: u32,
    /// When it was found, Unix ns; the same in all revisions.
    pub ts_ns: u64,
    /// What was found.
    pub finding: Finding,
    /// For people.
    pub message: String,
}
