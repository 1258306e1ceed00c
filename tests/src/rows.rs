//! What the agent stored, in the terms of the tally: one direction of a flow each.

use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::sql;
use crate::tally::{Count, Flows, Key};

/// Packets and octets by one-way flow, as stored for the interfaces whose name ends so.
///
/// A stored row has both directions: `src`'s packets and `dst`'s.
pub fn flows(url: &str, interface: &str) -> Result<Flows> {
    let query = format!(
        "SELECT toString(src_ip), toString(dst_ip), toUInt8(protocol), src_port, dst_port, \
         sum(packets), sum(bytes), sum(reverse_packets), sum(reverse_bytes) \
         FROM flow.flows WHERE endsWith(interface, '{interface}') \
         GROUP BY src_ip, dst_ip, protocol, src_port, dst_port"
    );
    let mut flows: Flows = Flows::new();
    for row in sql::rows(url, &query)? {
        let (forward, numbers) = parse(&row).with_context(|| format!("not a flow: {row:?}"))?;
        let backward = Key {
            source: forward.destination,
            destination: forward.source,
            protocol: forward.protocol,
            source_port: forward.destination_port,
            destination_port: forward.source_port,
        };
        for (key, packets, octets) in
            [(forward, numbers[0], numbers[1]), (backward, numbers[2], numbers[3])]
        {
            if packets > 0 || octets > 0 {
                flows.entry(key).or_default().add(Count { packets, octets });
            }
        }
    }
    Ok(flows)
}

fn parse(row: &[String]) -> Option<(Key, [u64; 4])> {
    let [source, destination, protocol, source_port, destination_port, numbers @ ..] = row else {
        return None;
    };
    let address = |text: &str| text.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    let key = Key {
        source: address(source)?,
        destination: address(destination)?,
        protocol: protocol.parse().ok()?,
        source_port: source_port.parse().ok()?,
        destination_port: destination_port.parse().ok()?,
    };
    let numbers: Vec<u64> = numbers.iter().filter_map(|text| text.parse().ok()).collect();
    Some((key, numbers.try_into().ok()?))
}

/// Says how two counts differ, at most ten flows of it; nothing if they are equal.
pub fn differences(wire: &Flows, stored: &Flows) -> Vec<String> {
    let mut keys: Vec<&Key> = wire.keys().chain(stored.keys()).collect();
    keys.sort();
    keys.dedup();
    let zero = Count::default();
    keys.into_iter()
        .filter_map(|key| {
            let wire = wire.get(key).unwrap_or(&zero);
            let stored = stored.get(key).unwrap_or(&zero);
            (wire != stored).then(|| {
                format!(
                    "{}:{} -> {}:{} protocol {}: wire {}/{}, stored {}/{} packets/octets",
                    key.source,
                    key.source_port,
                    key.destination,
                    key.destination_port,
                    key.protocol,
                    wire.packets,
                    wire.octets,
                    stored.packets,
                    stored.octets
                )
            })
        })
        .take(10)
        .collect()
}
