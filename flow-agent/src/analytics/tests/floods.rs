//! SYN floods.

use super::*;

#[test]
fn a_flood_of_many_sources_is_one_event_about_its_target() {
    let mut engine = engine();
    for second in 0..30 {
        let now = START + second * SECOND;
        let flood: Vec<_> = (0..2_000)
            .map(|n| FlowRecord {
                start_ns: now,
                end_ns: now,
                ..syn(stranger(n + 2_000 * second as u32), host(1), 443)
            })
            .collect();
        for interface in [1, 2] {
            let seen: Vec<_> =
                flood.iter().map(|record| FlowRecord { interface, ..record.clone() }).collect();
            engine.observe(&seen, &names(), now);
        }
        engine.tick(now);
    }
    engine.finish(START + 40 * SECOND);
    let events = said(&mut engine);
    assert_eq!(kinds(&events), [Kind::SynFlood]);
    let finding = &events[0].finding;
    assert_eq!((finding.dst, finding.port, finding.protocol), (host(1), 443, 6));
    assert_eq!(finding.src, [0; 16], "many");
    assert!((1_900.0..=2_100.0).contains(&finding.value), "a second: {}", finding.value);
    let sources: u64 = finding.detail("sources").parse().expect("a number");
    assert!((17_000..23_000).contains(&sources), "of the last windows: {sources}");
    assert_eq!(finding.first_ns, START);
    assert_eq!(finding.severity, Severity::Critical);
    assert!(events[0].message.contains("port 443 (https)"), "{}", events[0].message);
}

#[test]
fn one_source_that_floods_one_port_is_named() {
    let mut engine = engine();
    let flood: Vec<_> = (0..5_000)
        .map(|port| FlowRecord { src_port: port, ..syn(stranger(9), host(1), 80) })
        .collect();
    engine.observe(&flood, &names(), START);
    let events = said(&mut engine);
    assert_eq!(kinds(&events), [Kind::SynFlood]);
    assert_eq!(events[0].finding.src, stranger(9));
}

#[test]
fn a_scan_of_many_ports_is_no_flood() {
    let mut engine = engine();
    let scan: Vec<_> = (1..=20_000).map(|port| syn(stranger(9), host(1), port)).collect();
    engine.observe(&scan, &names(), START);
    assert_eq!(kinds(&said(&mut engine)), [Kind::PortScan]);
}

#[test]
fn a_sampled_flood_counts_with_its_weight() {
    let mut engine = engine();
    let flood: Vec<_> =
        (0..50).map(|n| FlowRecord { sampling: 100, ..syn(stranger(n), host(1), 80) }).collect();
    engine.observe(&flood, &names(), START);
    assert_eq!(kinds(&said(&mut engine)), [Kind::SynFlood]);
}

#[test]
fn a_busy_server_that_completes_most_handshakes_is_not_flooded() {
    let mut engine = engine();
    let mut records = Vec::new();
    for n in 0..40_000 {
        records.push(request(stranger(n), 40_000, host(1), 443));
        if n % 5 == 0 {
            records.push(syn(stranger(n), host(1), 443));
        }
    }
    for batch in records.chunks(500) {
        engine.observe(batch, &names(), START);
    }
    let floods = said(&mut engine).into_iter().filter(|e| e.finding.kind == Kind::SynFlood);
    assert_eq!(floods.count(), 0);
}
