//! Scanners: a source that tries many ports of one host, or many hosts at one port.
//!
//! An attempt is a flow record that came to nothing: a SYN that was not answered or refused (the
//! initiator never acknowledged), TCP without SYN and ACK (NULL, FIN and Xmas scans), up to three
//! UDP datagrams or pings without an answer. Ports and hosts are counted per source over a
//! window that begins with the first attempt: a scan of twice the limit in a window is found
//! wherever the windows fall. Counts are exact up to 128, then +-4.6 %.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::time::Duration;

use flow_common::tcp::flags::{ACK, RST, SYN};

use super::Context;
use super::bounded::{Bounded, Size};
use super::distinct::Distinct;
use super::episodes::{Episodes, Subject};
use super::event::{Address, Finding, Kind, NONE, Severity};
use super::interfaces::InterfaceId;
use super::network::is_unicast;
use crate::record::{FlowRecord, InitiatorBy};
use crate::services::service;

/// Pairs of source and host, and of source and port, that are watched at the same time.
const LIMIT: usize = 8_192;
/// Sources whose events are counted.
const SOURCES: usize = 1_024;
/// A source with more events than this gets one for everything else it tries.
const EVENTS_OF_A_SOURCE: u32 = 4;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// What a source has tried in a window.
#[derive(Debug)]
struct Sweep {
    since_ns: u64,
    first_ns: u64,
    attempts: u64,
    different: Distinct,
}

/// What a sweep has come to.
struct Tried {
    different: u64,
    attempts: u64,
    first_ns: u64,
    exact: bool,
}

impl Sweep {
    fn new(now_ns: u64) -> Self {
        Self { since_ns: now_ns, first_ns: u64::MAX, attempts: 0, different: Distinct::default() }
    }

    /// Adds an attempt at `thing`; leaves what there is.
    fn add(&mut self, thing: &impl Hash, record: &FlowRecord, context: &Context<'_>) -> Tried {
        let window = context.config.scan_window.as_nanos() as u64;
        if context.now_ns.saturating_sub(self.since_ns) >= window {
            *self = Self::new(context.now_ns);
        }
        self.attempts += 1;
        self.first_ns = self.first_ns.min(record.start_ns);
        self.different.insert(thing);
        Tried {
            different: self.different.count(),
            attempts: self.attempts,
            first_ns: self.first_ns,
            exact: self.different.is_exact(),
        }
    }
}

/// The detector.
#[derive(Debug)]
pub struct Scans {
    /// Ports by source and host.
    ports: Bounded<(Address, Address), Sweep>,
    /// Hosts by source, protocol and port.
    hosts: Bounded<(Address, u8, u16), Sweep>,
    /// How many events a source has, and since when.
    sources: Bounded<Address, (u32, u64)>,
}

impl Scans {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self {
            ports: Bounded::new(LIMIT),
            hosts: Bounded::new(LIMIT),
            sources: Bounded::new(SOURCES),
        }
    }

    /// Looks at a record. Those of a flood only count for sources that are watched already:
    /// invented addresses must not drive scanners out.
    pub fn observe(
        &mut self,
        record: &FlowRecord,
        interface: InterfaceId,
        is_flood: bool,
        context: &Context<'_>,
        episodes: &mut Episodes,
    ) {
        if !is_attempt(record) || !is_unicast(record.dst) {
            return;
        }
        let FlowRecord { src, dst, protocol, dst_port: port, .. } = *record;
        let any = Subject { kind: Kind::PortScan, src, dst, port: 0, protocol: 0, interface: 0 };
        if port != 0
            && let Some(sweep) = sweep(&mut self.ports, (src, dst), is_flood, context)
        {
            let limit = context.config.scan_ports;
            let tried = sweep.add(&(protocol, port), record, context);
            self.report(any, &tried, limit, record, interface, context, episodes);
        }
        if let Some(sweep) = sweep(&mut self.hosts, (src, protocol, port), is_flood, context) {
            let limit = context.config.scan_hosts;
            let tried = sweep.add(&dst, record, context);
            let subject = Subject { kind: Kind::HostScan, dst: NONE, port, protocol, ..any };
            self.report(subject, &tried, limit, record, interface, context, episodes);
        }
    }

    /// Forgets what is over.
    pub fn tick(&mut self, context: &Context<'_>) {
        let (now, config) = (context.now_ns, context.config);
        let is_old =
            |since: u64, rest: Duration| now.saturating_sub(since) >= rest.as_nanos() as u64;
        self.ports.expire(|sweep| is_old(sweep.since_ns, config.scan_window));
        self.hosts.expire(|sweep| is_old(sweep.since_ns, config.scan_window));
        self.sources.expire(|(_, since)| is_old(*since, config.cool_down));
    }

    /// How full it is.
    pub fn sizes(&self) -> [Size; 3] {
        [
            self.ports.size("scan_ports"),
            self.hosts.size("scan_hosts"),
            self.sources.size("scan_sources"),
        ]
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one finding")]
    fn report(
        &mut self,
        subject: Subject,
        tried: &Tried,
        limit: u64,
        record: &FlowRecord,
        interface: InterfaceId,
        context: &Context<'_>,
        episodes: &mut Episodes,
    ) {
        let now = context.now_ns;
        let grow = |finding: &mut Finding| {
            finding.add(record.start_ns, record.end_ns);
            finding.value = finding.value.max(tried.different as f64);
            if !tried.exact {
                finding.details.insert("estimated", "4.6 % standard error".into());
            }
        };
        if episodes.grow(&subject, now, grow) {
            return;
        }
        let src = subject.src;
        if tried.different < limit || context.config.ignores(src) {
            return;
        }
        // A source that goes through a whole network is one more event, not hundreds.
        let everything =
            Subject { kind: Kind::HostScan, dst: NONE, port: 0, protocol: 0, ..subject };
        if episodes.grow(&everything, now, |finding| finding.add(record.start_ns, record.end_ns)) {
            return;
        }
        let (events, since) = self.sources.entry(src, || (0, now)).0;
        if now.saturating_sub(*since) >= context.config.cool_down.as_nanos() as u64 {
            (*events, *since) = (0, now);
        }
        *events += 1;
        let subject = if *events > EVENTS_OF_A_SOURCE { everything } else { subject };
        let inside = context.network.is_local(src);
        let window = context.config.scan_window.as_secs();
        let finding = Finding {
            kind: subject.kind,
            severity: if inside { Severity::Critical } else { Severity::Warning },
            interface: context.interfaces.name(interface).clone(),
            src,
            dst: subject.dst,
            port: subject.port,
            protocol: subject.protocol,
            service: service(subject.protocol, subject.port).unwrap_or(""),
            value: tried.different as f64,
            threshold: limit as f64,
            count: tried.attempts,
            first_ns: tried.first_ns,
            last_ns: record.end_ns,
            details: BTreeMap::from([("window_s", window.to_string())]),
        };
        episodes.open(subject, finding, now);
    }
}

/// What a source has tried; only if it is watched already, for a flood.
fn sweep<'a, K: Hash + Eq>(
    sweeps: &'a mut Bounded<K, Sweep>,
    key: K,
    is_flood: bool,
    context: &Context<'_>,
) -> Option<&'a mut Sweep> {
    if is_flood {
        sweeps.get_mut(&key)
    } else {
        Some(sweeps.entry(key, || Sweep::new(context.now_ns)).0)
    }
}

/// True for a record of an attempt that came to nothing.
fn is_attempt(record: &FlowRecord) -> bool {
    let silent = record.reverse_packets == 0;
    match record.protocol {
        TCP => {
            let (sent, answer) = (record.tcp_flags, record.reverse_tcp_flags);
            let refused = answer & RST != 0 && answer & SYN == 0;
            let nothing = silent || refused;
            let opening = record.initiator_by == InitiatorBy::Syn && sent & SYN != 0;
            let odd = sent & (SYN | RST) == 0 && record.packets <= FEW;
            record.packets > 0 && sent & ACK == 0 && nothing && (opening || odd)
        }
        UDP => silent && record.packets <= FEW,
        ICMP | ICMP6 => silent && record.packets <= FEW && record.initiator_by == InitiatorBy::Icmp,
        _ => false,
    }
}

/// Packets of an attempt without a handshake.
const FEW: u64 = 3;
