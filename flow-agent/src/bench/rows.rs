//! Flow records as a web server has them, with what is known of them: one generator for the
//! benches and `bench insert`. The same seed gives the same records.
//!
//! Requests of some thousand clients all over the world (one in eight by IPv6), questions to a handful of
//! internal services and to DNS, requests to the world, pings, and scanners who get no answer.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use flow_common::Direction;
use flow_common::key::protocol;
use flow_common::random::SplitMix64;

use crate::enrich::{BatchLabels, Country, Labels, Place};
use crate::names::Names;
use crate::record::{FlowEndReason, FlowRecord, InitiatorBy};

/// How far apart flows end, ns.
const PACE_NS: u64 = 10_000;
/// The kernel's clock of ordinary packets.
const TICK_NS: u64 = 4_000_000;
const CLIENTS: f64 = 4e3;
const SITES: f64 = 1e3;
const INTERNAL: f64 = 100.0;
const SCANNERS: f64 = 2e4;
/// How often the tables are drained.
const DRAIN_NS: u64 = 1_000_000_000;
const OWN: u32 = 0x0a00_0101;

/// What a flow is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Served,
    Asked,
    Dns,
    Outbound,
    Ping,
    Scan,
}

struct Traffic(SplitMix64);

impl Traffic {
    /// Uniform in [0, 1).
    fn uniform(&mut self) -> f64 {
        (self.0.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Below `most`, small ones often (Zipf with exponent 1).
    fn rank(&mut self, most: f64) -> u32 {
        most.powf(self.uniform()) as u32
    }

    /// Around 1, with a long tail.
    fn spread(&mut self) -> f64 {
        let sum: f64 = (0..6).map(|_| self.uniform() - 0.5).sum();
        (2.2 * sum).exp()
    }

    fn record(&mut self, end_ns: u64) -> FlowRecord {
        let kind = match self.uniform() {
            share if share < 0.40 => Kind::Served,
            share if share < 0.70 => Kind::Asked,
            share if share < 0.83 => Kind::Dns,
            share if share < 0.95 => Kind::Outbound,
            share if share < 0.97 => Kind::Ping,
            _ => Kind::Scan,
        };
        let own = private(OWN);
        let (src, dst, dst_port) = match kind {
            Kind::Served => (public(self.rank(CLIENTS), 1), own, 443),
            Kind::Scan => (public(self.rank(SCANNERS), 2), own, self.rank(49_152.0) as u16),
            Kind::Asked => {
                let peer = self.rank(INTERNAL);
                let port = [5432, 6379, 9092, 8080, 3306, 9200, 443, 2379][peer as usize % 8];
                (own, private(0x0a00_1000 + peer), port)
            }
            Kind::Dns => (own, private(0x0a00_0035), 53),
            Kind::Outbound => (own, public(self.rank(SITES), 3), 443),
            Kind::Ping => (own, private(0x0a00_1000 + self.rank(INTERNAL)), 0),
        };
        let udp = kind == Kind::Dns || kind == Kind::Outbound && self.uniform() < 0.25;
        let tcp = !udp && kind != Kind::Ping;
        let talks = tcp && kind != Kind::Scan;
        let (sent, received) = match kind {
            Kind::Scan => (1, u64::from(self.uniform() < 0.3)),
            Kind::Dns | Kind::Ping => (1, 1),
            _ => {
                let sent = 5.0 + 7.0 * self.spread();
                (sent as u64, (4.0 + sent * (0.5 + 0.8 * self.uniform())) as u64)
            }
        };
        let lasts = match kind {
            Kind::Scan => 0,
            Kind::Dns | Kind::Ping => (1e6 + 3e7 * self.uniform()) as u64,
            _ => (2e8 * self.spread()).min(59.9e9) as u64,
        };
        // The offset between tick and clock is another at each drain.
        let offset = |ns: u64| SplitMix64::new(ns / DRAIN_NS).next() % TICK_NS;
        let tick = |ns: u64| ns - ns % TICK_NS + offset(ns);
        let start_ns = end_ns - lasts;
        let whole = |ns: u64| ns - ns % 1_000_000;
        let incoming = matches!(kind, Kind::Served | Kind::Scan);
        let closed = talks && self.uniform() < 0.93;
        let flags = |answer: bool| match (tcp, talks, closed) {
            (false, ..) => 0,
            (_, false, _) if answer => 0x14 * u8::from(received > 0),
            (_, false, _) => 2,
            (.., true) => 0x1b,
            (.., false) => 0x1a,
        };
        FlowRecord {
            start_ns: whole(start_ns),
            end_ns: whole(tick(end_ns).max(start_ns)),
            interface: if matches!(kind, Kind::Asked | Kind::Dns | Kind::Ping) { 2 } else { 1 },
            direction: if incoming { Direction::Ingress } else { Direction::Egress },
            src,
            dst,
            src_port: if kind == Kind::Ping { 0 } else { 32_768 + self.0.next() as u16 % 28_232 },
            dst_port,
            protocol: match kind {
                Kind::Ping => protocol::ICMP,
                _ if udp => protocol::UDP,
                _ => protocol::TCP,
            },
            icmp_type: if kind == Kind::Ping { 8 } else { 0 },
            icmp_code: 0,
            vlan_id: 0,
            inner_vlan_id: 0,
            packets: sent,
            octets: (sent as f64 * (52.0 + 200.0 * self.uniform())) as u64,
            reverse_packets: received,
            reverse_octets: (received as f64 * (52.0 + 1300.0 * self.uniform())) as u64,
            tcp_flags: flags(false),
            reverse_tcp_flags: flags(true),
            dscp: if self.uniform() < 0.05 { 8 } else { 0 },
            min_ttl: if incoming { 64 - src[15] % 24 } else { 64 },
            max_ttl: if incoming { 64 - src[15] % 24 } else { 64 },
            tunnel: None,
            handshake_rtt_ns: if talks { (1e3 * self.spread()) as u64 * 1_000 } else { 0 },
            retransmits: u32::from(talks && self.uniform() < 0.03),
            end_reason: match closed {
                true => FlowEndReason::EndOfFlow,
                false if lasts > 30_000_000_000 => FlowEndReason::ActiveTimeout,
                false => FlowEndReason::IdleTimeout,
            },
            initiator_by: match kind {
                Kind::Ping => InitiatorBy::Icmp,
                _ if tcp => InitiatorBy::Syn,
                _ => InitiatorBy::ServicePort,
            },
            sampling: 1,
        }
    }
}

fn private(address: u32) -> [u8; 16] {
    Ipv4Addr::from_bits(address).to_ipv6_mapped().octets()
}

/// The address behind a rank: somewhere in the public space.
fn public(rank: u32, salt: u64) -> [u8; 16] {
    let number = SplitMix64::new(salt << 32 | u64::from(rank)).next();
    if number.is_multiple_of(8) {
        let prefix = 0x2001_0db8_u128 << 96 | u128::from(number as u32) << 64;
        return Ipv6Addr::from_bits(prefix | u128::from(rank)).octets();
    }
    private(0x0100_0000 + number as u32 % 3_700_000_000)
}

/// What the records' interfaces are called.
pub fn names() -> Names {
    Names::new("web-17", &["eth0", "eth1"])
}

/// So many records that end before `now_ns`, the oldest first.
pub fn records(count: usize, seed: u64, now_ns: u64) -> Vec<FlowRecord> {
    let mut traffic = Traffic(SplitMix64::new(seed));
    let first_ns = now_ns - count as u64 * PACE_NS;
    (0..count as u64).map(|at| traffic.record(first_ns + at * PACE_NS)).collect()
}

/// What is known of them: services, units, and where public addresses are.
pub fn labels(records: &[FlowRecord]) -> BatchLabels {
    let names = ["https", "domain", "postgresql", "redis", "kafka", "http-alt", "mysql"];
    let names = names.map(Arc::<str>::from);
    let units = ["nginx.service", "app.service", "worker.service"].map(Arc::<str>::from);
    let mut labels = BatchLabels::with_capacity(records.len(), true);
    for record in records {
        let name = match record.dst_port {
            443 => Some(&names[0]),
            53 => Some(&names[1]),
            5432 => Some(&names[2]),
            6379 => Some(&names[3]),
            9092 => Some(&names[4]),
            8080 => Some(&names[5]),
            3306 => Some(&names[6]),
            _ => None,
        };
        let service = name.map_or(0, |name| labels.text(name));
        let ingress = record.direction == Direction::Ingress;
        let unit = labels.text(&units[if ingress { 0 } else { usize::from(record.interface) }]);
        let place = |address: [u8; 16]| {
            if address[12] == 10 && address[10] == 0xff {
                return Place::default();
            }
            let country =
                ["US", "DE", "NL", "FR", "GB", "CN", "BR", "IN"][address[15] as usize % 8];
            let asn = 1000 + u32::from(address[13]) * 7 + u32::from(address[14]);
            Place { country: Country::new(country), asn }
        };
        let (src, dst) = (place(record.src), place(record.dst));
        labels.push(Labels { src, dst, unit, service, ..Labels::default() });
    }
    labels.freeze();
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frozen::FrozenBatch;

    #[test]
    fn the_same_seed_gives_the_same_records_and_most_are_answered() {
        let now_ns = 1_700_000_000_000_000_000;
        let records = records(10_000, 7, now_ns);
        assert_eq!(records, super::records(10_000, 7, now_ns));
        let answered = records.iter().filter(|record| record.reverse_packets > 0).count();
        assert!((9_500..9_900).contains(&answered), "{answered}");
        assert!(records.iter().all(|r| r.start_ns <= r.end_ns && r.octets >= 20 * r.packets));
        let batch =
            FrozenBatch::of_flows(&records, &labels(&records), &names(), uuid::Uuid::nil(), 0);
        let decoded = batch.records().expect("ours");
        let known = (0..records.len()).filter(|at| decoded.labels.row(*at).src_asn > 0).count();
        assert!((4_000..4_600).contains(&known), "{known}");
    }
}
