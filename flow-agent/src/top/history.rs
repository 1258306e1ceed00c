//! The last looks at the agent: looks enter, flows with their rates and the totals' rates leave.
//!
//! The agent's figures move with its drains, so a rate is taken over several looks. What must
//! hold: at most [`LOOKS`] looks are kept.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde_json::Value;

use super::units;
use crate::status::{OpenFlow, OpenFlows};

/// Looks that are kept: rates are over as many intervals but one.
const LOOKS: usize = 5;

/// What the agent said at one time.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Since the first look, on a clock that never goes back.
    pub at: Duration,
    /// `/api/v1/status`.
    pub status: Value,
    /// `/api/v1/ledger`.
    pub ledger: Value,
    /// `/api/v1/cache/flows`.
    pub flows: OpenFlows,
}

/// A flow as it is shown.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// As the agent has it.
    pub flow: OpenFlow,
    /// Both directions; none before the second look at it.
    pub bits_per_second: Option<f64>,
}

impl Row {
    /// Of both directions.
    pub fn packets(&self) -> u64 {
        self.flow.packets + self.flow.reverse_packets
    }

    /// Of both directions.
    pub fn octets(&self) -> u64 {
        self.flow.bytes + self.flow.reverse_bytes
    }

    /// From the first to the last packet, in seconds.
    pub fn age_s(&self) -> Option<f64> {
        units::between(self.flow.flow_start.as_deref(), self.flow.flow_end.as_deref())
    }
}

/// A second, by the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Packets metered.
    pub packets: f64,
    /// Bits metered (IP octets).
    pub bits: f64,
    /// Packets lost in the kernel.
    pub lost: f64,
}

/// Octets a second of the flows that are listed, by their direction at the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Directions {
    /// Towards this host, bits a second.
    pub received: f64,
    /// From it.
    pub sent: f64,
    /// At interfaces that do not tell.
    pub unknown: f64,
}

type Key = (String, String, String, String, u16, u16, u8);
/// Octets from the initiator and to it.
type Sums = (u64, u64);

/// The last looks.
#[derive(Debug, Default)]
pub struct History {
    looks: VecDeque<(Look, HashMap<Key, Sums>)>,
}

impl History {
    /// Adds a look. Those of an agent that was there before are forgotten.
    pub fn add(&mut self, look: Look) {
        let agent = |look: &Look| look.status["started"].clone();
        if self.last().is_some_and(|last| agent(last) != agent(&look)) {
            self.looks.clear();
        }
        let mut sums: HashMap<Key, Sums> = HashMap::with_capacity(look.flows.flows.len());
        for flow in &look.flows.flows {
            let sum = sums.entry(key(flow)).or_default();
            // Tunnels and VLANs are not told apart here.
            *sum = (sum.0 + flow.bytes, sum.1 + flow.reverse_bytes);
        }
        self.looks.push_back((look, sums));
        while self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
    }

    /// The last one.
    pub fn last(&self) -> Option<&Look> {
        self.looks.back().map(|(look, _)| look)
    }

    /// The flows of the last look.
    pub fn rows(&self) -> Vec<Row> {
        let Some((last, sums)) = self.looks.back() else { return Vec::new() };
        let row = |flow: &OpenFlow| {
            let rate = self.growth(&key(flow), last.at, sums).map(|(a, b)| (a + b) * 8.0);
            Row { flow: flow.clone(), bits_per_second: rate }
        };
        last.flows.flows.iter().map(row).collect()
    }

    /// Octets a second each way since the earliest look that has the flow. A record that was
    /// renewed since then counts from zero, so only what it has now is certain.
    fn growth(&self, key: &Key, now: Duration, sums: &HashMap<Key, Sums>) -> Option<(f64, f64)> {
        let now_sums = *sums.get(key)?;
        let earlier = self.looks.iter().take(self.looks.len() - 1);
        let (at, before) = earlier
            .filter_map(|(look, sums)| Some((look.at, *sums.get(key)?)))
            .find(|(_, before)| before.0 <= now_sums.0 && before.1 <= now_sums.1)?;
        let seconds = (now.saturating_sub(at)).as_secs_f64();
        let each = |now: u64, before: u64| (now - before) as f64 / seconds;
        (seconds > 0.0).then(|| (each(now_sums.0, before.0), each(now_sums.1, before.1)))
    }

    /// Of all packets; none before the second look.
    pub fn rates(&self) -> Option<Rates> {
        let (first, last) = (&self.looks.front()?.0, self.last()?);
        let seconds = (last.at.saturating_sub(first.at)).as_secs_f64();
        let total = |look: &Look, stage: &str, what: &str| {
            let stage = &look.ledger["total"][stage];
            match stage[what].as_u64() {
                Some(count) => count,
                // By reason.
                None => reasons(stage).map(|(_, packets)| packets).sum(),
            }
        };
        let rate = |stage, what| {
            total(last, stage, what).saturating_sub(total(first, stage, what)) as f64 / seconds
        };
        (seconds > 0.0).then(|| Rates {
            packets: rate("metered", "packets"),
            bits: rate("metered", "octets") * 8.0,
            lost: rate("lost", "packets"),
        })
    }

    /// Of the flows that are listed.
    pub fn directions(&self) -> Option<Directions> {
        let (last, sums) = self.looks.back()?;
        let mut found = Directions::default();
        if self.looks.len() < 2 {
            return None;
        }
        for key in sums.keys() {
            let Some((forward, back)) = self.growth(key, last.at, sums) else { continue };
            let (forward, back) = (forward * 8.0, back * 8.0);
            match key.1.as_str() {
                "ingress" => {
                    (found.received, found.sent) = (found.received + forward, found.sent + back);
                }
                "egress" => {
                    (found.received, found.sent) = (found.received + back, found.sent + forward);
                }
                _ => found.unknown += forward + back,
            }
        }
        Some(found)
    }
}

/// Reasons of a stage of the ledger with packets.
pub fn reasons(stage: &Value) -> impl Iterator<Item = (&str, u64)> {
    let reasons = stage.as_object().into_iter().flatten();
    reasons
        .map(|(reason, count)| (reason.as_str(), count["packets"].as_u64().unwrap_or(0)))
        .filter(|(_, packets)| *packets > 0)
}

fn key(flow: &OpenFlow) -> Key {
    let OpenFlow { interface, direction, src_ip, dst_ip, src_port, dst_port, protocol, .. } = flow;
    let text = String::clone;
    (text(interface), text(direction), text(src_ip), text(dst_ip), *src_port, *dst_port, *protocol)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn look(at: u64, started: u64, bytes: u64, reverse: u64) -> Look {
        let flow = OpenFlow {
            direction: "egress".into(),
            bytes,
            reverse_bytes: reverse,
            ..OpenFlow::default()
        };
        Look {
            at: Duration::from_secs(at),
            status: json!({ "started": started }),
            ledger: json!({ "total": {
                "metered": { "packets": bytes / 100, "octets": bytes },
                "lost": { "ring_full": { "packets": at, "octets": 0 } },
            }}),
            flows: OpenFlows { open: 1, flows: vec![flow] },
        }
    }

    #[test]
    fn rates_are_over_the_looks_that_are_kept() {
        let mut history = History::default();
        assert!(history.rows().is_empty() && history.rates().is_none());
        for at in 0..20 {
            history.add(look(at, 7, at * 1000, at * 500));
            assert!(history.looks.len() <= LOOKS);
        }
        assert_eq!(history.rows()[0].bits_per_second, Some(12_000.0));
        assert_eq!(history.rates(), Some(Rates { packets: 10.0, bits: 8000.0, lost: 1.0 }));
        let directions = history.directions().unwrap();
        assert_eq!((directions.sent, directions.received), (8000.0, 4000.0));
    }

    #[test]
    fn a_renewed_flow_and_another_agent_begin_anew() {
        let mut history = History::default();
        history.add(look(0, 7, 9000, 0));
        history.add(look(1, 7, 100, 0));
        assert_eq!(history.rows()[0].bits_per_second, None);
        history.add(look(2, 7, 300, 0));
        assert_eq!(history.rows()[0].bits_per_second, Some(1600.0));
        history.add(look(3, 8, 400, 0));
        assert!(history.rates().is_none() && history.looks.len() == 1);
    }
}
