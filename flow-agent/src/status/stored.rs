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
            Level::new("store", STORE, flows.collect())
        }
        Err(error) => Level::failed("store", STORE, &error),
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
        AND (f.src_ip = {a:IPv6} AND f.dst_ip = {b:IPv6} \
        AND f.src_port = {a_port:UInt16} AND f.dst_port = {b_port:UInt16} \
        OR f.src_ip = {b:IPv6} AND f.dst_ip = {a:IPv6} \
        AND f.src_port = {b_port:UInt16} AND f.dst_port = {a_port:UInt16}) \
        ORDER BY f.flow_end DESC LIMIT {most:UInt32}";
    let [(a, a_port), (b, b_port)] = name.ends;
    let text = |address| std::net::Ipv6Addr::from(octets(address)).to_string();
    let parameters = [
        ("exporter", sources.exporter.clone()),
        ("protocol", name.protocol.to_string()),
        ("hours", HOURS.to_string()),
        ("a", text(a)),
        ("b", text(b)),
        ("a_port", a_port.to_string()),
        ("b_port", b_port.to_string()),
        ("most", (Level::MOST + 1).to_string()),
    ];
    let target = sources.store.choose(Instant::now());
    let rows = target.client.rows("flows", sql, &parameters).await;
    sources.store.report(&target, rows.as_ref().map(|_| ()), Instant::now());
    rows
}
