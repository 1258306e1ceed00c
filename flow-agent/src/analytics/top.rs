//! Who talks most: addresses, conversations and services over a sliding window, and how long
//! flows last.
//!
//! Each list is a [`SpaceSaving`] sketch by octets, so that its errors are known and its memory
//! is fixed. The window slides by halves: what is shown covers the last half to whole window.

use std::collections::BTreeSet;
use std::hash::Hash;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Context;
use super::bounded::Size;
use super::event::{Address, ip};
use super::interfaces::{InterfaceId, Interfaces};
use super::space_saving::{Heavy, SpaceSaving};
use crate::record::{FlowEndReason, FlowRecord};
use crate::services::{service, well_known_port};

/// Places of each sketch.
const PLACES: usize = 1_024;
/// Entries of each list that is shown.
const SHOWN: usize = 50;
/// Flows that last longer count as a day.
const LONGEST_US: u64 = 86_400_000_000;

type Conversation = (InterfaceId, Address, Address, u8, u16);

/// A half of the window.
#[derive(Debug)]
struct Half {
    since_ns: u64,
    talkers: SpaceSaving<(InterfaceId, Address)>,
    conversations: SpaceSaving<Conversation>,
    services: SpaceSaving<(InterfaceId, u8, u16)>,
    /// By class of protocol, in µs.
    durations: [Histogram<u64>; CLASSES.len()],
}

const CLASSES: [&str; 4] = ["tcp", "udp", "icmp", "other"];

impl Half {
    fn new(since_ns: u64) -> Self {
        let histogram =
            |_| Histogram::new_with_bounds(1, LONGEST_US, 2).expect("constant bounds are valid");
        Self {
            since_ns,
            talkers: SpaceSaving::new(PLACES),
            conversations: SpaceSaving::new(PLACES),
            services: SpaceSaving::new(PLACES),
            durations: CLASSES.map(histogram),
        }
    }
}

/// The sketches.
#[derive(Debug)]
pub struct Top {
    now: Half,
    before: Half,
    replaced: [u64; 3],
}

impl Top {
    /// Nothing seen yet.
    pub fn new(now_ns: u64) -> Self {
        Self { now: Half::new(now_ns), before: Half::new(now_ns), replaced: [0; 3] }
    }

    /// Looks at a record.
    pub fn observe(&mut self, record: &FlowRecord, interface: InterfaceId) {
        let FlowRecord { src, dst, protocol, dst_port, src_port, .. } = *record;
        let weight = u64::from(record.sampling);
        let octets = record.total_octets() * weight;
        let packets = record.total_packets() * weight;
        let half = &mut self.now;
        half.talkers.add((interface, src), octets, packets);
        half.talkers.add((interface, dst), octets, packets);
        let port = well_known_port(protocol, [dst_port, src_port]).unwrap_or(0);
        half.conversations.add((interface, src, dst, protocol, port), octets, packets);
        half.services.add((interface, protocol, port), octets, packets);
        // A flow that goes on has no duration yet.
        if record.end_reason != FlowEndReason::ActiveTimeout {
            let class = match protocol {
                6 => 0,
                17 => 1,
                1 | 58 => 2,
                _ => 3,
            };
            let lasted = record.end_ns.saturating_sub(record.start_ns) / 1_000;
            half.durations[class].saturating_record(lasted.max(1));
        }
    }

    /// Slides the window.
    pub fn tick(&mut self, context: &Context<'_>) {
        let half = context.config.top_window.as_nanos() as u64 / 2;
        if context.now_ns.saturating_sub(self.now.since_ns) >= half {
            let replaced = [
                self.now.talkers.replaced(),
                self.now.conversations.replaced(),
                self.now.services.replaced(),
            ];
            for (sum, replaced) in self.replaced.iter_mut().zip(replaced) {
                *sum += replaced;
            }
            self.before = std::mem::replace(&mut self.now, Half::new(context.now_ns));
        }
    }

    /// What there is to show.
    pub fn view(&self, interfaces: &Interfaces, now_ns: u64) -> TopView {
        let name = |id: InterfaceId| interfaces.name(id).to_string();
        TopView {
            seconds: now_ns.saturating_sub(self.before.since_ns) / 1_000_000_000,
            talkers: heaviest(&self.now.talkers, &self.before.talkers, |(interface, address)| {
                Talker { interface: name(interface), address: ip(address).to_string() }
            }),
            conversations: heaviest(
                &self.now.conversations,
                &self.before.conversations,
                |(interface, src, dst, protocol, port)| ConversationView {
                    interface: name(interface),
                    src: ip(src).to_string(),
                    dst: ip(dst).to_string(),
                    protocol,
                    service: service(protocol, port).unwrap_or("").into(),
                },
            ),
            services: heaviest(
                &self.now.services,
                &self.before.services,
                |(interface, protocol, port)| ServiceView {
                    interface: name(interface),
                    protocol,
                    port,
                    service: service(protocol, port).unwrap_or("").into(),
                },
            ),
            durations: self.durations(),
        }
    }

    /// How full the sketches are; "forgotten" are keys that lost their place to others.
    pub fn sizes(&self) -> [Size; 3] {
        let size = |name, entries, position: usize, replaced| Size {
            name,
            entries,
            limit: PLACES,
            forgotten: self.replaced[position] + replaced,
        };
        let half = &self.now;
        [
            size("top_talkers", half.talkers.keys().len(), 0, half.talkers.replaced()),
            size(
                "top_conversations",
                half.conversations.keys().len(),
                1,
                half.conversations.replaced(),
            ),
            size("top_services", half.services.keys().len(), 2, half.services.replaced()),
        ]
    }

    fn durations(&self) -> Vec<DurationView> {
        let mut views = Vec::new();
        for (position, class) in CLASSES.into_iter().enumerate() {
            let mut both = self.before.durations[position].clone();
            // The bounds are the same.
            if both.add(&self.now.durations[position]).is_err() || both.is_empty() {
                continue;
            }
            let quantile = |share| both.value_at_quantile(share) as f64 / 1e6;
            views.push(DurationView {
                protocol: class,
                flows: both.len(),
                p50_s: quantile(0.5),
                p90_s: quantile(0.9),
                p99_s: quantile(0.99),
                max_s: both.max() as f64 / 1e6,
            });
        }
        views
    }
}

/// The heaviest of both halves together: bounds add up.
fn heaviest<K: Copy + Eq + Hash + Ord, T>(
    now: &SpaceSaving<K>,
    before: &SpaceSaving<K>,
    show: impl Fn(K) -> T,
) -> Vec<Ranked<T>> {
    let keys: BTreeSet<K> = now.keys().iter().chain(before.keys()).map(|heavy| heavy.key).collect();
    let both = |key: &K| {
        let (now, before) = (now.get(key), before.get(key));
        let (weight, error) = (now.weight + before.weight, now.error + before.error);
        Heavy { key: *key, weight, error, packets: now.packets + before.packets }
    };
    let mut heaviest: Vec<_> = keys.iter().map(both).collect();
    heaviest.sort_unstable_by_key(|heavy| (u64::MAX - heavy.weight, heavy.key));
    heaviest.truncate(SHOWN);
    let ranked = |heavy: Heavy<K>| Ranked {
        what: show(heavy.key),
        octets: heavy.weight,
        octets_error: heavy.error,
        packets: heavy.packets,
    };
    heaviest.into_iter().map(ranked).collect()
}

/// What is shown of the window.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TopView {
    /// How long it is.
    pub seconds: u64,
    /// Addresses, both directions and both ends.
    pub talkers: Vec<Ranked<Talker>>,
    /// Pairs of addresses with a service.
    pub conversations: Vec<Ranked<ConversationView>>,
    /// Services.
    pub services: Vec<Ranked<ServiceView>>,
    /// How long flows last.
    pub durations: Vec<DurationView>,
}

/// An entry of a list: its octets lie between `octets - octets_error` and `octets`.
#[derive(Clone, Debug, Serialize)]
pub struct Ranked<T> {
    /// Who.
    #[serde(flatten)]
    pub what: T,
    /// At most.
    pub octets: u64,
    /// By how much that may be too many.
    pub octets_error: u64,
    /// At least these; all of them if the octets have no error.
    pub packets: u64,
}

/// An address at an interface.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "as in the table flows")]
pub struct Talker {
    pub interface: String,
    pub address: String,
}

/// Two addresses and what they talk.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "as in the table flows")]
pub struct ConversationView {
    pub interface: String,
    pub src: String,
    pub dst: String,
    pub protocol: u8,
    pub service: String,
}

/// A service; port 0 is all ports without a name.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "as in the table flows")]
pub struct ServiceView {
    pub interface: String,
    pub protocol: u8,
    pub port: u16,
    pub service: String,
}

/// How long flows lasted (the last record of each, so at most the active timeout), in seconds,
/// +-1 %.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct DurationView {
    pub protocol: &'static str,
    pub flows: u64,
    pub p50_s: f64,
    pub p90_s: f64,
    pub p99_s: f64,
    pub max_s: f64,
}
