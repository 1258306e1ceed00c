//! A store with made rows, and what is known of them.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::store::Store;
use serde_json::Value;

use super::HOUR;

/// What one point saw of one conversation; `end` is seconds since the base.
#[derive(Clone)]
pub struct Row {
    pub exporter: &'static str,
    pub interface: &'static str,
    pub direction: &'static str,
    pub src: u64,
    pub dst: u64,
    pub port: u64,
    pub packets: u64,
    pub reverse: u64,
    pub rtt_ms: u64,
    pub end: u64,
}

impl Row {
    /// Octets that went forward.
    pub fn bytes(&self) -> u64 {
        self.packets * 100
    }

    /// Octets that came back.
    pub fn back(&self) -> u64 {
        self.reverse * 1000
    }
}

/// Three hours. Hosts 1 to 9 ask 11 to 13 in the first two; what 1 and 11 exchange is seen
/// twice. Host 5 tries 120 ports of 12 in vain in the second. In the third hour, a gigabyte.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for n in 0..600_u64 {
        let row = Row {
            exporter: "client",
            interface: "eth0",
            direction: "egress",
            src: 1 + n * 7 % 9,
            dst: 11 + n % 3,
            port: [80, 443, 5432][(n % 3) as usize],
            packets: 1 + n % 5,
            reverse: 2 + n % 3,
            rtt_ms: 1 + n % 3,
            end: n * 11 % (2 * HOUR),
        };
        if row.dst == 11 {
            rows.push(Row { exporter: "server", direction: "ingress", ..row.clone() });
        }
        rows.push(row);
    }
    let scan = |port| Row {
        exporter: "client",
        interface: "eth0",
        direction: "ingress",
        src: 5,
        dst: 12,
        port,
        packets: 1,
        reverse: 0,
        rtt_ms: 0,
        end: HOUR + 100,
    };
    rows.extend((1..=120).map(|port| scan(1000 + port)));
    rows.push(Row { dst: 13, packets: 10_000_000, reverse: 1, end: 2 * HOUR + 60, ..scan(443) });
    rows
}

/// The store, with a ledger and latencies, too.
pub struct Filled {
    pub store: Store,
    pub rows: Vec<Row>,
    /// Unix seconds of a whole hour.
    base: u64,
}

impl Filled {
    pub fn new() -> Self {
        let store = Store::with_tables();
        // Rows of another year would be past their time.
        let now = flow_agent::clock::wall_clock() / 1_000_000_000;
        let base = now / HOUR * HOUR - 6 * HOUR;
        let rows = rows();
        for (batch, exporter) in ["client", "server"].into_iter().enumerate() {
            let mine = rows.iter().filter(|row| row.exporter == exporter);
            let values: Vec<_> = mine
                .map(|row| {
                    let Row { interface, direction, src, dst, port, packets, reverse, .. } = row;
                    let (end, bytes, back) = (base + row.end, row.bytes(), row.back());
                    let rtt = row.rtt_ms * 1_000_000;
                    format!(
                        "(toDateTime64({end} - 1, 9), toDateTime64({end}, 9), {end}, '{exporter}', \
                         '{interface}', '{direction}', '::ffff:10.0.0.{src}', '::ffff:10.0.0.{dst}', \
                         1234, {port}, 6, {packets}, {bytes}, {reverse}, {back}, {rtt}, \
                         '01a1f927-bfa7-7d49-8437-{batch:012}')"
                    )
                })
                .collect();
            store.sql(&format!(
                "INSERT INTO flow.flows (flow_start, flow_end, exported_at, exporter, interface, \
                 direction, src_ip, dst_ip, src_port, dst_port, protocol, packets, bytes, \
                 reverse_packets, reverse_bytes, handshake_rtt_ns, batch_id) VALUES {}",
                values.join(", ")
            ));
        }
        // Lost are 3 of 10 packets of one interface; the other's are all there.
        for (interface, lost) in [("bad0", 3), ("good0", 0)] {
            store.sql(&format!(
                "INSERT INTO flow.ledger (ts, exporter, interface, stage, reason, packets, octets, \
                 batch_id) VALUES ({base}, 'client', '{interface}', 'seen', '', 10, 0, generateUUIDv4()), \
                 ({base}, 'client', '{interface}', 'metered', '', {}, 0, generateUUIDv4()), \
                 ({base}, 'client', '{interface}', 'lost', 'ring_full', {lost}, 0, generateUUIDv4())",
                10 - lost
            ));
        }
        for bucket in [1_000_000, 3_000_000] {
            store.sql(&format!(
                "INSERT INTO flow.latency (ts, exporter, stage, bucket_ns, count, batch_id) \
                 VALUES ({base}, 'client', 'insert', {bucket}, 100, generateUUIDv4())"
            ));
        }
        Self { store, rows, base }
    }

    /// The command, asked of this store.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let store = ["report", "--store", self.store.url()];
        Ok(Command::new(flow_agent()).args(store).args(arguments).output()?)
    }

    /// What it prints.
    pub fn text(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The ends of a window (seconds since the base), as the command takes them.
    pub fn times(&self, window: (u64, u64)) -> [String; 2] {
        let time = |second: u64| {
            self.store.sql(&format!(
                "SELECT formatDateTime(toDateTime({}, 'UTC'), '%Y-%m-%dT%H:%i:%SZ', 'UTC')",
                self.base + second
            ))
        };
        [time(window.0), time(window.1)]
    }

    /// A report of a window as JSON, section by section.
    pub fn json(&self, kind: &str, window: (u64, u64)) -> Result<BTreeMap<String, Vec<Value>>> {
        let [from, to] = self.times(window);
        let text = self.text(&[kind, "--format", "json", "--from", &from, "--to", &to])?;
        let page: Value = serde_json::from_str(&text)?;
        ensure!(page["report"] == kind && page["from"] == from && page["to"] == to, "{page}");
        let sections = page["sections"].as_array().context("sections")?.iter();
        let rows = |section: &Value| section["rows"].as_array().cloned().unwrap_or_default();
        sections
            .map(|section| {
                let how = section["how"].as_str().unwrap_or_default();
                ensure!(how.len() > 40, "it says how it is computed: {section}");
                Ok((section["section"].as_str().context("a name")?.to_owned(), rows(section)))
            })
            .collect()
    }

    /// What went over the wires in a window, each packet once.
    pub fn wire(&self, (from, to): (u64, u64)) -> Vec<&Row> {
        let rows = self.rows.iter().filter(|row| row.exporter == "client");
        rows.filter(|row| (from..to).contains(&row.end)).collect()
    }
}
