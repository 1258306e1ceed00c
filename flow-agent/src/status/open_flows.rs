//! The open flows with the most octets: a limit enters, what `/api/v1/cache/flows` answers leaves.
//!
//! It holds that the shards of the cache are asked between two messages and give up no more
//! than the limit.

use serde::{Deserialize, Serialize};

use super::find::{address, direction};
use super::key::protocol_name;
use super::level::time;
use super::{Sources, StatusError};
use crate::names::Names;
use crate::record::FlowRecord;
use crate::services::service_of;

/// An open flow at an observation point, as the record it would be now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as the columns of the table flows")]
pub struct OpenFlow {
    pub interface: String,
    pub direction: String,
    pub src_ip: String,
    pub dst_ip: String,
    pub src_port: u16,
    pub dst_port: u16,
    /// IANA number.
    pub protocol: u8,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or the number.
    pub protocol_name: String,
    /// Empty for a port without a name.
    pub service: String,
    pub packets: u64,
    pub bytes: u64,
    pub reverse_packets: u64,
    pub reverse_bytes: u64,
    pub tcp_flags: u8,
    pub reverse_tcp_flags: u8,
    /// 0 if it was not seen.
    pub handshake_rtt_ns: u64,
    pub retransmits: u32,
    /// RFC 3339.
    pub flow_start: Option<String>,
    pub flow_end: Option<String>,
    pub sampling: u32,
}

/// The heaviest of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFlows {
    /// Flows that are open in all.
    pub open: u64,
    /// Those with the most octets, the heaviest first.
    pub flows: Vec<OpenFlow>,
}

impl OpenFlows {
    /// Flows that are told where nothing is said.
    pub const USUAL: usize = 200;
    /// Flows that are told at most.
    pub const MOST: usize = 2000;

    /// The limit that was asked for, or what is wrong with it.
    ///
    /// # Errors
    /// A sentence.
    pub fn limit(text: &str) -> Result<usize, String> {
        let limit = text.parse().ok().filter(|limit| (1..=Self::MOST).contains(limit));
        limit.ok_or_else(|| format!("limit is {text:?}; it must be 1 to {}", Self::MOST))
    }

    /// Asks the cache.
    ///
    /// # Errors
    /// It does not answer in time.
    pub fn of(sources: &Sources, limit: usize) -> Result<Self, StatusError> {
        let refused = |error: crate::cache::Unanswered| StatusError::Refused {
            problem: error.to_string(),
            usage: false,
        };
        let records = sources.cache.heaviest(limit, sources.patience).map_err(refused)?;
        let names = sources.names.current();
        let flows = records.iter().map(|record| open(record, &names)).collect();
        Ok(Self { open: sources.cache.stats().sum.flows, flows })
    }
}

fn open(record: &FlowRecord, names: &Names) -> OpenFlow {
    OpenFlow {
        interface: names.interface(record.interface).to_string(),
        direction: direction(record.direction).into(),
        src_ip: address(record.src),
        dst_ip: address(record.dst),
        src_port: record.src_port,
        dst_port: record.dst_port,
        protocol: record.protocol,
        protocol_name: protocol_name(record.protocol),
        service: service_of(record).into(),
        packets: record.packets,
        bytes: record.octets,
        reverse_packets: record.reverse_packets,
        reverse_bytes: record.reverse_octets,
        tcp_flags: record.tcp_flags,
        reverse_tcp_flags: record.reverse_tcp_flags,
        handshake_rtt_ns: record.handshake_rtt_ns,
        retransmits: record.retransmits,
        flow_start: time(record.start_ns),
        flow_end: time(record.end_ns),
        sampling: record.sampling,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked() {
        assert_eq!(OpenFlows::limit("2000"), Ok(2000));
        for text in ["0", "2001", "-1", "many", ""] {
            assert!(OpenFlows::limit(text).is_err_and(|said| said.contains("1 to 2000")), "{text}");
        }
    }
}
