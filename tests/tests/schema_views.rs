//! The views for analysts on the real engine, against computations that know nothing of rollups,
//! markers and observation points: the rows are made here and counted here.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use flow_tests::store::Store;

/// 2026-11-20 12:00:00 UTC
const NOON: u64 = 1_795_176_000;
const HOUR: &str = "from = '2026-11-20 12:00:00', to = '2026-11-20 13:00:00'";

/// What one host saw of one conversation.
struct Row {
    exporter: &'static str,
    interface: &'static str,
    direction: &'static str,
    src: u64,
    dst: u64,
    port: u64,
    packets: u64,
    reverse_packets: u64,
    /// Seconds after noon.
    end: u64,
}

impl Row {
    fn values(&self, batch: usize) -> String {
        let Self { exporter, interface, direction, src, dst, port, .. } = self;
        let (packets, reverse, end) = (self.packets, self.reverse_packets, NOON + self.end);
        format!(
            "(toDateTime64({end} - 1, 9), toDateTime64({end}, 9), {}, '{exporter}', '{interface}', '{direction}', '::{src}', \
             '::{dst}', 1234, {port}, 6, {packets}, {}, {reverse}, {}, \
             '01a1f927-bfa7-7d49-8437-{batch:012}')",
            NOON + 3600,
            packets * 100,
            reverse * 1000,
        )
    }
}

/// Hosts 1 to 9 talk to 11 to 13; what 1 and 11 exchange is seen at both ends, and at two
/// interfaces of a router. Host 5 knocks at many ports and gets no answer.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for n in 0..600_u64 {
        let (src, dst) = (1 + n * 7 % 9, 11 + n % 3);
        let port = [80, 443, 5432][(n % 3) as usize];
        let row = |exporter, interface, direction| Row {
            exporter,
            interface,
            direction,
            src,
            dst,
            port,
            packets: 1 + n % 5,
            reverse_packets: 2 + n % 3,
            end: n * 11 % 7000,
        };
        rows.push(row("client", "eth0", "egress"));
        if dst == 11 {
            rows.push(row("server", "eth0", "ingress"));
            rows.push(row("router", "lan", "ingress"));
            rows.push(row("router", "wan", "egress"));
        }
    }
    for port in 1..=40 {
        let row = |port, end| Row {
            exporter: "client",
            interface: "eth0",
            direction: "ingress",
            src: 5,
            dst: 12,
            port,
            packets: 1,
            reverse_packets: 0,
            end,
        };
        rows.push(row(1000 + port, 100));
    }
    rows
}

fn filled() -> (Store, Vec<Row>) {
    let store = Store::with_tables();
    let rows = rows();
    for (batch, exporter) in ["client", "server", "router"].into_iter().enumerate() {
        let rows: Vec<_> = rows.iter().filter(|row| row.exporter == exporter).collect();
        insert(&store, batch + 1, &rows);
    }
    (store, rows)
}

fn insert(store: &Store, batch: usize, rows: &[&Row]) {
    let values: Vec<_> = rows.iter().map(|row| row.values(batch)).collect();
    store.sql(&format!(
        "INSERT INTO flow.flows (flow_start, flow_end, exported_at, exporter, interface, \
         direction, src_ip, dst_ip, src_port, dst_port, protocol, packets, bytes, \
         reverse_packets, reverse_bytes, batch_id) VALUES {}",
        values.join(", ")
    ));
}

/// What really went over the wires in the hour: the client's rows, each packet once.
fn wire(rows: &[Row]) -> impl Iterator<Item = &Row> {
    rows.iter().filter(|row| row.exporter == "client" && row.end < 3600)
}

#[test]
fn summing_views_count_a_packet_once_however_many_points_saw_it() {
    let (store, rows) = filled();
    let mut expected: BTreeMap<(u64, u64, u64), [u64; 4]> = BTreeMap::new();
    for row in wire(&rows) {
        let sums = expected.entry((row.src, row.dst, row.port)).or_default();
        for (sum, n) in sums.iter_mut().zip([
            row.packets,
            row.packets * 100,
            row.reverse_packets,
            row.reverse_packets * 1000,
        ]) {
            *sum += n;
        }
    }
    let expected: Vec<_> = expected
        .iter()
        .map(|((src, dst, port), [p, b, rp, rb])| {
            format!("::{src}\t::{dst}\t{port}\t{p}\t{b}\t{rp}\t{rb}")
        })
        .collect();
    let found = store.sql(&format!(
        "SELECT src_ip, dst_ip, service_port, packets, bytes, reverse_packets, reverse_bytes \
         FROM flow.conversations({HOUR}) ORDER BY src_ip, dst_ip, service_port"
    ));
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);

    let mut talkers: BTreeMap<u64, u64> = BTreeMap::new();
    for row in wire(&rows) {
        let bytes = row.packets * 100 + row.reverse_packets * 1000;
        *talkers.entry(row.src).or_default() += bytes;
        *talkers.entry(row.dst).or_default() += bytes;
    }
    let mut talkers: Vec<_> = talkers.into_iter().map(|(host, bytes)| (bytes, host)).collect();
    talkers.sort_unstable_by(|a, b| b.cmp(a));
    let found = store.sql(&format!(
        "SELECT bytes_sent + bytes_received FROM flow.top_talkers({HOUR}, limit = 4)"
    ));
    let expected: Vec<_> = talkers.iter().take(4).map(|(bytes, _)| bytes.to_string()).collect();
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn services_scanners_and_connections_are_as_the_rows_say() {
    let (store, rows) = filled();
    let mut services: BTreeMap<u64, (BTreeSet<u64>, u64)> = BTreeMap::new();
    for row in wire(&rows).filter(|row| row.reverse_packets > 0) {
        let (clients, flows) = services.entry(row.port).or_default();
        clients.insert(row.src);
        *flows += 1;
    }
    let expected: Vec<_> = services
        .iter()
        .map(|(port, (clients, flows))| format!("{port}\t{}\t{flows}", clients.len()))
        .collect();
    let found = store.sql(&format!(
        "SELECT service_port, clients, flows FROM flow.services({HOUR}) ORDER BY service_port"
    ));
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);

    let scanners =
        format!("SELECT address, services, unanswered FROM flow.scanners({HOUR}, services = 30)");
    assert_eq!(store.sql(&scanners), "::5\t40\t40");
    let more = format!("SELECT count() FROM flow.scanners({HOUR}, services = 41)");
    assert_eq!(store.sql(&more), "0");

    // Port 80 of 12 was asked in the first hour only by rows of the first hour.
    let fresh = "SELECT count() FROM flow.new_services(from = '2026-11-20 13:00:00', \
                 to = '2026-11-20 14:00:00', known_days = 1)";
    let known: BTreeSet<_> =
        wire(&rows).filter(|row| row.reverse_packets > 0).map(|row| (row.dst, row.port)).collect();
    let later: BTreeSet<_> =
        rows.iter().filter(|row| row.end >= 3600).map(|row| (row.dst, row.port)).collect();
    assert_eq!(store.sql(fresh), later.difference(&known).count().to_string());

    let seen = "from = '2026-11-20 13:00:00', to = '2026-11-20 13:00:01'";
    let (sent, answered) = rows
        .iter()
        .filter(|row| row.exporter == "client" && row.dst == 11)
        .fold((0, 0), |(sent, answered), row| (sent + row.packets, answered + row.reverse_packets));
    let both = store.sql(&format!(
        "SELECT sum(packets_sent), sum(packets_arrived), sum(reverse_packets_sent), \
         sum(reverse_packets_arrived) FROM flow.connections({seen})"
    ));
    assert_eq!(both, format!("{sent}\t{sent}\t{answered}\t{answered}"));
    // The end of the wire that has no agent is in no pair.
    let alone = format!("SELECT count() FROM flow.connections({seen}) WHERE dst_ip != '::11'");
    assert_eq!(store.sql(&alone), "0");
}

#[test]
fn bandwidth_latency_and_ledger_are_as_the_rows_say() -> Result<()> {
    let (store, rows) = filled();
    let mut minutes: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for row in wire(&rows) {
        let (received, sent) = minutes.entry(row.end / 60).or_default();
        let (mut to, mut from) = (row.reverse_packets * 1000, row.packets * 100);
        if row.direction == "ingress" {
            std::mem::swap(&mut to, &mut from);
        }
        *received += to;
        *sent += from;
    }
    let expected: Vec<_> = minutes
        .iter()
        .map(|(minute, (received, sent))| format!("{}\t{received}\t{sent}", NOON + minute * 60))
        .collect();
    let found = store.sql(&format!(
        "SELECT toUnixTimestamp(minute), toUInt64(round(received_bits_per_second * 7.5)), \
         toUInt64(round(sent_bits_per_second * 7.5)) FROM flow.bandwidth({HOUR}) \
         WHERE exporter = 'client'"
    ));
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);

    // What has no direction is that of `lo`: everything is received.
    let (exporter, interface, direction) = ("alone", "lo", "unknown");
    let (packets, reverse_packets) = (3, 4);
    let of_lo = Row { exporter, interface, direction, packets, reverse_packets, ..rows[0] };
    insert(&store, 4, &[&of_lo]);
    let found = store.sql(&format!(
        "SELECT received_bits_per_second * 7.5, sent_bits_per_second, bits_per_second * 7.5 \
         FROM flow.bandwidth({HOUR}) WHERE interface = 'lo'"
    ));
    assert_eq!(found, "4300\t0\t4300");

    // Two hosts' histograms are one.
    store.sql(&format!(
        "INSERT INTO flow.latency (ts, exporter, stage, bucket_ns, count) SELECT {NOON}, \
         if(number % 2 = 0, 'a', 'b'), 'insert', number + 1, 1 FROM numbers(1000)"
    ));
    let found = store.sql(&format!(
        "SELECT stage, measured, p50_p90_p99_p999_ns FROM flow.latency_quantiles({HOUR})"
    ));
    let numbers: Vec<u64> =
        found.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    ensure!(found.starts_with("insert\t1000\t"), "{found}");
    for (found, exact) in numbers[1..].iter().zip([500_u64, 900, 990, 999]) {
        ensure!(found.abs_diff(exact) <= 1, "{numbers:?}");
    }

    store.sql(&format!(
        "INSERT INTO flow.ledger (ts, exporter, interface, stage, reason, packets) VALUES \
         ({NOON}, 'a', 'eth0', 'seen', '', 10), ({NOON}, 'a', 'eth0', 'metered', '', 10), \
         ({NOON}, 'a', 'eth0', 'drained', '', 10), ({NOON}, 'a', 'eth0', 'acknowledged', '', 10), \
         ({NOON}, 'b', 'eth0', 'seen', '', 10), ({NOON}, 'b', 'eth0', 'metered', '', 7), \
         ({NOON}, 'b', 'eth0', 'lost', 'ring_full', 2), ({NOON}, 'b', 'eth0', 'drained', '', 7), \
         ({NOON}, 'b', 'eth0', 'acknowledged', '', 3)"
    ));
    let found = store.sql(&format!("SELECT * EXCEPT last_counted FROM flow.ledger_gaps({HOUR})"));
    assert_eq!(found, "b\teth0\t1\t2\t4\t0");
    Ok(())
}

#[test]
fn anomalies_are_events_as_they_are_now_beyond_mere_notices() {
    let (store, _) = filled();
    let id = |n: u32| format!("01a1f927-bfa7-7d49-8437-{n:012}");
    let event = |n: u32, revision: u32, at: u64, severity: &str, value: u32| {
        format!(
            "(toDateTime64({at}, 3), '{}', {revision}, 'client', 'port_scan', '{severity}', {value})",
            id(n)
        )
    };
    // The first has grown since it was found; the others are a notice, one of before, one of after.
    store.sql(&format!(
        "INSERT INTO flow.events (ts, id, revision, exporter, kind, severity, value) VALUES {}",
        [
            event(1, 1, NOON + 1, "warning", 10),
            event(1, 2, NOON + 1, "critical", 30),
            event(2, 1, NOON + 2, "info", 40),
            event(3, 1, NOON - 1, "warning", 50),
            event(4, 1, NOON + 3600, "warning", 60),
            event(5, 1, NOON + 3, "warning", 20),
        ]
        .join(", ")
    ));
    let found = store.sql(&format!(
        "SELECT toUnixTimestamp(ts), exporter, kind, severity, value FROM flow.anomalies({HOUR})"
    ));
    let expected = format!(
        "{}\tclient\tport_scan\twarning\t20\n{}\tclient\tport_scan\tcritical\t30",
        NOON + 3,
        NOON + 1
    );
    assert_eq!(found, expected);
}
