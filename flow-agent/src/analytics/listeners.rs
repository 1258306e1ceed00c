//! New listeners: an address of this network answers at a port for the first time.
//!
//! TCP answers by a SYN with ACK. UDP has no such sign: only ports of known services count there,
//! and only with packets both ways. What was seen is remembered for [`TTL_NS`] after it was last
//! seen. While the agent learns (after a start without saved state) nothing is said.

use std::collections::BTreeMap;

use flow_common::tcp::flags::{ACK, SYN};
use serde::{Deserialize, Serialize};

use super::Context;
use super::bounded::{Bounded, Size};
use super::episodes::{Episodes, Subject};
use super::event::{Address, Finding, Kind, Severity};
use super::interfaces::InterfaceId;
use crate::record::{FlowRecord, InitiatorBy};
use crate::services::{is_well_known, service};

/// Listeners that are remembered.
const LIMIT: usize = 32_768;
/// A listener that was not asked for so long is new again: 30 days.
const TTL_NS: u64 = 30 * 86_400 * 1_000_000_000;
/// New listeners of one address in a cool-down; what comes after them belongs to the last.
const EVENTS_OF_AN_ADDRESS: u32 = 8;
/// Addresses whose events are counted.
const ADDRESSES: usize = 1_024;

const TCP: u8 = 6;
const UDP: u8 = 17;

type Key = (Address, u8, u16);

/// The detector.
#[derive(Debug)]
pub struct Listeners {
    /// When each was last seen, Unix ns.
    known: Bounded<Key, u64>,
    /// How many events an address has, and since when.
    addresses: Bounded<Address, (u32, u64)>,
}

/// One that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its address.
    pub address: Address,
    /// The IP protocol.
    pub protocol: u8,
    /// The port.
    pub port: u16,
    /// When it was last seen, Unix ns.
    pub last_ns: u64,
}

impl Listeners {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self { known: Bounded::new(LIMIT), addresses: Bounded::new(ADDRESSES) }
    }

    /// Looks at a record.
    pub fn observe(
        &mut self,
        record: &FlowRecord,
        interface: InterfaceId,
        context: &Context<'_>,
        episodes: &mut Episodes,
    ) {
        if !answers(record) || !context.network.is_local(record.dst) {
            return;
        }
        let FlowRecord { src, dst, protocol, dst_port: port, .. } = *record;
        let now = context.now_ns;
        let mut new = false;
        let make = || {
            new = true;
            now
        };
        *self.known.entry((dst, protocol, port), make).0 = now;
        if !new || context.learning {
            return;
        }
        let (events, since) = self.addresses.entry(dst, || (0, now)).0;
        if now.saturating_sub(*since) >= context.config.cool_down.as_nanos() as u64 {
            (*events, *since) = (0, now);
        }
        *events += 1;
        // A host that opens ports all the time is one event more, not thousands.
        let many = *events > EVENTS_OF_AN_ADDRESS;
        let kind = Kind::NewListener;
        let subject = Subject {
            kind,
            src: dst,
            dst,
            port: if many { 0 } else { port },
            protocol: if many { 0 } else { protocol },
            interface: 0,
        };
        let grow = |finding: &mut Finding| {
            finding.add(record.start_ns, record.end_ns);
            finding.value += 1.0;
        };
        if episodes.grow(&subject, now, grow) {
            return;
        }
        let finding = Finding {
            kind,
            severity: Severity::Warning,
            interface: context.interfaces.name(interface).clone(),
            src,
            dst,
            port,
            protocol,
            service: service(protocol, port).unwrap_or(""),
            value: 1.0,
            threshold: 1.0,
            count: 1,
            first_ns: record.start_ns,
            last_ns: record.end_ns,
            details: BTreeMap::new(),
        };
        episodes.open(subject, finding, now);
    }

    /// Forgets what was not seen for long.
    pub fn tick(&mut self, context: &Context<'_>) {
        let (now, cool_down) = (context.now_ns, context.config.cool_down.as_nanos() as u64);
        self.known.expire(|last| now.saturating_sub(*last) >= TTL_NS);
        self.addresses.expire(|(_, since)| now.saturating_sub(*since) >= cool_down);
    }

    /// What is remembered, most recently seen first.
    pub fn save(&self) -> Vec<Listener> {
        let listener = |(key, last): (&Key, &u64)| {
            let (address, protocol, port) = *key;
            Listener { address, protocol, port, last_ns: *last }
        };
        self.known.iter().map(listener).collect()
    }

    /// Remembers what an earlier agent has seen.
    pub fn load(&mut self, saved: Vec<Listener>) {
        for Listener { address, protocol, port, last_ns } in saved.into_iter().rev() {
            let last = self.known.entry((address, protocol, port), || last_ns).0;
            *last = last_ns.max(*last);
        }
    }

    /// How full it is.
    pub fn sizes(&self) -> [Size; 2] {
        [self.known.size("listeners"), self.addresses.size("listener_addresses")]
    }
}

fn answers(record: &FlowRecord) -> bool {
    match record.protocol {
        TCP => {
            record.initiator_by == InitiatorBy::Syn
                && record.reverse_tcp_flags & (SYN | ACK) == SYN | ACK
        }
        UDP => {
            record.packets > 0 && record.reverse_packets > 0 && is_well_known(UDP, record.dst_port)
        }
        _ => false,
    }
}
