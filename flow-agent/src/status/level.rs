//! What is known of one flow, level by level: what `/api/v1/flows` answers.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// One part of a flow: at an interface, in a record or in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as the columns of the table flows")]
pub struct FlowSummary {
    pub interface: String,
    pub direction: String,
    pub src_ip: String,
    pub dst_ip: String,
    pub src_port: u16,
    pub dst_port: u16,
    pub packets: u64,
    pub bytes: u64,
    pub reverse_packets: u64,
    pub reverse_bytes: u64,
    /// RFC 3339; null where it is not known.
    pub flow_start: Option<String>,
    pub flow_end: Option<String>,
    /// Why the record left the cache; null while it is open.
    pub flow_end_reason: Option<String>,
    /// Each packet stands for so many; null where the level does not say.
    pub sampling: Option<u32>,
}

/// A level of look-up and what it knows.
#[expect(clippy::struct_field_names, reason = "the keys of the answer")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// `kernel`, `cache`, `spool` or `store`.
    pub level: String,
    /// What it is.
    pub about: String,
    /// It has some of the flow.
    pub found: bool,
    /// Packets of both directions, over all observation points.
    pub packets: u64,
    /// Their IP octets.
    pub bytes: u64,
    /// The first packet that it knows of, RFC 3339.
    pub first: Option<String>,
    /// And the last.
    pub last: Option<String>,
    /// Rows in all, where the level counts them.
    #[serde(default)]
    pub rows: Option<u64>,
    /// The ids of the batches that brought them, at most [`Level::MOST`].
    #[serde(default)]
    pub batches: Vec<String>,
    /// The parts, at most [`Level::MOST`].
    pub flows: Vec<FlowSummary>,
    /// There are more parts, which are not in the sums either.
    pub more: bool,
    /// It could not be asked.
    pub error: Option<String>,
}

impl Level {
    /// Parts that are told of one level.
    pub const MOST: usize = 100;

    /// A level with these parts, of which one too many says that there are more.
    pub fn new(level: &str, about: &str, mut flows: Vec<FlowSummary>) -> Self {
        let more = flows.len() > Self::MOST;
        flows.truncate(Self::MOST);
        let sum = |of: fn(&FlowSummary) -> u64| flows.iter().map(of).sum();
        Self {
            level: level.into(),
            about: about.into(),
            found: !flows.is_empty(),
            packets: sum(|flow| flow.packets + flow.reverse_packets),
            bytes: sum(|flow| flow.bytes + flow.reverse_bytes),
            // RFC 3339 in UTC with as many digits sorts as text.
            first: flows.iter().filter_map(|flow| flow.flow_start.clone()).min(),
            last: flows.iter().filter_map(|flow| flow.flow_end.clone()).max(),
            rows: None,
            batches: Vec::new(),
            flows,
            more,
            error: None,
        }
    }

    /// One that could not be asked.
    pub fn failed(level: &str, about: &str, error: &dyn Display) -> Self {
        Self { error: Some(error.to_string()), ..Self::new(level, about, Vec::new()) }
    }
}

/// One step on the way of packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `hook`, `own_traffic`, `filter`, `sampling`, or a level.
    pub step: String,
    /// What became of the flow there.
    pub result: String,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundFlow {
    /// As it was understood.
    pub key: String,
    /// `open`, `waiting`, `stored`, or why it is nowhere: `filtered`, `not_sampled`,
    /// `own_traffic`, `not_metered`, `unknown` (a level did not answer) or `unseen`.
    #[serde(default)]
    pub outcome: String,
    /// The same in one sentence.
    #[serde(default)]
    pub conclusion: String,
    /// The way of its packets, step by step.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// In the order in which packets pass them.
    pub levels: Vec<Level>,
    /// Why it may be missing, or not be whole.
    pub reasons: Vec<String>,
}

/// RFC 3339 in UTC with nanoseconds; none for times that there are not.
pub fn time(unix_ns: u64) -> Option<String> {
    let time = jiff::Timestamp::from_nanosecond(i128::from(unix_ns)).ok()?;
    (unix_ns != 0).then(|| format!("{time:.9}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_sums_its_parts_and_says_when_there_are_more() {
        let part = |start: &str, packets| FlowSummary {
            flow_start: Some(start.into()),
            flow_end: time(2_000_000_000),
            packets,
            reverse_packets: 1,
            bytes: 60,
            ..FlowSummary::default()
        };
        let level = Level::new("cache", "", vec![part("b", 5), part("a", 7)]);
        assert!(level.found && !level.more);
        assert_eq!((level.packets, level.bytes), (14, 120));
        assert_eq!(level.first.as_deref(), Some("a"));
        assert_eq!(level.last.as_deref(), Some("1970-01-01T00:00:02.000000000Z"));
        let many = vec![part("a", 1); Level::MOST + 1];
        let level = Level::new("cache", "", many);
        assert!(level.more && level.packets == 2 * Level::MOST as u64);
        assert!(!Level::new("cache", "", Vec::new()).found);
        assert_eq!(time(0), None);
    }
}
