//! A row of the table `flows`, as the sinks write it.

use clickhouse::Row;
use serde::Serialize;
use std::net::Ipv6Addr;
use uuid::Uuid;

use crate::enrich::RowLabels;
use crate::names::Names;
use crate::record::FlowRecord;
use crate::services::service;

/// The columns that are inserted; the others have defaults or are derived.
#[derive(Debug, Row, Serialize)]
#[allow(missing_docs, reason = "the columns are documented in docs/schema.md")]
pub struct FlowRow<'a> {
    pub flow_start: i64,
    pub flow_end: i64,
    pub exported_at: u32,
    pub exporter: &'a str,
    pub interface: &'a str,
    pub direction: i8,
    pub src_ip: Ipv6Addr,
    pub dst_ip: Ipv6Addr,
    pub src_port: u16,
    pub dst_port: u16,
    pub protocol: u8,
    pub packets: u64,
    pub bytes: u64,
    pub reverse_packets: u64,
    pub reverse_bytes: u64,
    pub tcp_flags: u8,
    pub reverse_tcp_flags: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
    pub vlan_id: u16,
    pub inner_vlan_id: u16,
    pub dscp: u8,
    pub min_ttl: u8,
    pub max_ttl: u8,
    pub tunnel_type: i8,
    pub tunnel_id: u32,
    pub tunnel_src: Ipv6Addr,
    pub tunnel_dst: Ipv6Addr,
    pub handshake_rtt_ns: u64,
    pub retransmits: u32,
    pub service: &'a str,
    pub flow_end_reason: i8,
    pub initiator_by: i8,
    pub sampling: u32,
    #[serde(with = "clickhouse::serde::uuid")]
    pub batch_id: Uuid,
    pub src_country: &'a str,
    pub dst_country: &'a str,
    pub src_asn: u32,
    pub dst_asn: u32,
    pub src_host: &'a str,
    pub dst_host: &'a str,
    pub unit: &'a str,
}

impl<'a> FlowRow<'a> {
    /// The row of a record in a batch.
    pub fn new(
        record: &FlowRecord,
        labels: &RowLabels<'a>,
        names: &'a Names,
        batch_id: Uuid,
        exported_at: u32,
    ) -> Self {
        let tunnel = record.tunnel();
        Self {
            flow_start: record.start_ns as i64,
            flow_end: record.end_ns as i64,
            exported_at,
            exporter: &names.exporter,
            interface: names.interface(record.interface),
            direction: record.direction as i8,
            src_ip: record.src.into(),
            dst_ip: record.dst.into(),
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
            tunnel_type: tunnel.kind as i8,
            tunnel_id: tunnel.id,
            tunnel_src: tunnel.src.octets().into(),
            tunnel_dst: tunnel.dst.octets().into(),
            handshake_rtt_ns: record.handshake_rtt_ns,
            retransmits: record.retransmits,
            service: labels.service.unwrap_or_else(|| service_of(record)),
            flow_end_reason: record.end_reason as i8,
            initiator_by: record.initiator_by as i8,
            sampling: record.sampling,
            batch_id,
            src_country: labels.src_country,
            dst_country: labels.dst_country,
            src_asn: labels.src_asn,
            dst_asn: labels.dst_asn,
            src_host: labels.src_host,
            dst_host: labels.dst_host,
            unit: labels.unit,
        }
    }
}

/// The service a flow uses: by the port of the side that was asked, else of the other.
pub fn service_of(record: &FlowRecord) -> &'static str {
    service(record.protocol, record.dst_port)
        .or_else(|| service(record.protocol, record.src_port))
        .unwrap_or("")
}
