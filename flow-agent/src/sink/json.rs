//! JSON lines: one record a line, with the columns of `flows` as keys.

use std::io::{self, Write};
use std::net::Ipv6Addr;

use flow_common::Direction;
use serde::Serialize;

use crate::community_id::community_id;
use crate::enrich::{BatchLabels, RowLabels};
use crate::names::Names;
use crate::record::FlowRecord;
use crate::services::service_of;

#[derive(Serialize)]
struct Line<'a> {
    flow_start: Timestamp,
    flow_end: Timestamp,
    exported_at: Option<u32>,
    exporter: &'a str,
    interface: &'a str,
    direction: &'static str,
    src_ip: Address,
    dst_ip: Address,
    src_port: u16,
    dst_port: u16,
    protocol: u8,
    packets: u64,
    bytes: u64,
    reverse_packets: u64,
    reverse_bytes: u64,
    tcp_flags: u8,
    reverse_tcp_flags: u8,
    icmp_type: u8,
    icmp_code: u8,
    vlan_id: u16,
    inner_vlan_id: u16,
    dscp: u8,
    min_ttl: u8,
    max_ttl: u8,
    tunnel_type: &'static str,
    tunnel_id: u32,
    tunnel_src: Address,
    tunnel_dst: Address,
    handshake_rtt_ns: u64,
    retransmits: u32,
    service: &'static str,
    flow_end_reason: &'static str,
    initiator_by: &'static str,
    sampling: u32,
    community_id: String,
    batch_id: Option<&'a str>,
    #[serde(flatten)]
    places: Option<Places<'a>>,
}

/// Only with files of addresses.
#[derive(Serialize)]
struct Places<'a> {
    src_country: &'a str,
    dst_country: &'a str,
    src_asn: u32,
    dst_asn: u32,
}

/// Unix ns, printed as RFC 3339 with nanoseconds.
struct Timestamp(u64);

/// Printed as plain IPv4 when it is a mapped one.
struct Address([u8; 16]);

/// Writes one line for each record, with places if there are labels: those of its position.
///
/// # Errors
/// `out` cannot be written.
pub fn write_json_lines<'a>(
    mut out: impl Write,
    records: impl IntoIterator<Item = (usize, &'a FlowRecord)>,
    labels: Option<&BatchLabels>,
    names: &Names,
) -> io::Result<()> {
    for (at, record) in records {
        let labels = labels.map(|labels| labels.row(at));
        serde_json::to_writer(&mut out, &line(record, labels, names))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn line<'a>(record: &FlowRecord, labels: Option<RowLabels<'a>>, names: &'a Names) -> Line<'a> {
    let tunnel = record.tunnel();
    Line {
        flow_start: Timestamp(record.start_ns),
        flow_end: Timestamp(record.end_ns),
        exported_at: None,
        exporter: &names.exporter,
        interface: names.interface(record.interface),
        direction: match record.direction {
            Direction::Unknown => "unknown",
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        },
        src_ip: Address(record.src),
        dst_ip: Address(record.dst),
        src_port: record.src_port,
        dst_port: record.dst_port,
        protocol: record.protocol,
        packets: record.packets,
        bytes: record.octets,
        reverse_packets: record.reverse_packets,
        reverse_bytes: record.reverse_octets,
        tcp_flags: record.tcp_flags,
        reverse_tcp_flags: record.reverse_tcp_flags,
        icmp_type: record.icmp_type,
        icmp_code: record.icmp_code,
        vlan_id: record.vlan_id,
        inner_vlan_id: record.inner_vlan_id,
        dscp: record.dscp,
        min_ttl: record.min_ttl,
        max_ttl: record.max_ttl,
        tunnel_type: tunnel.kind().label(),
        tunnel_id: tunnel.id,
        tunnel_src: Address(tunnel.src.octets()),
        tunnel_dst: Address(tunnel.dst.octets()),
        handshake_rtt_ns: record.handshake_rtt_ns,
        retransmits: record.retransmits,
        service: service_of(record),
        flow_end_reason: record.end_reason.label(),
        initiator_by: record.initiator_by.label(),
        sampling: record.sampling,
        community_id: community_id(
            record.src.into(),
            record.dst.into(),
            record.protocol,
            (record.src_port, record.dst_port),
            (record.icmp_type, record.icmp_code),
        ),
        batch_id: None,
        places: labels.map(|labels| Places {
            src_country: labels.src_country,
            dst_country: labels.dst_country,
            src_asn: labels.src_asn,
            dst_asn: labels.dst_asn,
        }),
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = jiff::Timestamp::from_nanosecond(i128::from(self.0))
            .map_err(serde::ser::Error::custom)?;
        serializer.collect_str(&format_args!("{time:.9}"))
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let address = Ipv6Addr::from(self.0);
        match address.to_ipv4_mapped() {
            Some(v4) => serializer.collect_str(&v4),
            None => serializer.collect_str(&address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nanoseconds_and_addresses_are_plain() {
        let time = serde_json::to_string(&Timestamp(1_700_000_000_000_000_001)).expect("valid");
        assert_eq!(time, "\"2023-11-14T22:13:20.000000001Z\"");
        let whole = serde_json::to_string(&Timestamp(1_700_000_000_000_000_000)).expect("valid");
        assert_eq!(whole, "\"2023-11-14T22:13:20.000000000Z\"");
        let address = Address(flow_common::Address::from([10, 0, 0, 1]).octets());
        assert_eq!(serde_json::to_string(&address).expect("valid"), "\"10.0.0.1\"");
        let none = serde_json::to_string(&Address([0; 16])).expect("valid");
        assert_eq!(none, "\"::\"");
    }
}
