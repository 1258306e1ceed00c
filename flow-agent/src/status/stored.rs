//! The last level: the rows of a flow in the store, asked for with parameters.

use std::time::Instant;

use clickhouse::Row;
use serde::Deserialize;

use super::key::octets;
use super::level::time;
use super::{FlowName, FlowSummary, Level, Sources};

/// How far back rows are looked for, by the time when their batch was frozen.
const HOURS: u32 = 24;
const STORE: &str = "ClickHouse: the last rows of this exporter, frozen in the last 24 hours";

/// Rows with these ends, either first.
const ENDS: &str = "(f.src_ip = {a:IPv6} AND f.dst_ip = {b:IPv6} \
    AND (empty({a_port:Array(UInt16)}) OR has({a_port:Array(UInt16)}, f.src_port)) \
    AND (empty({b_port:Array(UInt16)}) OR has({b_port:Array(UInt16)}, f.dst_port)) \
    OR f.src_ip = {b:IPv6} AND f.dst_ip = {a:IPv6} \
    AND (empty({b_port:Array(UInt16)}) OR has({b_port:Array(UInt16)}, f.src_port)) \
    AND (empty({a_port:Array(UInt16)}) OR has({a_port:Array(UInt16)}, f.dst_port)))";

/// All rows together.
#[derive(Debug, Default, Row, Deserialize)]
struct Sum {
    rows: u64,
    packets: u64,
    bytes: u64,
    first: i64,
    last: i64,
    batches: Vec<String>,
}

/// A row of the table `flows`.
#[derive(Debug, Row, Deserialize)]
pub struct StoredFlow {
    interface: String,
    direction: String,
    src_ip: String,
    dst_ip: String,
    src_port: u16,
    dst_port: u16,
    packets: u64,
    bytes: u64,
    reverse_packets: u64,
    reverse_bytes: u64,
    flow_start: i64,
    flow_end: i64,
    flow_end_reason: String,
    sampling: u32,
}

/// Asks the store.
pub async fn in_store(sources: &Sources, name: &FlowName) -> Level {
    match rows(sources, name).await {
        Ok(rows) => {
            let flows = rows.into_iter().map(|row| FlowSummary {
                interface: row.interface,
                direction: row.direction,
                src_ip: row.src_ip,
                dst_ip: row.dst_ip,
                src_port: row.src_port,
                dst_port: row.dst_port,
                packets: row.packets,
                bytes: row.bytes,
                reverse_packets: row.reverse_packets,
                reverse_bytes: row.reverse_bytes,
                flow_start: time(row.flow_start as u64),
                flow_end: time(row.flow_end as u64),
                flow_end_reason: Some(row.flow_end_reason),
                sampling: Some(row.sampling),
            });
            let mut level = Level::new("store", STORE, flows.collect());
            if level.found {
                match sum(sources, name).await {
                    Ok(sum) => sum.complete(&mut level),
                    Err(error) => level.error = Some(error.to_string()),
                }
            }
            level
        }
        Err(error) => Level::failed("store", STORE, &error),
    }
}

impl Sum {
    fn complete(self, level: &mut Level) {
        level.rows = Some(self.rows);
        level.batches = self.batches;
        (level.packets, level.bytes) = (self.packets, self.bytes);
        level.first = time(self.first as u64);
        level.last = time(self.last as u64);
    }
}

async fn rows(
    sources: &Sources,
    name: &FlowName,
) -> Result<Vec<StoredFlow>, crate::sink::SinkError> {
    let sql = "\
        SELECT toString(f.interface) AS interface, toString(f.direction) AS direction, \
        replaceOne(toString(f.src_ip), '::ffff:', '') AS src_ip, \
        replaceOne(toString(f.dst_ip), '::ffff:', '') AS dst_ip, src_port, dst_port, \
        packets, bytes, reverse_packets, reverse_bytes, \
        toUnixTimestamp64Nano(f.flow_start) AS flow_start, \
        toUnixTimestamp64Nano(f.flow_end) AS flow_end, \
        toString(f.flow_end_reason) AS flow_end_reason, sampling FROM {table} AS f \
        WHERE f.exporter = {exporter:String} AND f.protocol = {protocol:UInt8} \
        AND f.exported_at >= now() - toIntervalHour({hours:UInt32}) \
        AND WHERE_ENDS ORDER BY f.flow_end DESC LIMIT {most:UInt32}";
    let sql = sql.replace("WHERE_ENDS", ENDS);
    let target = sources.store.choose(Instant::now());
    let rows = target.client.rows("flows", &sql, &parameters(sources, name)).await;
    sources.store.report(&target, rows.as_ref().map(|_| ()), Instant::now());
    rows
}

/// Number, sums, times and batches of all rows, not only of the newest.
async fn sum(sources: &Sources, name: &FlowName) -> Result<Sum, crate::sink::SinkError> {
    let sql = "\
        SELECT count() AS rows, sum(packets + reverse_packets) AS packets, \
        sum(bytes + reverse_bytes) AS bytes, \
        toUnixTimestamp64Nano(min(f.flow_start)) AS first, \
        toUnixTimestamp64Nano(max(f.flow_end)) AS last, \
        arrayReverseSort(groupUniqArray(toString(f.batch_id))) AS batches FROM {table} AS f \
        WHERE f.exporter = {exporter:String} AND f.protocol = {protocol:UInt8} \
        AND f.exported_at >= now() - toIntervalHour({hours:UInt32}) AND WHERE_ENDS";
    let sql = sql.replace("WHERE_ENDS", ENDS).replace("groupUniqArray(", "groupUniqArray(100)(");
    let target = sources.store.choose(Instant::now());
    let sums = target.client.rows("flows", &sql, &parameters(sources, name)).await;
    sources.store.report(&target, sums.as_ref().map(|_| ()), Instant::now());
    Ok(sums?.into_iter().next().unwrap_or_default())
}

fn parameters(sources: &Sources, name: &FlowName) -> [(&'static str, String); 8] {
    let [(a, a_port), (b, b_port)] = name.ends;
    let text = |address| std::net::Ipv6Addr::from(octets(address)).to_string();
    // ClickHouse reads a list: an empty one is any port.
    let port = |port: Option<u16>| match (port, name.has_ports()) {
        (Some(port), _) => format!("[{port}]"),
        (None, true) => "[]".into(),
        (None, false) => "[0]".into(),
    };
    [
        ("exporter", sources.exporter.clone()),
        ("protocol", name.protocol.to_string()),
        ("hours", HOURS.to_string()),
        ("a", text(a)),
        ("b", text(b)),
        ("a_port", port(a_port)),
        ("b_port", port(b_port)),
        ("most", (Level::MOST + 1).to_string()),
    ]
}
