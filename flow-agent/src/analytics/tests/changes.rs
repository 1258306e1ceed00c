//! Sudden change against the own baseline.

use flow_common::random::SplitMix64;

use super::*;

const MINUTE: u64 = 60 * SECOND;

/// Feeds minutes, each with so many octets of https and some noise.
struct Minutes {
    engine: Engine,
    random: SplitMix64,
    now: u64,
}

impl Minutes {
    fn new() -> Self {
        let config = AnalyticsConfig { listeners: false, ..AnalyticsConfig::default() };
        Self { engine: engine_with(config), random: SplitMix64::new(7), now: START }
    }

    fn pass(&mut self, octets: u64) {
        let noise = self.random.next() % (octets / 5 + 1);
        let record = FlowRecord {
            start_ns: self.now,
            end_ns: self.now + 59 * SECOND,
            octets: octets - octets / 10 + noise,
            reverse_octets: 0,
            ..request(stranger(1), 40_000, host(1), 443)
        };
        self.now += MINUTE;
        self.engine.observe(&[record], &names(), self.now);
        self.engine.tick(self.now);
    }

    fn settle(&mut self) -> Vec<Event> {
        for _ in 0..3 {
            self.now += MINUTE;
            self.engine.tick(self.now);
        }
        said(&mut self.engine)
    }
}

/// Octets a minute at 100 Mbit/s.
const USUAL: u64 = 750_000_000;

#[test]
fn a_day_of_noise_is_no_change() {
    let mut minutes = Minutes::new();
    for _ in 0..24 * 60 {
        minutes.pass(USUAL);
    }
    assert_eq!(said(&mut minutes.engine), []);
}

#[test]
fn a_sudden_rise_is_one_event_of_the_service() {
    let mut minutes = Minutes::new();
    for _ in 0..120 {
        minutes.pass(USUAL);
    }
    for _ in 0..5 {
        minutes.pass(10 * USUAL);
    }
    for _ in 0..2 {
        minutes.pass(USUAL);
    }
    let events = minutes.settle();
    let rises: Vec<_> = events.iter().filter(|e| e.finding.kind == Kind::TrafficRise).collect();
    assert_eq!(rises.len(), 1, "{events:?}");
    let finding = &rises[0].finding;
    assert_eq!((finding.service, &*finding.interface), ("https", "eth0"));
    assert!((0.8e9..1.2e9).contains(&finding.value), "bit/s: {}", finding.value);
    assert!(finding.count >= 2, "it went on");
    assert!(rises[0].message.starts_with("Traffic of https on eth0 rose to"));
}

#[test]
fn a_service_that_falls_silent_is_a_drop() {
    let mut minutes = Minutes::new();
    for _ in 0..120 {
        minutes.pass(USUAL);
    }
    let events = minutes.settle();
    let kinds = kinds(&events);
    assert!(kinds.contains(&Kind::TrafficDrop), "{events:?}");
    assert!(!kinds.contains(&Kind::TrafficRise), "{events:?}");
}

#[test]
fn little_traffic_may_change_as_it_likes() {
    let mut minutes = Minutes::new();
    for _ in 0..120 {
        minutes.pass(1_000);
    }
    // 8 Mbit/s, below the limit of 10.
    minutes.pass(60_000_000);
    assert_eq!(minutes.settle(), []);
}

#[test]
fn the_first_half_hour_only_teaches_and_a_jump_of_the_clock_teaches_nothing() {
    let mut minutes = Minutes::new();
    for _ in 0..15 {
        minutes.pass(USUAL);
        minutes.pass(20 * USUAL);
    }
    assert_eq!(said(&mut minutes.engine), []);
    let mut minutes = Minutes::new();
    for _ in 0..60 {
        minutes.pass(USUAL);
    }
    // The host slept for a day.
    minutes.now += 24 * 60 * MINUTE;
    minutes.engine.tick(minutes.now);
    for _ in 0..10 {
        minutes.pass(USUAL);
    }
    assert_eq!(said(&mut minutes.engine), []);
}
