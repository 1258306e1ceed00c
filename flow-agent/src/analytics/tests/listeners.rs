//! New listeners.

use super::*;

#[test]
fn a_new_listener_is_said_once_and_only_after_learning() {
    let mut engine = engine_with(AnalyticsConfig::default());
    let old = request(stranger(1), 40_000, host(1), 443);
    engine.observe(std::slice::from_ref(&old), &names(), START);
    let later = START + 601 * SECOND;
    engine.tick(later);
    engine.observe(&[old], &names(), later);
    assert_eq!(said(&mut engine), [], "learned");
    let new = request(stranger(1), 40_000, host(1), 4_444);
    for second in 0..100 {
        engine.observe(std::slice::from_ref(&new), &names(), later + second * SECOND);
        engine.tick(later + second * SECOND);
    }
    engine.finish(later + 100 * SECOND);
    let events = said(&mut engine);
    assert_eq!(kinds(&events), [Kind::NewListener]);
    let finding = &events[0].finding;
    assert_eq!((finding.dst, finding.port, finding.protocol), (host(1), 4_444, 6));
    assert!(events[0].message.contains("10.0.0.1 answers at TCP port 4444"));
    // It is known for a month after it was last seen, and then new again.
    const DAY: u64 = 86_400 * SECOND;
    let seen = later + 29 * DAY;
    engine.tick(seen);
    engine.observe(std::slice::from_ref(&new), &names(), seen);
    assert_eq!(said(&mut engine), []);
    engine.tick(seen + 31 * DAY);
    engine.observe(&[new], &names(), seen + 31 * DAY);
    assert_eq!(kinds(&said(&mut engine)), [Kind::NewListener]);
}

#[test]
fn only_answers_of_this_network_count() {
    let mut engine = engine();
    let udp = |dst_port, reverse_packets| FlowRecord {
        protocol: 17,
        tcp_flags: 0,
        reverse_tcp_flags: 0,
        initiator_by: InitiatorBy::FirstPacket,
        reverse_packets,
        ..request(stranger(1), 40_000, host(1), dst_port)
    };
    let silent = [
        request(host(1), 40_000, stranger(1), 443),
        refused(stranger(1), host(1), 22),
        syn(stranger(1), host(1), 22),
        udp(53, 0),
        udp(61_234, 5),
        FlowRecord {
            initiator_by: InitiatorBy::FirstPacket,
            ..request(host(1), 443, host(2), 40_000)
        },
    ];
    engine.observe(&silent, &names(), START);
    assert_eq!(said(&mut engine), []);
    engine.observe(&[udp(53, 1)], &names(), START);
    assert_eq!(said(&mut engine)[0].finding.service, "domain");
}

#[test]
fn a_host_that_opens_ports_all_the_time_is_few_events() {
    let mut engine = engine();
    let records: Vec<_> =
        (20_000..30_000).map(|port| request(stranger(1), 40_000, host(1), port)).collect();
    engine.observe(&records, &names(), START);
    engine.finish(START + SECOND);
    let events = said(&mut engine);
    assert_eq!(events.len(), 9);
    let rest = events.last().expect("nine");
    assert!(rest.message.contains("and at 9991 other ports"), "{}", rest.message);
}
