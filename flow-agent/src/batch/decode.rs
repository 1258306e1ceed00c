//! A block becomes records again: for look-up, and to show what is in quarantine.

use std::sync::Arc;

use flow_common::Direction;
use uuid::Uuid;

use super::BlockError;
use super::block::Block;
use super::cell::Cell;
use super::columns::{self, OF_RECORDS};
use crate::enrich::{BatchLabels, Country, Labels, Place};
use crate::frozen::FrozenBatch;
use crate::names::Names;
use crate::record::{FlowEndReason, FlowRecord, InitiatorBy};

/// What a batch of flows was made of.
#[derive(Clone, Debug)]
pub struct DecodedFlows {
    /// The batch.
    pub id: Uuid,
    /// Unix seconds.
    pub exported_at: u32,
    /// In the order of the rows.
    pub records: Vec<FlowRecord>,
    /// What was known of them.
    pub labels: BatchLabels,
    /// What the numbers of interfaces in `records` mean; they are others than they were.
    pub names: Names,
}

/// Which flow a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowKey {
    /// The initiator.
    pub src: [u8; 16],
    /// The other side.
    pub dst: [u8; 16],
    /// The initiator's port.
    pub src_port: u16,
    /// The other side's port.
    pub dst_port: u16,
    /// IP protocol.
    pub protocol: u8,
}

impl From<&FlowRecord> for RowKey {
    fn from(record: &FlowRecord) -> Self {
        let FlowRecord { src, dst, src_port, dst_port, protocol, .. } = *record;
        Self { src, dst, src_port, dst_port, protocol }
    }
}

impl FrozenBatch {
    /// Everything in a batch of flows.
    ///
    /// # Errors
    /// The block is damaged, or of another table.
    pub fn records(&self) -> Result<DecodedFlows, BlockError> {
        let block = Block::parse(&self.block)?;
        let rows: Vec<_> = (0..block.rows).collect();
        decode(&block, &rows)
    }

    /// The rows of a batch of flows that are `wanted`, at most so many. The others are not decoded.
    ///
    /// # Errors
    /// As [`FrozenBatch::records`].
    pub fn find(
        &self,
        most: usize,
        wanted: impl Fn(&RowKey) -> bool,
    ) -> Result<DecodedFlows, BlockError> {
        let block = Block::parse(&self.block)?;
        let keys = keys(&block)?;
        let rows = keys.enumerate().filter(|(_, key)| wanted(key)).map(|(row, _)| row);
        let rows: Vec<_> = rows.take(most).collect();
        decode(&block, &rows)
    }

    /// When the last packets of its flows came, Unix ns, for batches of flows.
    pub fn flow_ends(&self) -> impl Iterator<Item = u64> {
        const NAME: &str = "flow_end";
        let found = Block::parse_until(&self.block, |name| name == NAME).and_then(|block| {
            let kind = kind(NAME);
            block.fixed(NAME, kind)
        });
        // Only blocks of other tables have none.
        let octets = found.unwrap_or_default();
        octets.chunks_exact(u64::WIDTH).filter_map(u64::get)
    }
}

fn kind(name: &str) -> &'static str {
    columns::flow_columns().find(|column| column.name == name).map_or("", |column| column.kind)
}

fn keys(block: &Block<'_>) -> Result<impl Iterator<Item = RowKey>, BlockError> {
    let fixed = |name| block.fixed(name, kind(name));
    let [src, dst] = [fixed("src_ip")?, fixed("dst_ip")?];
    let [src_port, dst_port] = [fixed("src_port")?, fixed("dst_port")?];
    let addresses = src.as_chunks().0.iter().zip(dst.as_chunks().0);
    let ports = src_port.as_chunks().0.iter().zip(dst_port.as_chunks().0);
    let keys = addresses.zip(ports).zip(fixed("protocol")?);
    Ok(keys.map(|(((src, dst), (src_port, dst_port)), protocol)| RowKey {
        src: *src,
        dst: *dst,
        src_port: u16::from_le_bytes(*src_port),
        dst_port: u16::from_le_bytes(*dst_port),
        protocol: *protocol,
    }))
}

/// A record whose fields are all still to be set.
const EMPTY: FlowRecord = FlowRecord {
    start_ns: 0,
    end_ns: 0,
    interface: 0,
    direction: Direction::Unknown,
    src: [0; 16],
    dst: [0; 16],
    src_port: 0,
    dst_port: 0,
    protocol: 0,
    icmp_type: 0,
    icmp_code: 0,
    vlan_id: 0,
    inner_vlan_id: 0,
    packets: 0,
    octets: 0,
    reverse_packets: 0,
    reverse_octets: 0,
    tcp_flags: 0,
    reverse_tcp_flags: 0,
    dscp: 0,
    min_ttl: 0,
    max_ttl: 0,
    tunnel: None,
    handshake_rtt_ns: 0,
    retransmits: 0,
    end_reason: FlowEndReason::ForcedEnd,
    initiator_by: InitiatorBy::FirstPacket,
    sampling: 1,
};

fn decode(block: &Block<'_>, rows: &[usize]) -> Result<DecodedFlows, BlockError> {
    let mut records = vec![EMPTY; rows.len()];
    for of in OF_RECORDS {
        let octets = block.fixed(of.column.name, of.column.kind)?;
        let damaged = || BlockError::Value { column: of.column.name.into() };
        let sound = rows.iter().zip(&mut records).all(|(row, record)| {
            let cell = &octets[row * of.width..][..of.width];
            (of.decode)(cell, std::slice::from_mut(record))
        });
        sound.then_some(()).ok_or_else(damaged)?;
    }
    let (interfaces, numbers) = block.dictionary(columns::INTERFACE.name)?;
    let numbers: Vec<_> = numbers.collect();
    for (row, record) in rows.iter().zip(&mut records) {
        // Fewer interfaces have been named than there are numbers.
        record.interface = u16::try_from(numbers[*row] + 1).unwrap_or(0);
    }
    let (exporters, exporter) = block.dictionary(columns::EXPORTER.name)?;
    let exporter = exporter.into_iter().next().map_or("", |number| exporters[number]);
    let id = block.fixed(columns::BATCH_ID.name, columns::BATCH_ID.kind)?;
    let exported_at = block.fixed(columns::EXPORTED_AT.name, columns::EXPORTED_AT.kind)?;
    Ok(DecodedFlows {
        id: id.get(..Uuid::WIDTH).and_then(Uuid::get).unwrap_or_default(),
        exported_at: exported_at.get(..u32::WIDTH).and_then(u32::get).unwrap_or_default(),
        records,
        labels: labels(block, rows)?,
        names: Names::new(exporter, interfaces),
    })
}

fn labels(block: &Block<'_>, rows: &[usize]) -> Result<BatchLabels, BlockError> {
    let asn = |column: columns::Column| {
        let octets = block.fixed(column.name, column.kind)?;
        let value = |row: &usize| u32::get(&octets[row * u32::WIDTH..][..u32::WIDTH]);
        Ok::<Vec<_>, BlockError>(rows.iter().filter_map(value).collect())
    };
    let country = |column: columns::Column| {
        let (keys, numbers) = block.dictionary(column.name)?;
        let numbers: Vec<_> = numbers.collect();
        let country = |row: &usize| Country::new(keys[numbers[*row]]);
        Ok::<Vec<_>, BlockError>(rows.iter().map(country).collect())
    };
    let mut labels = BatchLabels::with_capacity(rows.len(), true);
    let mut of_dictionary = |column: columns::Column| {
        let (keys, numbers) = block.dictionary(column.name)?;
        let numbers: Vec<_> = numbers.collect();
        let keys: Vec<_> = keys.iter().map(|key| labels.text(&Arc::from(*key))).collect();
        Ok::<Vec<_>, BlockError>(rows.iter().map(|row| keys[numbers[*row]]).collect())
    };
    let (services, units) = (of_dictionary(columns::SERVICE)?, of_dictionary(columns::UNIT)?);
    let mut host = |column: columns::Column| {
        let texts = block.texts(column.name)?;
        let number = |row: &usize| labels.text(&Arc::from(texts[*row]));
        Ok::<Vec<_>, BlockError>(rows.iter().map(number).collect())
    };
    let (src_hosts, dst_hosts) = (host(columns::SRC_HOST)?, host(columns::DST_HOST)?);
    let (src_asn, dst_asn) = (asn(columns::SRC_ASN)?, asn(columns::DST_ASN)?);
    let (src_country, dst_country) =
        (country(columns::SRC_COUNTRY)?, country(columns::DST_COUNTRY)?);
    for row in 0..rows.len() {
        labels.push(Labels {
            src: Place { country: src_country[row], asn: src_asn[row] },
            dst: Place { country: dst_country[row], asn: dst_asn[row] },
            src_host: src_hosts[row],
            dst_host: dst_hosts[row],
            unit: units[row],
            service: services[row],
        });
    }
    labels.freeze();
    Ok(labels)
}
