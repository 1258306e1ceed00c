//! The questions of the reports: a window and a limit enter, SQL and a sentence that says how
//! it is computed leave.
//!
//! What must hold: raw rows are read for handshakes only, which no rollup has.

use super::Window;
use super::window::HOUR;

/// Ports and hosts without an answer that make a scanner.
const SCANNED: u32 = 100;
/// Days in which a service that is new was not seen.
const KNOWN_DAYS: u32 = 7;
/// How many times as much, or as little, is an outlier.
const FACTOR: u32 = 3;
/// Less than this is no outlier, bits a second.
const LEAST_BITS: u32 = 1_000_000;

/// A question.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Short, for programs.
    pub name: &'static str,
    /// For people.
    pub how: String,
    /// In SQL.
    pub sql: String,
}

/// All of them, about one window.
#[derive(Clone, Debug)]
pub struct Questions {
    database: String,
    window: Window,
    limit: u32,
}

impl Questions {
    /// Asked of this database.
    pub fn new(database: &str, window: Window, limit: u32) -> Self {
        Self { database: format!("`{}`", database.replace('`', "")), window, limit }
    }

    /// The rollup that suits, the window that it can tell, and a word about it.
    fn rollup(&self) -> (&'static str, Window, String) {
        if self.window.is_by_hours() {
            let hours = self.window.hours();
            let wider = if hours == self.window {
                String::new()
            } else {
                format!(" Counted by whole hours: {hours}.")
            };
            ("flows_1h", hours, wider)
        } else {
            ("flows_1m", self.window, String::new())
        }
    }

    /// As the view `conversations`, from the rollup that suits.
    fn talks(&self) -> (String, String) {
        let (table, window, note) = self.rollup();
        let (from, to) = window.bounds();
        let database = &self.database;
        let keys = "src_ip, dst_ip, protocol, service_port";
        let names = ["packets", "bytes", "reverse_packets", "reverse_bytes"];
        let sums = names.map(|name| format!("sum(r.{name} * r.sampling) AS {name}")).join(", ");
        let most = [&names[..], &["flows", "unanswered"]].concat();
        let most: Vec<_> = most.iter().map(|name| format!("max(point.{name}) AS {name}")).collect();
        let sql = format!(
            "(SELECT {keys}, {} FROM (SELECT {keys}, {sums}, sum(r.flows) AS flows, \
             sum(r.unanswered) AS unanswered FROM {database}.{table} AS r \
             WHERE r.bucket >= toDateTime({from}, 'UTC') AND r.bucket < toDateTime({to}, 'UTC') \
             GROUP BY {keys}, exporter, interface, direction) AS point GROUP BY {keys})",
            most.join(", ")
        );
        let how = format!(
            "Sums by the end of the flows; what several interfaces or hosts saw is counted \
             once.{note}"
        );
        (sql, how)
    }

    /// Addresses.
    pub fn top_talkers(&self) -> Asked {
        let (talks, how) = self.talks();
        let limit = self.limit;
        Asked {
            name: "top_talkers",
            how,
            sql: format!(
                "SELECT end.1 AS address, sum(end.2) AS bytes_sent, sum(end.3) AS bytes_received, \
                 sum(c.flows) AS flows, uniqExact(end.4) AS peers FROM {talks} AS c \
                 ARRAY JOIN [(src_ip, bytes, reverse_bytes, dst_ip), \
                 (dst_ip, reverse_bytes, bytes, src_ip)] AS end GROUP BY address \
                 ORDER BY bytes_sent + bytes_received DESC, address LIMIT {limit}"
            ),
        }
    }

    /// Pairs of addresses.
    pub fn conversations(&self) -> Asked {
        let (talks, how) = self.talks();
        let limit = self.limit;
        Asked {
            name: "conversations",
            how,
            sql: format!(
                "SELECT src_ip, dst_ip, protocol, service_port, c.packets AS packets, \
                 c.bytes AS bytes, c.reverse_packets AS reverse_packets, \
                 c.reverse_bytes AS reverse_bytes, c.flows AS flows FROM {talks} AS c \
                 ORDER BY c.bytes + c.reverse_bytes DESC, src_ip, dst_ip, protocol, service_port \
                 LIMIT {limit}"
            ),
        }
    }

    /// Services that answered.
    pub fn services(&self) -> Asked {
        let (talks, how) = self.talks();
        let limit = self.limit;
        Asked {
            name: "services",
            how: format!("Protocols and ports that answered. {how}"),
            sql: format!(
                "SELECT protocol, service_port, uniqExact(c.dst_ip) AS servers, \
                 uniqExact(c.src_ip) AS clients, sum(c.flows) AS flows, \
                 sum(c.unanswered) AS unanswered, sum(c.bytes) AS bytes, \
                 sum(c.reverse_bytes) AS reverse_bytes FROM {talks} AS c \
                 WHERE c.reverse_packets > 0 GROUP BY protocol, service_port \
                 ORDER BY sum(c.bytes) + sum(c.reverse_bytes) DESC, protocol, service_port \
                 LIMIT {limit}"
            ),
        }
    }

    fn minutes(&self) -> String {
        let (from, to) = self.window.bounds();
        let time = |second| format!("toDateTime({second}, 'UTC')");
        format!("{}.bandwidth(from = {}, to = {})", self.database, time(from), time(to))
    }

    /// Interfaces.
    pub fn bandwidth(&self) -> Asked {
        let (minutes, seconds, limit) = (self.minutes(), self.window.seconds(), self.limit);
        Asked {
            name: "bandwidth",
            how: "IP octets by the minute in which flows ended, in bits a second: means over the \
                  whole time and the busiest minute. An interface that does not tell directions \
                  has neither received nor sent."
                .into(),
            sql: format!(
                "SELECT exporter, interface, \
                 sum(m.received_bits_per_second) * 60 / {seconds} AS received_bits_per_second, \
                 sum(m.sent_bits_per_second) * 60 / {seconds} AS sent_bits_per_second, \
                 sum(m.bits_per_second) * 60 / {seconds} AS bits_per_second, \
                 max(m.bits_per_second) AS peak_bits_per_second, \
                 argMax(m.minute, m.bits_per_second) AS peak_minute FROM {minutes} AS m \
                 GROUP BY exporter, interface \
                 ORDER BY sum(m.bits_per_second) DESC, exporter, interface LIMIT {limit}"
            ),
        }
    }

    /// The same over the time, in steps of [`Window::step`]; for the same interfaces.
    pub fn points(&self) -> Asked {
        let (minutes, limit, step) = (self.minutes(), self.limit, self.window.step());
        let (from, _) = self.window.bounds();
        Asked {
            name: "points",
            how: String::new(),
            sql: format!(
                "SELECT exporter, interface, \
                 intDiv(toUnixTimestamp(m.minute) - {from}, {step}) AS point, \
                 sum(m.bits_per_second) * 60 / {step} AS mean FROM {minutes} AS m \
                 WHERE (exporter, interface) GLOBAL IN (SELECT exporter, interface \
                 FROM {minutes} AS t GROUP BY exporter, interface \
                 ORDER BY sum(t.bits_per_second) DESC, exporter, interface LIMIT {limit}) \
                 GROUP BY exporter, interface, point"
            ),
        }
    }

    /// Everything that looks unusual, the worst first.
    pub fn anomalies(&self) -> Vec<Asked> {
        let (database, limit) = (&self.database, self.limit);
        let (talks, note) = self.talks();
        let bounds = |window: Window| {
            let (from, to) = window.bounds();
            format!("from = toDateTime({from}, 'UTC'), to = toDateTime({to}, 'UTC')")
        };
        let (exact, hours) = (bounds(self.window), bounds(self.window.hours()));
        let events = Asked {
            name: "events",
            how: "What the analytics of the agents noticed in this time, above info.".into(),
            sql: format!(
                "SELECT ts, exporter, severity, kind, src, dst, message \
                 FROM {database}.anomalies({exact}) \
                 ORDER BY severity = 'critical' DESC, ts DESC LIMIT {limit}"
            ),
        };
        let scanners = Asked {
            name: "scanners",
            how: format!(
                "Addresses that asked at least {SCANNED} services (host, protocol, port) without \
                 an answer to some flow. {note}"
            ),
            sql: format!(
                "SELECT src_ip AS address, uniqExact(c.dst_ip) AS hosts, \
                 uniqExact(c.dst_ip, c.protocol, c.service_port) AS services, \
                 sum(c.flows) AS flows, sum(c.unanswered) AS unanswered FROM {talks} AS c \
                 WHERE c.unanswered > 0 GROUP BY address HAVING services >= {SCANNED} \
                 ORDER BY services DESC, address LIMIT {limit}"
            ),
        };
        let new_services = Asked {
            name: "new_services",
            how: format!(
                "Address, protocol and port that answered in {} and not in the {KNOWN_DAYS} days \
                 before; everything is new to a store that is younger.",
                self.window.hours()
            ),
            sql: format!(
                "SELECT address, protocol, service_port, first_seen, clients, flows \
                 FROM {database}.new_services({hours}, known_days = {KNOWN_DAYS}) \
                 ORDER BY flows DESC, address, protocol, service_port LIMIT {limit}"
            ),
        };
        let gaps = Asked {
            name: "ledger_gaps",
            how: "Interfaces of whose packets some were lost, not explained or not delivered; \
                  those on their way are usual while an agent runs."
                .into(),
            sql: format!(
                "SELECT exporter, interface, packets_lost, packets_unaccounted, \
                 packets_undelivered, packets_on_their_way, last_counted \
                 FROM {database}.ledger_gaps({exact}) WHERE packets_lost != 0 \
                 OR packets_unaccounted != 0 OR packets_undelivered != 0 \
                 ORDER BY packets_lost + abs(packets_unaccounted) + abs(packets_undelivered) DESC, \
                 exporter, interface LIMIT {limit}"
            ),
        };
        vec![events, scanners, new_services, gaps, self.outliers()]
    }

    fn outliers(&self) -> Asked {
        let (database, limit, before) = (&self.database, self.limit, self.window.before());
        let ((_, to), (from, middle)) = (self.window.bounds(), before.bounds());
        let seconds = self.window.seconds();
        let (table, by) = if seconds % HOUR == 0 && middle % HOUR == 0 {
            ("flows_1h", "hour")
        } else {
            ("flows_1m", "minute")
        };
        let sum = |condition: String| {
            format!("sumIf((r.bytes + r.reverse_bytes) * r.sampling, {condition}) * 8 / {seconds}")
        };
        let now = sum(format!("r.bucket >= toDateTime({middle}, 'UTC')"));
        let then = sum(format!("r.bucket < toDateTime({middle}, 'UTC')"));
        Asked {
            name: "bandwidth_outliers",
            how: format!(
                "Interfaces whose mean of the time is at least {FACTOR} times, or at most one \
                 {FACTOR}rd of, that of the time just before, as long ({before}), where the larger \
                 is at least {} Mbit/s; by the {by} in which flows ended. An agent that was not \
                 there before counts as 0.",
                LEAST_BITS / 1_000_000
            ),
            sql: format!(
                "SELECT exporter, interface, {now} AS bits_per_second, \
                 {then} AS bits_per_second_before FROM {database}.{table} AS r \
                 WHERE r.bucket >= toDateTime({from}, 'UTC') AND r.bucket < toDateTime({to}, 'UTC') \
                 GROUP BY exporter, interface \
                 HAVING greatest(bits_per_second, bits_per_second_before) >= {LEAST_BITS} \
                 AND (bits_per_second >= {FACTOR} * bits_per_second_before \
                 OR bits_per_second_before >= {FACTOR} * bits_per_second) \
                 ORDER BY abs(bits_per_second - bits_per_second_before) DESC, exporter, interface \
                 LIMIT {limit}"
            ),
        }
    }

    /// Stages of the agents.
    pub fn stages(&self) -> Asked {
        let (from, to) = self.window.bounds();
        let database = &self.database;
        let quantile = |position: u32, name: &str| {
            format!("p50_p90_p99_p999_ns[{position}] / 1e6 AS {name}_ms")
        };
        Asked {
            name: "stages",
            how: "What the agents of all hosts measured of themselves, in ms, within 1 %; \
                  packet_to_acknowledged contains the timeout of the flow."
                .into(),
            sql: format!(
                "SELECT stage, measured, {}, {}, {}, {} FROM {database}.latency_quantiles( \
                 from = toDateTime({from}, 'UTC'), to = toDateTime({to}, 'UTC')) ORDER BY stage",
                quantile(1, "p50"),
                quantile(2, "p90"),
                quantile(3, "p99"),
                quantile(4, "p999"),
            ),
        }
    }

    /// Handshakes of TCP.
    pub fn handshakes(&self) -> Asked {
        let (from, to) = self.window.bounds();
        let (database, limit) = (&self.database, self.limit);
        let quantile =
            |share: &str, name| format!("quantile({share})(f.handshake_rtt_ns) / 1e6 AS {name}_ms");
        Asked {
            name: "handshakes",
            how: "Round trips of TCP handshakes by service, in ms, slowest first: estimates from \
                  raw rows by the time of their export."
                .into(),
            sql: format!(
                "SELECT protocol, dst_port AS service_port, count() AS connections, {}, {}, {} \
                 FROM {database}.flows AS f WHERE f.exported_at >= toDateTime({from}, 'UTC') \
                 AND f.exported_at < toDateTime({to}, 'UTC') AND f.handshake_rtt_ns > 0 \
                 GROUP BY protocol, service_port ORDER BY p99_ms DESC, service_port LIMIT {limit}",
                quantile("0.5", "p50"),
                quantile("0.9", "p90"),
                quantile("0.99", "p99"),
            ),
        }
    }
}
