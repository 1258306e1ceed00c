//! What one packet, flow or row costs: every constant that `plan` computes with, and the command
//! that measured it. Figures and machine are in docs/performance.md and docs/schema.md.

use serde::Serialize;

/// A measured cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// What it is called in the plan.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What measured it.
    pub measured_by: &'static str,
}

/// The shipped program, XDP, IPv4, 65,536 flows, uniform: the slower of two looks.
pub const PACKET: Cost = Cost {
    name: "packet",
    value: 26.7,
    unit: "ns of CPU a packet in the kernel",
    measured_by: "flow-agent bench kernel --flows 65536",
};

/// With what the cache does with each flow: the slowest of four.
pub const DRAIN: Cost = Cost {
    name: "drain",
    value: 57.0,
    unit: "ns of CPU a flow with packets and drain, cache included",
    measured_by: "flow-agent bench drain --flows 65536",
};

/// Batches of 500,000: the dearest size.
pub const ROW: Cost = Cost {
    name: "row",
    value: 139.0,
    unit: "ns of CPU of the agent a row, encoded and sent",
    measured_by: "flow-agent bench insert --rows 1000000 --rollups",
};

/// Every detector on.
pub const ANALYTICS: Cost = Cost {
    name: "analytics",
    value: 480.0,
    unit: "ns of CPU a row",
    measured_by: "cargo bench -p flow-benches -- analytics",
};

/// `fsync = "interval"`, the default.
pub const SPOOL: Cost = Cost {
    name: "spool",
    value: 32.0,
    unit: "ns a row",
    measured_by: "cargo bench -p flow-benches --bench spool",
};

/// A million flows, by a counting allocator.
pub const OPEN_FLOW: Cost = Cost {
    name: "open_flow",
    value: 225.0,
    unit: "octets of memory an open flow",
    measured_by: "cargo test -p flow-agent --test cache_memory",
};

/// Native format, uncompressed; in memory and in the spool.
pub const BLOCK_ROW: Cost = Cost {
    name: "block_row",
    value: 188.0,
    unit: "octets a row in a batch",
    measured_by: "flow-agent bench insert --rows 1000000",
};

/// All structures full; a quiet host takes a few hundred kB.
pub const ANALYTICS_MEMORY: Cost = Cost {
    name: "analytics_memory",
    value: 30e6,
    unit: "octets of memory at most",
    measured_by: "not measured: the sum of the bounds in docs/analytics.md",
};

/// Shipped tables, merged, GeoIP included.
pub const DISK_ROW: Cost = Cost {
    name: "disk_row",
    value: 18.5,
    unit: "octets a row of flows on disk",
    measured_by: "benches/sql/generate.sql, then OPTIMIZE FINAL and system.parts",
};

/// 73 flows a second and host; more where flows repeat less.
pub const DISK_1M: Cost = Cost {
    name: "disk_1m",
    value: 3.0,
    unit: "octets a flow in flows_1m on disk",
    measured_by: "benches/sql/generate.sql, then OPTIMIZE FINAL and system.parts",
};

/// The same.
pub const DISK_1H: Cost = Cost {
    name: "disk_1h",
    value: 0.54,
    unit: "octets a flow in flows_1h on disk",
    measured_by: "benches/sql/generate.sql, then OPTIMIZE FINAL and system.parts",
};

/// Inserts of 50,000 rows with both rollups, merges included; up to 2,600 on a busy machine.
pub const ENGINE_ROW: Cost = Cost {
    name: "engine_row",
    value: 1800.0,
    unit: "ns of CPU of ClickHouse a row, rollups and merges included",
    measured_by: "flow-agent bench insert --rows 1000000 --rollups",
};

/// All of them.
pub const ALL: [Cost; 12] = [
    PACKET,
    DRAIN,
    ROW,
    ANALYTICS,
    SPOOL,
    OPEN_FLOW,
    BLOCK_ROW,
    ANALYTICS_MEMORY,
    DISK_ROW,
    DISK_1M,
    DISK_1H,
    ENGINE_ROW,
];
