//! Looks for one flow, level by level, in the order in which its packets pass them: so what
//! moves on meanwhile may be seen twice, and is never missed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::PoisonError;
use std::time::Instant;

use flow_common::{Direction, FlowKey, Tunnel};

use super::level::time;
use super::{FlowName, FlowSummary, Level, Sources};
use crate::names::Names;
use crate::record::FlowRecord;

/// Entries of the kernel tables that are looked at for one flow: a flow has one for each
/// interface, direction, CPU and generation, and a ping one for each type.
const MOST_ENTRIES: usize = 4096;

const KERNEL: &str = "kernel tables: counted since the last drain; read while they are written, \
                      so a packet that is being counted may be missing";
const CACHE: &str = "flow cache: open flows, as the records they would be now";
const SPOOL: &str = "records that wait for the store, in memory or on disk; of a long queue on disk what \
                      can be read in a few seconds";

/// The levels in this process.
pub fn in_process(sources: &Sources, name: &FlowName) -> Vec<Level> {
    let names = sources.names.current();
    let kernel = in_kernel(sources, name, &names);
    let cache = match sources.cache.find(&name.query(), sources.patience) {
        Ok(records) => {
            let records = records.iter().filter(|record| name.matches_record(record));
            let flows = records.take(Level::MOST + 1).map(|record| open(record, &names));
            Level::new("cache", CACHE, flows.collect())
        }
        Err(error) => Level::failed("cache", CACHE, &error),
    };
    let started = Instant::now();
    let waiting = sources.waiting.find(
        Level::MOST + 1,
        &names,
        |key| name.matches_row(key),
        || started.elapsed() > sources.patience,
    );
    let waiting = waiting.iter().map(|flow| FlowSummary {
        interface: flow.interface.to_string(),
        flow_end_reason: Some(flow.record.end_reason.label().into()),
        ..open(&flow.record, &names)
    });
    vec![kernel, cache, Level::new("spool", SPOOL, waiting.collect())]
}

fn in_kernel(sources: &Sources, name: &FlowName, names: &Names) -> Level {
    let seen = {
        let look = sources.look.lock().unwrap_or_else(PoisonError::into_inner);
        look.find(MOST_ENTRIES, |key| name.matches(key))
    };
    let clock = sources.vitals.clock();
    // What several CPUs and generations counted of one direction belongs together.
    let mut sums: BTreeMap<(FlowKey, Tunnel), (u64, u64, u64, u64)> = BTreeMap::new();
    for entry in seen {
        let (first, last) = clock.map_or((0, 0), |clock| {
            let drift = clock.drift_ns();
            let first = clock.agent_ns(entry.first_ns);
            let last = clock.agent_ns_of_jiffies(entry.hot.last_jiffies).max(first);
            (first.saturating_add_signed(drift), last.saturating_add_signed(drift))
        });
        let sum = sums.entry((entry.hot.key, entry.tunnel)).or_insert((0, 0, first, last));
        sum.0 += u64::from(entry.hot.packets);
        sum.1 += entry.hot.octets;
        sum.2 = sum.2.min(first);
        sum.3 = sum.3.max(last);
    }
    let flows = sums.iter().map(|((key, _), (packets, octets, first, last))| FlowSummary {
        interface: names.interface(key.interface).to_string(),
        direction: direction(Direction::from_number(key.direction)).into(),
        src_ip: address(key.src.octets()),
        dst_ip: address(key.dst.octets()),
        src_port: if key.is_icmp() { 0 } else { key.src_port },
        dst_port: if key.is_icmp() { 0 } else { key.dst_port },
        packets: *packets,
        bytes: *octets,
        flow_start: time(*first),
        flow_end: time(*last),
        ..FlowSummary::default()
    });
    Level::new("kernel", KERNEL, flows.collect())
}

/// A record whose flow is open.
pub(super) fn open(record: &FlowRecord, names: &Names) -> FlowSummary {
    FlowSummary {
        interface: names.interface(record.interface).to_string(),
        direction: direction(record.direction).into(),
        src_ip: address(record.src),
        dst_ip: address(record.dst),
        src_port: record.src_port,
        dst_port: record.dst_port,
        packets: record.packets,
        bytes: record.octets,
        reverse_packets: record.reverse_packets,
        reverse_bytes: record.reverse_octets,
        flow_start: time(record.start_ns),
        flow_end: time(record.end_ns),
        flow_end_reason: None,
        sampling: Some(record.sampling),
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Unknown => "unknown",
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// Plain IPv4 where it is a mapped one.
fn address(octets: [u8; 16]) -> String {
    IpAddr::from(Ipv6Addr::from(octets)).to_canonical().to_string()
}
