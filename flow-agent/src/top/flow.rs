//! Open flows as `/api/v1/flows/open` tells them.

use serde::{Deserialize, Serialize};

/// An open flow at an observation point, as the record it would be now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "as the columns of the table flows")]
pub struct OpenFlow {
    /// As `explain` takes it.
    pub key: String,
    pub interface: String,
    pub direction: String,
    pub src_ip: String,
    pub dst_ip: String,
    pub src_port: u16,
    pub dst_port: u16,
    /// IANA number.
    pub protocol: u8,
    /// Empty for a port without a name.
    pub service: String,
    pub packets: u64,
    pub bytes: u64,
    pub reverse_packets: u64,
    pub reverse_bytes: u64,
    /// RFC 3339.
    pub flow_start: Option<String>,
    pub flow_end: Option<String>,
    pub sampling: Option<u32>,
}

impl OpenFlow {
    /// The name of its protocol, which its key begins with; else the number.
    pub fn protocol_name(&self) -> String {
        match self.key.split_once(',') {
            Some((name, _)) => name.to_owned(),
            None => self.protocol.to_string(),
        }
    }
}

/// The largest of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFlows {
    /// Flows that are open in all.
    #[serde(rename = "matching")]
    pub open: u64,
    /// The largest first.
    pub flows: Vec<OpenFlow>,
}
