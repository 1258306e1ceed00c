//! SYN floods: connections to one host that are begun and never completed.
//!
//! A SYN counts when the initiator has not acknowledged anything and was not refused either, in
//! the record of its flow. Found when, within ten seconds, there are more of them than the limit
//! allows and three times as many as completed handshakes; so a busy server with a few lost
//! packets is none. Many ports tried by few sources are left to the scan detector.

use std::collections::BTreeMap;

use flow_common::tcp::flags::{ACK, RST, SYN};

use super::Context;
use super::bounded::{Bounded, Size};
use super::distinct::Distinct;
use super::episodes::{Episodes, Subject};
use super::event::{Address, Finding, Kind, NONE, Severity};
use super::interfaces::InterfaceId;
use crate::record::{FlowRecord, InitiatorBy};
use crate::services::service;

/// Destinations that are watched at the same time, per interface.
const LIMIT: usize = 4_096;
/// Seconds that are counted together.
const WINDOW_S: u64 = 10;
const WINDOW_NS: u64 = WINDOW_S * 1_000_000_000;
/// Half-open connections for each that was completed.
const RATIO: u64 = 3;
/// Fewer sources that try many ports are scanners.
const FEW_SOURCES: u64 = 8;

const TCP: u8 = 6;

/// What a destination gets in a window.
#[derive(Debug)]
struct Target {
    since_ns: u64,
    first_ns: u64,
    records: u64,
    half_open: u64,
    completed: u64,
    sources: Distinct,
    /// The port that most SYNs may go to (Boyer and Moore), and by how many it leads.
    port: (u16, u64),
    found: bool,
}

impl Target {
    fn new(now_ns: u64) -> Self {
        Self {
            since_ns: now_ns,
            first_ns: u64::MAX,
            records: 0,
            half_open: 0,
            completed: 0,
            sources: Distinct::default(),
            port: (0, 0),
            found: false,
        }
    }

    fn vote(&mut self, port: u16, votes: u64) {
        let (leader, lead) = &mut self.port;
        if *leader == port {
            *lead += votes;
        } else if votes > *lead {
            (*leader, *lead) = (port, votes - *lead);
        } else {
            *lead -= votes;
        }
    }

    /// More than half of the SYNs go to one port, surely.
    fn has_main_port(&self) -> bool {
        self.port.1 * 4 > self.half_open
    }
}

/// The detector.
#[derive(Debug)]
pub struct Floods {
    targets: Bounded<(InterfaceId, Address), Target>,
}

impl Floods {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self { targets: Bounded::new(LIMIT) }
    }

    /// Looks at a record; true if it belongs to a flood.
    pub fn observe(
        &mut self,
        record: &FlowRecord,
        interface: InterfaceId,
        context: &Context<'_>,
        episodes: &mut Episodes,
    ) -> bool {
        let begun = record.protocol == TCP
            && record.tcp_flags & SYN != 0
            && record.initiator_by == InitiatorBy::Syn;
        if !begun {
            return false;
        }
        let now = context.now_ns;
        let completed = record.tcp_flags & ACK != 0;
        if !completed && record.reverse_tcp_flags & RST != 0 {
            return false;
        }
        let key = (interface, record.dst);
        // Completed handshakes matter only where there are others.
        let target = if completed {
            let Some(target) = self.targets.get_mut(&key) else { return false };
            target
        } else {
            self.targets.entry(key, || Target::new(now)).0
        };
        let age = now.saturating_sub(target.since_ns);
        if age >= WINDOW_NS {
            let cool_down = context.config.cool_down.as_nanos() as u64;
            *target = Target { found: target.found && age < cool_down, ..Target::new(now) };
        }
        let weight = u64::from(record.sampling);
        if completed {
            target.completed += weight;
            return false;
        }
        let syns = record.packets * weight;
        target.half_open += syns;
        target.records += 1;
        target.first_ns = target.first_ns.min(record.start_ns);
        target.sources.insert(&record.src);
        target.vote(record.dst_port, syns);
        let rate = target.half_open as f64 / WINDOW_S as f64;
        let flooded = rate >= context.config.syn_flood_per_s as f64
            && target.half_open >= RATIO * target.completed
            && (target.sources.count() > FEW_SOURCES || target.has_main_port());
        let belongs = flooded || target.found;
        if belongs {
            report(target, rate, flooded, record, interface, context, episodes);
        }
        belongs
    }

    /// Forgets what is over.
    pub fn tick(&mut self, context: &Context<'_>) {
        let rest = (context.config.cool_down.as_nanos() as u64).max(WINDOW_NS);
        let now = context.now_ns;
        self.targets.expire(|target| now.saturating_sub(target.since_ns) >= rest);
    }

    /// How full it is.
    pub fn size(&self) -> Size {
        self.targets.size("syn_flood_targets")
    }
}

fn report(
    target: &mut Target,
    rate: f64,
    flooded: bool,
    record: &FlowRecord,
    interface: InterfaceId,
    context: &Context<'_>,
    episodes: &mut Episodes,
) {
    let sources = target.sources.count();
    let dst = record.dst;
    // Of all interfaces: the same flood seen at two of them is one.
    let subject =
        Subject { kind: Kind::SynFlood, src: NONE, dst, port: 0, protocol: TCP, interface: 0 };
    let grow = |finding: &mut Finding| {
        finding.add(record.start_ns, record.end_ns);
        finding.value = finding.value.max(rate);
        let most = finding.detail("sources").parse().unwrap_or(0).max(sources);
        if most > 1 {
            finding.src = NONE;
        }
        finding.details.insert("sources", most.to_string());
    };
    if episodes.grow(&subject, context.now_ns, grow) || !flooded {
        return;
    }
    target.found = true;
    let port = target.port.0;
    let share = if target.has_main_port() { "most of them" } else { "some of them" };
    let finding = Finding {
        kind: Kind::SynFlood,
        severity: Severity::Critical,
        interface: context.interfaces.name(interface).clone(),
        src: if sources == 1 { record.src } else { NONE },
        dst,
        port,
        protocol: TCP,
        service: service(TCP, port).unwrap_or(""),
        value: rate,
        threshold: context.config.syn_flood_per_s as f64,
        count: target.records,
        first_ns: target.first_ns,
        last_ns: record.end_ns,
        details: BTreeMap::from([
            ("sources", sources.to_string()),
            ("share", share.into()),
            ("window_s", WINDOW_S.to_string()),
        ]),
    };
    episodes.open(subject, finding, context.now_ns);
}
