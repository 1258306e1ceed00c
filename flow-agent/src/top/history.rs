//! The last looks at the agent: looks enter, flows with their rates and the totals' rates leave.
//!
//! The agent's figures move with its drains, so a rate is taken over several looks. What must
//! hold: at most [`LOOKS`] looks are kept.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde_json::Value;

use super::flow::{OpenFlow, OpenFlows};
use super::units;

/// Looks that are kept: rates are over as many intervals but one.
const LOOKS: usize = 5;

/// What the agent said at one time.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Since the first look, on a clock that never goes back.
    pub at: Duration,
    /// `/api/v1/overview`.
    pub overview: Value,
    /// `/api/v1/flows/open`.
    pub flows: OpenFlows,
}

impl Look {
    /// How the agent is.
    pub fn status(&self) -> &Value {
        &self.overview["status"]
    }

    /// What became of all packets.
    pub fn ledger(&self) -> &Value {
        &self.overview["ledger"]["total"]
    }
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

/// What is metered a second, and what is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Packets that came in.
    pub received_packets: f64,
    /// Their bits (IP octets).
    pub received_bits: f64,
    /// Packets that went out.
    pub sent_packets: f64,
    /// Their bits.
    pub sent_bits: f64,
    /// Packets lost in the kernel.
    pub lost: f64,
}

type Key = (String, String, String, String, u16, u16, u8);

/// The last looks.
#[derive(Debug, Default)]
pub struct History {
    looks: VecDeque<(Look, HashMap<Key, u64>)>,
}

impl History {
    /// Adds a look. Those of an agent that was there before are forgotten.
    pub fn add(&mut self, look: Look) {
        let agent = |look: &Look| look.status()["started"].clone();
        if self.last().is_some_and(|last| agent(last) != agent(&look)) {
            self.looks.clear();
        }
        let mut sums: HashMap<Key, u64> = HashMap::with_capacity(look.flows.flows.len());
        for flow in &look.flows.flows {
            // Tunnels and VLANs are not told apart here.
            *sums.entry(key(flow)).or_default() += flow.bytes + flow.reverse_bytes;
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
            let rate = self.growth(&key(flow), last.at, sums).map(|octets| octets * 8.0);
            Row { flow: flow.clone(), bits_per_second: rate }
        };
        last.flows.flows.iter().map(row).collect()
    }

    /// Octets a second since the earliest look that has the flow. A record that was renewed
    /// since then counts from zero, so only what it has now is certain.
    fn growth(&self, key: &Key, now: Duration, sums: &HashMap<Key, u64>) -> Option<f64> {
        let octets = *sums.get(key)?;
        let earlier = self.looks.iter().take(self.looks.len() - 1);
        let (at, before) = earlier
            .filter_map(|(look, sums)| Some((look.at, *sums.get(key)?)))
            .find(|(_, before)| *before <= octets)?;
        let seconds = (now.saturating_sub(at)).as_secs_f64();
        (seconds > 0.0).then(|| (octets - before) as f64 / seconds)
    }

    /// Of all packets; none before the second look.
    pub fn rates(&self) -> Option<Rates> {
        let (first, last) = (&self.looks.front()?.0, self.last()?);
        let seconds = (last.at.saturating_sub(first.at)).as_secs_f64();
        let rate = |of: &dyn Fn(&Look) -> u64| of(last).saturating_sub(of(first)) as f64 / seconds;
        let traffic = |direction: &str, what: &str| {
            rate(&|look| look.overview["traffic"][direction][what].as_u64().unwrap_or(0))
        };
        (seconds > 0.0).then(|| Rates {
            received_packets: traffic("received", "packets"),
            received_bits: traffic("received", "octets") * 8.0,
            sent_packets: traffic("sent", "packets"),
            sent_bits: traffic("sent", "octets") * 8.0,
            lost: rate(&|look| reasons(&look.ledger()["lost"]).map(|(_, packets)| packets).sum()),
        })
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
        let count = |octets| json!({ "packets": octets / 100, "octets": octets });
        Look {
            at: Duration::from_secs(at),
            overview: json!({
                "status": { "started": started },
                "traffic": { "received": count(reverse), "sent": count(bytes) },
                "ledger": { "total": { "lost": { "ring_full": { "packets": at } } } },
            }),
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
        let rates = Rates {
            received_packets: 5.0,
            received_bits: 4000.0,
            sent_packets: 10.0,
            sent_bits: 8000.0,
            lost: 1.0,
        };
        assert_eq!(history.rates(), Some(rates));
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
