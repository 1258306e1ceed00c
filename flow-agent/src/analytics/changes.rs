//! Sudden change: a service at an interface carries far more or far less than it used to.
//!
//! Octets, packets and flows of each service (and of all together) are summed by minute, spread
//! over the time that each record covers; a minute is complete when the records of flows that
//! were open in it have come. Each sum has a baseline of its own: an exponentially weighted mean
//! and mean absolute deviation (the last hour weighs most). A minute is a rise when it is above
//! `mean + K * deviation` and `mean * F` and the minimum volume; it is a drop when the mean is
//! above the minimum volume and the minute is below `mean - K * deviation` and `mean / F`. The
//! first half hour only teaches. A rise teaches no more than the limit it broke.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Context;
use super::bounded::{Bounded, Size};
use super::episodes::{Episodes, Subject};
use super::event::{Finding, Kind, NONE, Severity};
use super::interfaces::InterfaceId;
use super::message::figure;
use crate::record::FlowRecord;
use crate::services::{service, well_known_port};

/// Series that are watched at the same time.
const LIMIT: usize = 4_096;
/// Ns that are summed.
const MINUTE_NS: u64 = 60_000_000_000;
/// Minutes that are open at the same time.
const OPEN: u64 = 4;
/// Minutes without data after which the clock must have jumped, or the host slept.
const GAP: u64 = 10;
/// Minutes that only teach.
const LEARNING: u32 = 30;
/// Minutes that the mean remembers.
const MEMORY: u32 = 60;
/// The protocol of all services together.
const ALL: u8 = 0;
/// That of those without a name.
const OTHER: u8 = 255;

const MEASURES: [Measure; 3] = [
    Measure { unit: "bit/s", scale: 8.0 / 60.0 },
    Measure { unit: "packets/s", scale: 1.0 / 60.0 },
    Measure { unit: "flows/s", scale: 1.0 / 60.0 },
];

struct Measure {
    unit: &'static str,
    /// From the sum of a minute to the unit.
    scale: f64,
}

/// A service at an interface.
type Key = (InterfaceId, u8, u16);

/// What is usual, in sums of a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    minutes: u32,
    mean: f64,
    deviation: f64,
}

/// How far from usual a minute may be.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    factor: f64,
    deviations: f64,
    least: f64,
}

impl Baseline {
    /// What a minute is, if it is far from usual: the kind and the limit it broke.
    fn judge(&self, value: f64, bounds: Bounds) -> Option<(Kind, f64)> {
        if self.minutes < LEARNING {
            return None;
        }
        let width = bounds.deviations * self.deviation;
        let high = (self.mean + width).max(self.mean * bounds.factor).max(bounds.least);
        let low = (self.mean - width).min(self.mean / bounds.factor);
        if value > high {
            Some((Kind::TrafficRise, high))
        } else if self.mean >= bounds.least && value < low {
            Some((Kind::TrafficDrop, low))
        } else {
            None
        }
    }

    fn learn(&mut self, value: f64) {
        self.minutes = self.minutes.saturating_add(1);
        let weight = 1.0 / f64::from(self.minutes.min(MEMORY));
        let distance = (value - self.mean).abs();
        self.mean += weight * (value - self.mean);
        if self.minutes > 1 {
            self.deviation += weight * (distance - self.deviation);
        }
    }
}

/// Sums of octets, packets and flows in a minute.
type Sums = [f64; MEASURES.len()];

#[derive(Debug, Default)]
struct Series {
    open: [Sums; OPEN as usize],
    usual: [Baseline; MEASURES.len()],
}

/// A baseline that is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedSeries {
    /// Name of the interface.
    pub interface: String,
    /// IP protocol, 0 for all.
    pub protocol: u8,
    /// Port of the service.
    pub port: u16,
    /// Of octets, packets and flows.
    pub usual: [Baseline; 3],
}

/// The detector.
#[derive(Debug)]
pub struct Changes {
    series: Bounded<Key, Series>,
    /// The oldest minute that is open; 0 before the first record.
    oldest: u64,
    /// Up to this minute nothing is judged or learned: they were not seen whole.
    unseen: u64,
}

impl Changes {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self { series: Bounded::new(LIMIT), oldest: 0, unseen: 0 }
    }

    /// Looks at a record.
    pub fn observe(&mut self, record: &FlowRecord, interface: InterfaceId, context: &Context<'_>) {
        if self.oldest == 0 {
            self.unseen = context.now_ns / MINUTE_NS;
            self.oldest = self.unseen.saturating_sub(OPEN - 1);
        }
        let weight = f64::from(record.sampling);
        let octets = record.total_octets() as f64 * weight;
        let packets = record.total_packets() as f64 * weight;
        let (protocol, port) = service_key(record);
        for key in [(interface, protocol, port), (interface, ALL, 0)] {
            let series = self.series.entry(key, Series::default).0;
            spread(series, self.oldest, record.start_ns, record.end_ns, [octets, packets, weight]);
        }
    }

    /// Judges the minutes that are complete.
    pub fn tick(&mut self, context: &Context<'_>, episodes: &mut Episodes) {
        let lag = context.config.change_lag.as_nanos() as u64;
        let newest = context.now_ns / MINUTE_NS;
        let complete = (context.now_ns.saturating_sub(lag) / MINUTE_NS)
            .clamp(newest.saturating_sub(OPEN - 1), newest);
        if self.oldest == 0 || complete > self.oldest + GAP || complete + GAP < self.oldest {
            (self.oldest, self.unseen) = (complete, newest);
            self.series.iter_mut().for_each(|(_, series)| series.open = Default::default());
        }
        while self.oldest < complete {
            self.close(context, episodes);
            self.oldest += 1;
        }
    }

    /// Ends the oldest minute.
    fn close(&mut self, context: &Context<'_>, episodes: &mut Episodes) {
        let minute = self.oldest;
        let config = context.config;
        let mut found = Vec::new();
        for (key, series) in self.series.iter_mut() {
            let sums = std::mem::take(&mut series.open[(minute % OPEN) as usize]);
            if minute <= self.unseen {
                continue;
            }
            let mut said = false;
            for (position, (value, usual)) in sums.iter().zip(&mut series.usual).enumerate() {
                let least = config.change_least[position] / MEASURES[position].scale;
                let (factor, deviations) = (config.change_factor, config.change_deviations);
                let verdict = usual.judge(*value, Bounds { factor, deviations, least });
                match verdict {
                    Some((Kind::TrafficRise, limit)) => usual.learn(limit),
                    _ => usual.learn(*value),
                }
                // One measure says it for all: octets first.
                if let Some((kind, limit)) = verdict.filter(|_| !said) {
                    said = true;
                    found.push((*key, position, kind, *value, limit, usual.mean));
                }
            }
        }
        // A service says it for the interface.
        found.sort_by_key(|(key, ..)| (key.0, key.1 == ALL));
        let mut last = None;
        for (key, position, kind, value, limit, mean) in found {
            if key.1 == ALL && last == Some((key.0, kind)) {
                continue;
            }
            last = Some((key.0, kind));
            let measure = &MEASURES[position];
            let [value, limit, mean] = [value, limit, mean].map(|sum| sum * measure.scale);
            report(key, minute, kind, measure.unit, [value, limit, mean], context, episodes);
        }
    }

    /// The baselines that have learned something.
    pub fn save(&self, name: impl Fn(InterfaceId) -> String) -> Vec<SavedSeries> {
        let learned = self.series.iter().filter(|(_, series)| series.usual[0].minutes > 0);
        learned
            .map(|((interface, protocol, port), series)| SavedSeries {
                interface: name(*interface),
                protocol: *protocol,
                port: *port,
                usual: series.usual,
            })
            .collect()
    }

    /// Goes on with what an earlier agent has learned; what this one has learned stays.
    pub fn load(&mut self, saved: Vec<SavedSeries>, mut id: impl FnMut(&str) -> InterfaceId) {
        for SavedSeries { interface, protocol, port, usual } in saved.into_iter().rev() {
            let series = self.series.entry((id(&interface), protocol, port), Series::default).0;
            if series.usual[0].minutes < usual[0].minutes {
                series.usual = usual;
            }
        }
    }

    /// How full it is.
    pub fn size(&self) -> Size {
        self.series.size("baselines")
    }
}

/// The service of a record: its port, if it has a name.
fn service_key(record: &FlowRecord) -> (u8, u16) {
    let protocol = record.protocol;
    let port = well_known_port(protocol, [record.dst_port, record.src_port]);
    port.map_or((OTHER, 0), |port| (protocol, port))
}

/// Adds a record to the minutes it lies in; what is older than all goes to the oldest one.
fn spread(series: &mut Series, oldest: u64, start_ns: u64, end_ns: u64, sums: Sums) {
    let newest = oldest + OPEN - 1;
    let minute = |ns: u64| (ns / MINUTE_NS).clamp(oldest, newest);
    let (first, last) = (minute(start_ns), minute(end_ns.max(start_ns)));
    let place = |minute: u64| (minute % OPEN) as usize;
    series.open[place(first)][2] += sums[2];
    if first == last {
        series.open[place(first)][0] += sums[0];
        series.open[place(first)][1] += sums[1];
        return;
    }
    let begin = start_ns.max(oldest * MINUTE_NS);
    let end = end_ns.min((newest + 1) * MINUTE_NS);
    let whole = (end - begin) as f64;
    for minute in first..=last {
        let from = begin.max(minute * MINUTE_NS);
        let until = end.min((minute + 1) * MINUTE_NS);
        let part = until.saturating_sub(from) as f64 / whole;
        let open = &mut series.open[place(minute)];
        open[0] += sums[0] * part;
        open[1] += sums[1] * part;
    }
}

fn report(
    (interface, protocol, port): Key,
    minute: u64,
    kind: Kind,
    unit: &str,
    [value, limit, mean]: [f64; 3],
    context: &Context<'_>,
    episodes: &mut Episodes,
) {
    let (first_ns, last_ns) = (minute * MINUTE_NS, (minute + 1) * MINUTE_NS);
    let subject = Subject { kind, src: NONE, dst: NONE, port, protocol, interface };
    let grow = |finding: &mut Finding| {
        finding.add(first_ns, last_ns);
        if finding.detail("unit") == unit {
            let value = if kind == Kind::TrafficRise {
                finding.value.max(value)
            } else {
                finding.value.min(value)
            };
            finding.value = value;
        }
    };
    if episodes.grow(&subject, context.now_ns, grow) {
        return;
    }
    let finding = Finding {
        kind,
        severity: Severity::Warning,
        interface: context.interfaces.name(interface).clone(),
        src: NONE,
        dst: NONE,
        port,
        protocol,
        service: service(protocol, port).unwrap_or(""),
        value,
        threshold: limit,
        count: 1,
        first_ns,
        last_ns,
        details: BTreeMap::from([("unit", unit.to_owned()), ("usual", figure(mean))]),
    };
    episodes.open(subject, finding, context.now_ns);
}
