//! The columns of the table `flows`, in one place: name, type, and how a record fills it and is
//! filled from it. The types are exactly those of the table, so that the engine converts nothing.
//!
//! Three kinds of columns: those that each record fills by itself ([`OF_RECORDS`]), those that are
//! the same for all rows of a batch, and those that come from names and labels.

use flow_common::{Direction, Tunnel, TunnelKind};

use super::cell::Cell;
use crate::record::{FlowEndReason, FlowRecord, InitiatorBy};

const UINT8: &str = "UInt8";
const UINT16: &str = "UInt16";
const UINT32: &str = "UInt32";
pub(super) const UINT64: &str = "UInt64";
const IPV6: &str = "IPv6";
const DATE_TIME_64: &str = "DateTime64(9, 'UTC')";
const DIRECTION: &str = "Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2)";
const TUNNEL_TYPE: &str =
    "Enum8('none' = 0, 'vxlan' = 1, 'geneve' = 2, 'gre' = 3, 'ipip' = 4, 'gtpu' = 5)";
const END_REASON: &str = "Enum8('idle_timeout' = 1, 'active_timeout' = 2, 'end_of_flow' = 3, \
                          'forced_end' = 4, 'lack_of_resources' = 5)";
const INITIATOR_BY: &str = "Enum8('syn' = 1, 'icmp' = 2, 'service_port' = 3, 'first_packet' = 4)";

/// Texts of any length.
pub(super) const STRING: &str = "String";
/// Texts of which there are few.
pub(super) const DICTIONARY: &str = "LowCardinality(String)";

/// A column, as the table and the block have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type, as `SHOW CREATE TABLE` writes it.
    pub kind: &'static str,
}

impl Column {
    const fn new(name: &'static str, kind: &'static str) -> Self {
        Self { name, kind }
    }
}

pub(super) const EXPORTED_AT: Column = Column::new("exported_at", "DateTime('UTC')");
pub(super) const BATCH_ID: Column = Column::new("batch_id", "UUID");
pub(super) const EXPORTER: Column = Column::new("exporter", DICTIONARY);
pub(super) const INTERFACE: Column = Column::new("interface", DICTIONARY);
pub(super) const SERVICE: Column = Column::new("service", DICTIONARY);
pub(super) const SRC_COUNTRY: Column = Column::new("src_country", DICTIONARY);
pub(super) const DST_COUNTRY: Column = Column::new("dst_country", DICTIONARY);
pub(super) const UNIT: Column = Column::new("unit", DICTIONARY);
pub(super) const SRC_ASN: Column = Column::new("src_asn", UINT32);
pub(super) const DST_ASN: Column = Column::new("dst_asn", UINT32);
pub(super) const SRC_HOST: Column = Column::new("src_host", STRING);
pub(super) const DST_HOST: Column = Column::new("dst_host", STRING);

/// The columns that not a record by itself fills, in the order of the block: of fixed width first,
/// then dictionaries, then texts.
pub(super) const OTHERS: [Column; 12] = [
    EXPORTED_AT,
    BATCH_ID,
    SRC_ASN,
    DST_ASN,
    EXPORTER,
    INTERFACE,
    SERVICE,
    SRC_COUNTRY,
    DST_COUNTRY,
    UNIT,
    SRC_HOST,
    DST_HOST,
];

/// A column that each record fills by itself, with values of one width.
pub(super) struct OfRecords {
    pub column: Column,
    /// Octets a row.
    pub width: usize,
    /// Writes the values of records, one after the other.
    pub encode: fn(&[FlowRecord], &mut [u8]),
    /// Sets the values of records; false if one is no value of the type.
    pub decode: fn(&[u8], &mut [FlowRecord]) -> bool,
}

#[inline(always)]
fn encode<C: Cell>(records: &[FlowRecord], out: &mut [u8], get: impl Fn(&FlowRecord) -> C) {
    for (record, cell) in records.iter().zip(out.chunks_exact_mut(C::WIDTH)) {
        get(record).put(cell);
    }
}

#[inline(always)]
fn decode<C: Cell>(
    octets: &[u8],
    records: &mut [FlowRecord],
    set: impl Fn(&mut FlowRecord, C),
) -> bool {
    octets
        .chunks_exact(C::WIDTH)
        .zip(records)
        .all(|(cell, record)| C::get(cell).map(|value| set(record, value)).is_some())
}

macro_rules! of_records {
    ($($name:ident: $kind:expr, $cell:ty, $get:expr, $set:expr;)*) => {
        /// In the order of the block.
        pub(super) const OF_RECORDS: &[OfRecords] = &[$(OfRecords {
            column: Column::new(stringify!($name), $kind),
            width: <$cell as Cell>::WIDTH,
            encode: |records, out| encode::<$cell>(records, out, $get),
            decode: |octets, records| decode::<$cell>(octets, records, $set),
        }),*];
    };
}

of_records! {
    flow_start: DATE_TIME_64, u64, |r| r.start_ns, |r, v| r.start_ns = v;
    flow_end: DATE_TIME_64, u64, |r| r.end_ns, |r, v| r.end_ns = v;
    direction: DIRECTION, Direction, |r| r.direction, |r, v| r.direction = v;
    src_ip: IPV6, [u8; 16], |r| r.src, |r, v| r.src = v;
    dst_ip: IPV6, [u8; 16], |r| r.dst, |r, v| r.dst = v;
    src_port: UINT16, u16, |r| r.src_port, |r, v| r.src_port = v;
    dst_port: UINT16, u16, |r| r.dst_port, |r, v| r.dst_port = v;
    protocol: UINT8, u8, |r| r.protocol, |r, v| r.protocol = v;
    packets: UINT64, u64, |r| r.packets, |r, v| r.packets = v;
    bytes: UINT64, u64, |r| r.octets, |r, v| r.octets = v;
    reverse_packets: UINT64, u64, |r| r.reverse_packets, |r, v| r.reverse_packets = v;
    reverse_bytes: UINT64, u64, |r| r.reverse_octets, |r, v| r.reverse_octets = v;
    tcp_flags: UINT8, u8, |r| r.tcp_flags, |r, v| r.tcp_flags = v;
    reverse_tcp_flags: UINT8, u8, |r| r.reverse_tcp_flags, |r, v| r.reverse_tcp_flags = v;
    icmp_type: UINT8, u8, |r| r.icmp_type, |r, v| r.icmp_type = v;
    icmp_code: UINT8, u8, |r| r.icmp_code, |r, v| r.icmp_code = v;
    vlan_id: UINT16, u16, |r| r.vlan_id, |r, v| r.vlan_id = v;
    inner_vlan_id: UINT16, u16, |r| r.inner_vlan_id, |r, v| r.inner_vlan_id = v;
    dscp: UINT8, u8, |r| r.dscp, |r, v| r.dscp = v;
    min_ttl: UINT8, u8, |r| r.min_ttl, |r, v| r.min_ttl = v;
    max_ttl: UINT8, u8, |r| r.max_ttl, |r, v| r.max_ttl = v;
    tunnel_type: TUNNEL_TYPE, TunnelKind, |r| of_tunnel(r, Tunnel::kind, TunnelKind::None),
        |r, v| set_tunnel(r, v == TunnelKind::None, |t| t.kind = v as u32);
    tunnel_id: UINT32, u32, |r| of_tunnel(r, |t| t.id, 0),
        |r, v| set_tunnel(r, v == 0, |t| t.id = v);
    tunnel_src: IPV6, [u8; 16], |r| of_tunnel(r, |t| t.src.octets(), [0; 16]),
        |r, v| set_tunnel(r, v == [0; 16], |t| t.src = v.into());
    tunnel_dst: IPV6, [u8; 16], |r| of_tunnel(r, |t| t.dst.octets(), [0; 16]),
        |r, v| set_tunnel(r, v == [0; 16], |t| t.dst = v.into());
    handshake_rtt_ns: UINT64, u64, |r| r.handshake_rtt_ns, |r, v| r.handshake_rtt_ns = v;
    retransmits: UINT32, u32, |r| r.retransmits, |r, v| r.retransmits = v;
    flow_end_reason: END_REASON, FlowEndReason, |r| r.end_reason, |r, v| r.end_reason = v;
    initiator_by: INITIATOR_BY, InitiatorBy, |r| r.initiator_by, |r, v| r.initiator_by = v;
    sampling: UINT32, u32, |r| r.sampling, |r, v| r.sampling = v;
}

#[inline(always)]
fn of_tunnel<T>(record: &FlowRecord, get: impl Fn(&Tunnel) -> T, none: T) -> T {
    record.tunnel.as_deref().map_or(none, get)
}

/// A record without a tunnel has no room for one until there is something to set.
#[inline(always)]
fn set_tunnel(record: &mut FlowRecord, none: bool, set: impl Fn(&mut Tunnel)) {
    if !none {
        set(record.tunnel.get_or_insert_default());
    }
}

/// Every column of `flows` that is inserted; the others have defaults or are derived on read.
pub fn flow_columns() -> impl Iterator<Item = Column> {
    OF_RECORDS.iter().map(|of| of.column).chain(OTHERS)
}

/// Octets a row of what every type that has a fixed width takes.
pub(super) fn width(kind: &str) -> Option<usize> {
    let known = OF_RECORDS.iter().map(|of| (of.column.kind, of.width));
    let others = [(EXPORTED_AT.kind, u32::WIDTH), (BATCH_ID.kind, <[u8; 16]>::WIDTH)];
    known.chain(others).find(|(known, _)| *known == kind).map(|(_, width)| width)
}
