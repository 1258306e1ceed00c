//! Shapes of load: what is sent, for how long, and what the agent has to keep to meanwhile.

use std::time::Duration;

use clap::ValueEnum;

/// A shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// 100,000 packets a second of 10,000 flows: a busy server
    Normal,
    /// A million packets a second of 10,000 flows
    Peak,
    /// 100,000 new flows a second, of one packet each
    Stress,
    /// As many packets as one CPU can send, of 65,536 flows
    Limit,
    /// Short TCP connections one after the other: how soon is a flow that has ended a row?
    Latency,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Packets of a number of flows, so many a second; as many as can be if it is none.
    Packets {
        /// Which flows they are of.
        flows: Flows,
        /// A second.
        rate: Option<u32>,
    },
    /// TCP connections.
    Connections,
}

impl Work {
    /// The same with another rate or other flows, if they are said.
    pub const fn with(self, other_rate: Option<u32>, other_flows: Option<u32>) -> Self {
        let Self::Packets { mut flows, mut rate } = self else { return self };
        if other_rate.is_some() {
            rate = other_rate;
        }
        if let Some(other) = other_flows {
            flows = Flows::Same(other);
        }
        Self::Packets { flows, rate }
    }
}

/// Which flows packets are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flows {
    /// So many, each packet of any of them.
    Same(u32),
    /// Each packet is of a flow of its own.
    New,
}

/// What must not be exceeded. Each figure is also missed if it could not be measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thresholds {
    /// Share of what was asked for that must really have been sent.
    pub least_rate_share: Option<f64>,
    /// Share of packets that were counted as lost.
    pub lost_share: Option<f64>,
    /// CPU in user space, in percent of a core for a million packets a second.
    pub user_cpu_percent_per_mpps: Option<f64>,
    /// Memory of its own, at most.
    pub memory_mib: Option<f64>,
    /// From when a flow that has ended lingers no more to its row, 99 of 100.
    pub linger_to_row_p99_s: Option<f64>,
}

impl Shape {
    /// The name on the command line and in results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Peak => "peak",
            Self::Stress => "stress",
            Self::Limit => "limit",
            Self::Latency => "latency",
        }
    }

    /// What is sent.
    pub const fn work(self) -> Work {
        match self {
            Self::Normal => Work::Packets { flows: Flows::Same(10_000), rate: Some(100_000) },
            Self::Peak => Work::Packets { flows: Flows::Same(10_000), rate: Some(1_000_000) },
            Self::Stress => Work::Packets { flows: Flows::New, rate: Some(100_000) },
            Self::Limit => Work::Packets { flows: Flows::Same(65_536), rate: None },
            Self::Latency => Work::Connections,
        }
    }

    /// How long that is sent before it is measured, unless it is said.
    pub const fn warm_up(self) -> Duration {
        match self {
            // Flows of one packet leave after the idle timeout of 15 s: then as many come as go.
            Self::Stress => Duration::from_secs(18),
            _ => Duration::from_secs(3),
        }
    }

    /// The limits. Nothing may be unaccounted for, in any shape.
    pub const fn thresholds(self) -> Thresholds {
        let any = Thresholds {
            least_rate_share: Some(0.95),
            lost_share: Some(0.0),
            user_cpu_percent_per_mpps: None,
            memory_mib: Some(400.0),
            linger_to_row_p99_s: None,
        };
        match self {
            // At so few packets the work that is done each second whatever comes counts.
            Self::Normal => Thresholds { user_cpu_percent_per_mpps: Some(20.0), ..any },
            Self::Peak => Thresholds { user_cpu_percent_per_mpps: Some(2.0), ..any },
            Self::Stress => Thresholds { memory_mib: Some(800.0), ..any },
            Self::Limit => Thresholds { least_rate_share: None, ..any },
            Self::Latency => {
                Thresholds { least_rate_share: None, linger_to_row_p99_s: Some(2.0), ..any }
            }
        }
    }
}
