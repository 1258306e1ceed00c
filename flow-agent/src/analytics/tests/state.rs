//! What is remembered over a restart.

use proptest::prelude::*;

use super::*;

/// An engine that has learned: a device, a listener, baselines.
fn learned() -> (Engine, u64) {
    let mut engine = engine_with(AnalyticsConfig::default());
    let neighbour =
        Neighbour { address: host(2), mac: [2, 0, 0, 0, 0, 9], confirmed_ns: Some(START) };
    engine.set_network(&[link(vec![neighbour])], START);
    let mut now = START;
    for _ in 0..60 {
        let record = FlowRecord {
            start_ns: now,
            end_ns: now + SECOND,
            octets: 750_000_000,
            ..request(stranger(1), 40_000, host(1), 443)
        };
        now += 60 * SECOND;
        engine.observe(&[record], &names(), now);
        engine.tick(now);
    }
    engine.take();
    (engine, now)
}

fn link(neighbours: Vec<Neighbour>) -> LinkState {
    LinkState { name: "eth0".into(), mac: None, addresses: vec![(host(1), 120)], neighbours }
}

#[test]
fn the_next_agent_knows_what_this_one_knew() {
    let (engine, now) = learned();
    let state = engine.save(now);
    let mut next = Engine::new(AnalyticsConfig::default(), now);
    next.load(&state, now).expect("its own");
    assert!(!next.snapshot(now, None).learning, "nothing is left to learn");
    // Neither the device nor the listener is news, but what is new now is.
    let neighbour =
        Neighbour { address: host(2), mac: [2, 0, 0, 0, 0, 9], confirmed_ns: Some(now) };
    let other = Neighbour { address: host(3), mac: [2, 0, 0, 0, 0, 7], confirmed_ns: Some(now) };
    next.set_network(&[link(vec![neighbour, other])], now);
    let old = FlowRecord {
        start_ns: now + 60 * SECOND,
        end_ns: now + 61 * SECOND,
        octets: 75_000_000_000,
        ..request(stranger(1), 40_000, host(1), 443)
    };
    let new = request(stranger(1), 40_000, host(1), 8_443);
    next.observe(&[new], &names(), now);
    assert_eq!(kinds(&said(&mut next)), [Kind::NewDevice, Kind::NewListener]);
    // The baseline goes on, too.
    next.tick(now + 62 * SECOND);
    next.observe(&[old], &names(), now + 62 * SECOND);
    for minute in 1..5 {
        next.tick(now + minute * 60 * SECOND);
    }
    assert!(kinds(&said(&mut next)).contains(&Kind::TrafficRise));
    // Saving again gives what was saved, beside what is new.
    let mut again = Engine::new(AnalyticsConfig::default(), now);
    again.load(&state, now).expect("its own");
    let saved: serde_json::Value = serde_json::from_slice(&again.save(now)).expect("json");
    let before: serde_json::Value = serde_json::from_slice(&state).expect("json");
    assert_eq!(saved, before);
}

#[test]
fn another_version_is_refused_by_name() {
    let (engine, now) = learned();
    let text = String::from_utf8(engine.save(now)).expect("json");
    let newer = text.replacen("\"version\":1", "\"version\":2", 1);
    let mut next = Engine::new(AnalyticsConfig::default(), now);
    let error = next.load(newer.as_bytes(), now).expect_err("refused").to_string();
    assert!(error.contains("version 2, this agent knows 1"), "{error}");
    assert!(next.snapshot(now, None).learning);
}

proptest! {
    #[test]
    fn damage_is_refused_or_harmless(cut in 0..1000usize, at in 0..1000usize, octet: u8) {
        let (engine, now) = learned();
        let mut state = engine.save(now);
        let mut next = Engine::new(AnalyticsConfig::default(), now);
        prop_assert!(next.load(&state[..cut % state.len()], now).is_err());
        let at = at % state.len();
        state[at] = octet;
        let _ = next.load(&state, now);
        next.observe(&[request(stranger(1), 1, host(1), 443)], &names(), now);
        next.tick(now + 600 * SECOND);
    }
}
