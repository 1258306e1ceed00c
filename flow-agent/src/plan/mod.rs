//! `flow-agent plan`: a load enters, what it takes on each host and in the store leaves.
//!
//! Arithmetic with measured [`costs`] and the defaults of the agent. What must hold: every figure
//! names what it rests on, grows with the load, and nothing that was not measured is a figure.

pub mod costs;
mod text;

use serde::Serialize;

use costs::{
    ANALYTICS, ANALYTICS_MEMORY, BLOCK_ROW, Cost, DISK_1H, DISK_1M, DISK_ROW, DRAIN, ENGINE_ROW,
    OPEN_FLOW, PACKET, ROW, SPOOL,
};

/// Defaults of the agent: kernel tables, spool and idle timeout, and the largest batch.
const TABLES_BYTES: f64 = 128.0 * 1_048_576.0;
const SPOOL_DISK_BYTES: f64 = 4096.0 * 1_048_576.0;
const SPOOL_MEMORY_BYTES: f64 = 64.0 * 1_048_576.0;
const MAX_BATCH_ROWS: f64 = 500_000.0;
/// Flows that the default tables take well between two drains: measured with so many.
const TABLE_FLOWS: f64 = 65_536.0;
/// The default of `max_flows`.
const MAX_FLOWS: f64 = 1_000_000.0;
/// The smallest insert of which the store's CPU was measured.
const MEASURED_INSERT_ROWS: f64 = 50_000.0;
/// Batches of ledger and latency: one of each in 10 s.
const BOOKS_PER_SECOND: f64 = 0.2;
/// Inserts a second above which batches should be longer: docs/scale.md.
const MANY_INSERTS: f64 = 20.0;
const DAY_S: f64 = 86_400.0;

/// What is known of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Hosts with an agent.
    pub hosts: u64,
    /// Packets a second that a host meters, each interface for itself.
    pub packets_per_second: f64,
    /// Flow records a second of a host: those that end, and one a minute of those that go on.
    pub flows_per_second: f64,
    /// Flows that are open at a time, if it is known; else those of an idle timeout.
    pub open_flows: Option<f64>,
    /// Days that flows are kept.
    pub flows_days: u32,
    /// Days that rows by the minute are kept.
    pub flows_1m_days: u32,
    /// Days that rows by the hour are kept.
    pub flows_1h_days: u32,
    /// Copies of each row.
    pub replicas: u32,
    /// `age_ms` of `[batch]`.
    pub batch_age_ms: u32,
    /// `idle_timeout_s`.
    pub idle_timeout_s: u32,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what: `bytes`, `cores`, `rows/s`, `inserts/s`, `parts/s`, `rows`, `s`.
    pub unit: &'static str,
    /// How it is computed.
    pub how: String,
    /// Names of the costs it rests on; none for what follows from the load alone.
    pub rests_on: Vec<&'static str>,
}

/// What a load takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// As it was told.
    pub load: Load,
    /// Of each host.
    pub host: Vec<Figure>,
    /// Of the store, all hosts together.
    pub store: Vec<Figure>,
    /// What to look at before it is believed.
    pub notes: Vec<String>,
    /// The costs.
    pub costs: Vec<Cost>,
}

fn figure(
    name: &'static str,
    value: f64,
    unit: &'static str,
    how: impl Into<String>,
    rests_on: &[Cost],
) -> Figure {
    let rests_on = rests_on.iter().map(|cost| cost.name).collect();
    Figure { name, value, unit, how: how.into(), rests_on }
}

impl Plan {
    /// Computes it.
    pub fn new(load: Load) -> Self {
        let open = load.open_flows();
        let host = host(&load, open);
        let store = store(&load);
        Self { load, host, store, notes: notes(&load, open), costs: costs::ALL.to_vec() }
    }

    /// A figure by its name.
    pub fn get(&self, name: &str) -> Option<f64> {
        let mut figures = self.host.iter().chain(&self.store);
        figures.find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// For people.
    pub fn text(&self) -> String {
        text::text(self)
    }
}

impl Load {
    fn open_flows(&self) -> f64 {
        self.open_flows.unwrap_or(self.flows_per_second * f64::from(self.idle_timeout_s))
    }

    /// Inserts of flows, a second and host: none without rows.
    fn inserts(&self) -> f64 {
        let by_age = 1000.0 / f64::from(self.batch_age_ms);
        by_age.max(self.flows_per_second / MAX_BATCH_ROWS).min(self.flows_per_second)
    }

    fn rows_per_insert(&self) -> f64 {
        let inserts = self.inserts();
        if inserts > 0.0 { self.flows_per_second / inserts } else { 0.0 }
    }
}

fn host(load: &Load, open: f64) -> Vec<Figure> {
    let rows = load.flows_per_second;
    // A drain a second: no more flows have packets in it than there are packets.
    let touched = load.packets_per_second.min(open.max(rows));
    let kernel = load.packets_per_second * PACKET.value / 1e9;
    let drain = touched * DRAIN.value / 1e9;
    let each = ROW.value + ANALYTICS.value + SPOOL.value;
    let batches = 2.0 * load.rows_per_insert() * BLOCK_ROW.value;
    let cache = open.min(MAX_FLOWS) * OPEN_FLOW.value;
    vec![
        figure("cpu_kernel", kernel, "cores", "packets/s x packet", &[PACKET]),
        figure("cpu_drain", drain, "cores", "flows with packets, once a second, x drain", &[DRAIN]),
        figure(
            "cpu_rows",
            rows * each / 1e9,
            "cores",
            "flows/s x (row + analytics + spool)",
            &[ROW, ANALYTICS, SPOOL],
        ),
        figure(
            "memory_kernel_tables",
            TABLES_BYTES,
            "bytes",
            "the default of table_memory_mib, however many flows there are",
            &[],
        ),
        figure("memory_cache", cache, "bytes", "open flows x open_flow", &[OPEN_FLOW]),
        figure("memory_batches", batches, "bytes", "2 batches x rows x block_row", &[BLOCK_ROW]),
        figure(
            "memory_analytics",
            ANALYTICS_MEMORY.value,
            "bytes",
            "at most, when every structure is full",
            &[ANALYTICS_MEMORY],
        ),
        figure(
            "memory_spool_outage",
            SPOOL_MEMORY_BYTES,
            "bytes",
            "while the store is away: the default of memory_mib of [spool]",
            &[],
        ),
        figure(
            "disk_spool_outage",
            SPOOL_DISK_BYTES,
            "bytes",
            "while the store is away, at most: the default of max_mib of [spool]",
            &[],
        ),
        figure(
            "outage_held",
            if rows > 0.0 { SPOOL_DISK_BYTES / (rows * BLOCK_ROW.value) } else { f64::MAX },
            "s",
            "how long the store may be away: disk of the spool / (flows/s x block_row)",
            &[BLOCK_ROW],
        ),
    ]
}

fn store(load: &Load) -> Vec<Figure> {
    let (hosts, copies) = (load.hosts as f64, f64::from(load.replicas));
    let rows = hosts * load.flows_per_second;
    let inserts = hosts * load.inserts();
    let books = hosts * BOOKS_PER_SECOND;
    let days = |days: u32| rows * f64::from(days) * DAY_S * copies;
    vec![
        figure("rows_per_second", rows, "rows/s", "hosts x flows/s", &[]),
        figure("rows_per_day", rows * DAY_S, "rows", "rows/s x 86,400", &[]),
        figure(
            "inserts_per_second",
            inserts + books,
            "inserts/s",
            "hosts x (one in a batch's age, or as often as a batch is full; and two in 10 s of \
             ledger and latency)",
            &[],
        ),
        figure("rows_per_insert", load.rows_per_insert(), "rows", "flows/s x a batch's age", &[]),
        figure(
            "parts_per_second",
            3.0 * inserts + books,
            "parts/s",
            "three an insert of flows (flows and two rollups), one of each other",
            &[],
        ),
        figure(
            "disk_flows",
            days(load.flows_days) * DISK_ROW.value,
            "bytes",
            format!("rows of {} days x disk_row x replicas", load.flows_days),
            &[DISK_ROW],
        ),
        figure(
            "disk_rollups",
            days(load.flows_1m_days) * DISK_1M.value + days(load.flows_1h_days) * DISK_1H.value,
            "bytes",
            format!(
                "flows of {} days x disk_1m and {} days x disk_1h, x replicas",
                load.flows_1m_days, load.flows_1h_days
            ),
            &[DISK_1M, DISK_1H],
        ),
        figure(
            "clickhouse_cores",
            rows * ENGINE_ROW.value / 1e9 * copies,
            "cores",
            "rows/s x engine_row x replicas; inserts and merges, no questions",
            &[ENGINE_ROW],
        ),
    ]
}

fn notes(load: &Load, open: f64) -> Vec<String> {
    let mut notes = vec![
        "Measured on two shared cores of a virtual machine; yours differ. Everything else is \
         arithmetic: no fleet of this size was tested."
            .to_owned(),
        "Not counted: what the agent takes beside these structures, ledger, latency, events and devices on \
         disk, questions to ClickHouse and its memory."
            .to_owned(),
    ];
    let rows = load.rows_per_insert();
    if rows < MEASURED_INSERT_ROWS && load.flows_per_second > 0.0 {
        notes.push(format!(
            "engine_row was measured with inserts of {MEASURED_INSERT_ROWS:.0} rows; these have \
             {rows:.0}. Small inserts cost ClickHouse more a row: parts a second are the limit, \
             not rows."
        ));
    }
    let inserts = load.hosts as f64 * load.inserts();
    if inserts > MANY_INSERTS {
        notes.push(format!(
            "{inserts:.0} inserts a second are many for one server: raise age_ms of [batch] (up \
             to 60000), or spread over several shards; see docs/scale.md."
        ));
    }
    if open > MAX_FLOWS {
        notes.push(format!(
            "{open:.0} open flows are more than the default of max_flows ({MAX_FLOWS:.0}), which \
             is what memory_cache counts: raise it, or flows leave early and are more rows."
        ));
    }
    if load.packets_per_second.min(open) > TABLE_FLOWS {
        notes.push(format!(
            "More than {TABLE_FLOWS:.0} flows may have packets between two drains: raise \
             table_memory_mib or lower drain_interval_ms, and look at evicted_fill in the status."
        ));
    }
    if load.flows_per_second > load.packets_per_second {
        notes.push("There are more flows than packets a second: is that meant?".into());
    }
    notes
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
