//! What the IP layer and sockets of a network namespace have counted (`/proc/net/snmp`): beside
//! the ledger, for whoever looks for packets further up.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::attach::{AttachError, NetworkNamespace};
use crate::status::StatusError;

/// Counters by `Protocol.Name`.
pub type SocketCounters = BTreeMap<String, u64>;

/// Those that say where packets went.
const WORTH: [&str; 9] = [
    "Ip.InReceives",
    "Ip.InDiscards",
    "Ip.OutRequests",
    "Ip.OutDiscards",
    "Ip.ForwDatagrams",
    "Udp.InDatagrams",
    "Udp.NoPorts",
    "Udp.RcvbufErrors",
    "Tcp.RetransSegs",
];

/// What was counted in the interval.
#[derive(Clone, Debug, Serialize)]
pub struct SocketDelta {
    /// The network namespace as in front of its interfaces, without the slash.
    pub namespace: String,
    /// Only IPv4's own counters have names here; those that are 0 are left out.
    pub counters: BTreeMap<String, u64>,
}

/// Reads them in each namespace.
pub fn read(
    namespaces: &BTreeSet<NetworkNamespace>,
) -> Result<BTreeMap<String, SocketCounters>, StatusError> {
    let mut all = BTreeMap::new();
    for namespace in namespaces {
        let text = namespace.run(|| {
            std::fs::read_to_string("/proc/thread-self/net/snmp").map_err(|source| {
                AttachError::Io { what: "/proc/net/snmp cannot be read".into(), source }
            })
        });
        match text {
            Ok(text) => drop(all.insert(namespace.name(), parse(&text))),
            Err(AttachError::Namespace { .. } | AttachError::ProcessGone { .. }) => {}
            Err(error) => {
                return Err(StatusError::Refused { problem: error.to_string(), usage: false });
            }
        }
    }
    Ok(all)
}

/// Pairs of lines: names, then values.
fn parse(text: &str) -> SocketCounters {
    let lines: Vec<_> = text.lines().collect();
    let mut counters = BTreeMap::new();
    for pair in lines.chunks_exact(2) {
        let (Some((protocol, names)), Some((_, values))) =
            (pair[0].split_once(':'), pair[1].split_once(':'))
        else {
            continue;
        };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            // One of them may be -1.
            if let Ok(value) = value.parse() {
                counters.insert(format!("{protocol}.{name}"), value);
            }
        }
    }
    counters
}

/// What was counted between two readings.
pub fn deltas(
    before: &BTreeMap<String, SocketCounters>,
    after: &BTreeMap<String, SocketCounters>,
) -> Vec<SocketDelta> {
    let of = |(namespace, after): (&String, &SocketCounters)| {
        let before = before.get(namespace)?;
        let number = |counters: &SocketCounters, name| counters.get(name).copied().unwrap_or(0);
        let counters = WORTH.into_iter().map(|name| {
            (name.to_owned(), number(after, name).saturating_sub(number(before, name)))
        });
        let counters = counters.filter(|(_, count)| *count > 0).collect();
        Some(SocketDelta { namespace: namespace.clone(), counters })
    };
    after.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_stand_in_pairs_of_lines() {
        let text = "Ip: Forwarding InReceives\nIp: 1 77\nTcp: MaxConn RetransSegs\nTcp: -1 3\n";
        let counters = parse(text);
        assert_eq!(counters["Ip.InReceives"], 77);
        assert_eq!(counters["Tcp.RetransSegs"], 3);
        let later = parse(&text.replace("77", "80"));
        let key = |counters: SocketCounters| BTreeMap::from([("blue".to_owned(), counters)]);
        let deltas = deltas(&key(counters), &key(later));
        assert_eq!(deltas[0].counters, BTreeMap::from([("Ip.InReceives".to_owned(), 3)]));
    }
}
