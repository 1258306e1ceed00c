//! Scanners, and those who are none.

use proptest::prelude::*;

use super::*;

#[test]
fn a_port_scan_is_one_event_with_its_counts() {
    for probe in [syn, refused] {
        let mut engine = engine();
        for tenth in 0..10 {
            let now = START + tenth * SECOND;
            let ports = 1 + 100 * tenth as u16..101 + 100 * tenth as u16;
            let scan: Vec<_> = ports
                .map(|port| FlowRecord {
                    start_ns: now,
                    end_ns: now + 5,
                    ..probe(host(1), stranger(2), port)
                })
                .collect();
            engine.observe(&scan, &names(), now);
            engine.tick(now);
        }
        engine.finish(START + 20 * SECOND);
        let events = said(&mut engine);
        assert_eq!(kinds(&events), [Kind::PortScan]);
        let finding = &events[0].finding;
        assert_eq!((finding.src, finding.dst), (host(1), stranger(2)));
        assert_eq!(finding.count, 1_000, "every attempt");
        assert_eq!((finding.first_ns, finding.last_ns), (START, START + 9 * SECOND + 5));
        assert!((850.0..1_150.0).contains(&finding.value), "{}", finding.value);
        assert_eq!(finding.severity, Severity::Critical, "from inside");
        assert_eq!(&*finding.interface, "eth0");
        assert!(events[0].message.contains("10.0.0.1 tries the ports of 198.18.0.2"));
        // The same source an hour later is another scan.
        let later = START + 3_600 * SECOND;
        engine.tick(later);
        let scan: Vec<_> = (1..=150).map(|port| probe(host(1), stranger(2), port)).collect();
        engine.observe(&scan, &names(), later);
        let again = said(&mut engine);
        assert_eq!(kinds(&again), [Kind::PortScan]);
        assert_ne!(again[0].id, events[0].id);
    }
}

#[test]
fn the_same_scan_at_two_interfaces_is_one_event() {
    let mut engine = engine();
    for interface in [1, 2] {
        let scan: Vec<_> = (1..=500)
            .map(|port| FlowRecord { interface, ..refused(stranger(1), host(2), port) })
            .collect();
        engine.observe(&scan, &names(), START);
    }
    assert_eq!(kinds(&said(&mut engine)), [Kind::PortScan]);
}

#[test]
fn who_looks_for_hosts_is_found_by_tcp_udp_and_ping() {
    let tcp = |n| syn(stranger(1), host(n), 445);
    let udp = |n| FlowRecord { protocol: 17, ..syn(stranger(1), host(n), 161) };
    let ping = |n| FlowRecord {
        protocol: 1,
        tcp_flags: 0,
        icmp_type: 8,
        initiator_by: InitiatorBy::Icmp,
        dst_port: 0,
        ..syn(stranger(1), host(n), 0)
    };
    type Probe<'a> = (&'a dyn Fn(u32) -> FlowRecord, u8, u16);
    let probes: [Probe<'_>; 3] = [(&tcp, 6, 445), (&udp, 17, 161), (&ping, 1, 0)];
    for (probe, protocol, port) in probes {
        let mut engine = engine();
        let scan: Vec<_> = (0..254).map(probe).collect();
        engine.observe(&scan, &names(), START);
        let events = said(&mut engine);
        assert_eq!(kinds(&events), [Kind::HostScan], "{protocol}");
        let finding = &events[0].finding;
        assert_eq!((finding.protocol, finding.port), (protocol, port));
        assert_eq!(finding.src, stranger(1));
        assert_eq!(finding.severity, Severity::Warning);
    }
}

#[test]
fn null_fin_and_xmas_scans_are_found() {
    for flags in [0, FIN, FIN | 0x28] {
        let mut engine = engine();
        let probe = |port| FlowRecord {
            tcp_flags: flags,
            initiator_by: InitiatorBy::FirstPacket,
            ..refused(stranger(1), host(2), port)
        };
        let scan: Vec<_> = (1..=200).map(probe).collect();
        engine.observe(&scan, &names(), START);
        assert_eq!(kinds(&said(&mut engine)), [Kind::PortScan], "{flags}");
    }
}

#[test]
fn a_source_that_tries_a_whole_network_is_few_events() {
    let mut engine = engine();
    for target in 0..250 {
        let scan: Vec<_> = (1..=200).map(|port| syn(host(1), stranger(target), port)).collect();
        engine.observe(&scan, &names(), START + u64::from(target) * SECOND / 10);
    }
    engine.finish(START + 60 * SECOND);
    let events = said(&mut engine);
    assert_eq!(events.len(), 5, "{:?}", events.iter().map(|e| &e.message).collect::<Vec<_>>());
    let rest = events.last().expect("five");
    assert!(rest.message.contains("many ports of many hosts"), "{}", rest.message);
}

#[test]
fn a_flood_of_invented_addresses_does_not_hide_a_scanner() {
    let mut engine = engine();
    for step in 0..150 {
        let now = START + step * SECOND / 10;
        let flood: Vec<_> =
            (0..2_000).map(|n| syn(stranger(n + 2_000 * step as u32), host(1), 443)).collect();
        engine.observe(&flood, &names(), now);
        engine.observe(&[refused(host(7), host(8), 1 + step as u16)], &names(), now);
    }
    engine.finish(START + 20 * SECOND);
    let events = said(&mut engine);
    assert_eq!(kinds(&events), [Kind::SynFlood, Kind::PortScan]);
    assert_eq!(events[1].finding.count, 150);
}

#[test]
fn a_source_that_may_scan_is_left_alone() {
    let ignored_sources = vec![Prefix::around(host(1), 128)];
    let config = AnalyticsConfig { ignored_sources, ..AnalyticsConfig::default() };
    let mut engine = engine_with(config);
    for source in [1, 2] {
        let scan: Vec<_> = (1..=500).map(|port| syn(host(source), host(9), port)).collect();
        engine.observe(&scan, &names(), START);
    }
    let events = said(&mut engine);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].finding.src, host(2));
}

#[test]
fn ordinary_traffic_is_no_scan_and_no_flood() {
    let mut engine = engine();
    // A web server with 10,000 clients, each with a few connections.
    let mut records: Vec<_> = (0..40_000)
        .map(|n| request(stranger(n % 10_000), 30_000 + (n / 10_000) as u16, host(1), 443))
        .collect();
    // Some are seen from their middle on, and the wrong end is taken for the initiator.
    records.extend((0..5_000u16).map(|n| FlowRecord {
        initiator_by: InitiatorBy::FirstPacket,
        tcp_flags: ACK,
        reverse_tcp_flags: ACK,
        ..request(host(1), 443, stranger(1), 30_000 + n)
    }));
    // A few percent of its clients give up before the handshake is complete.
    records.extend((0..1_000).map(|n| syn(stranger(n), host(1), 443)));
    // A resolver asks 10,000 servers, and some do not answer.
    records.extend((0..10_000).map(|n| FlowRecord {
        protocol: 17,
        tcp_flags: 0,
        reverse_tcp_flags: 0,
        initiator_by: InitiatorBy::ServicePort,
        packets: 1,
        reverse_packets: u64::from(n % 200 != 0),
        ..request(host(3), 5_353, stranger(n), 53)
    }));
    // A crawler asks 10,000 hosts, and a few are gone.
    records.extend((0..10_000).map(|n| match n % 200 {
        0 => syn(host(4), stranger(n), 443),
        _ => request(host(4), 40_000, stranger(n), 443),
    }));
    // A client that tries a closed port again and again.
    records.extend((0..5_000).map(|_| refused(host(5), host(6), 5_432)));
    // One way only of many connections, as an asymmetric router sees them.
    records.extend((0..10_000).map(|n| FlowRecord {
        reverse_packets: 0,
        reverse_tcp_flags: 0,
        ..request(host(7), 40_000, stranger(n), 443)
    }));
    // A traceroute.
    records.extend(
        (0..90).map(|n| FlowRecord { protocol: 17, ..syn(host(8), stranger(1), 33_434 + n) }),
    );
    // Multicast.
    records.extend((0..500).map(|n| FlowRecord {
        protocol: 17,
        ..syn(host(9), mapped([224, 0, (n / 256) as u8, (n % 256) as u8].into()), 5_353)
    }));
    for batch in records.chunks(1_000) {
        engine.observe(batch, &names(), START);
    }
    engine.finish(START + SECOND);
    // Servers of this network that answer are listeners, which is another matter.
    let events = said(&mut engine);
    let loud = events.iter().filter(|event| event.finding.kind != Kind::NewListener);
    assert_eq!(loud.map(|event| &event.message).collect::<Vec<_>>(), Vec::<&String>::new());
}

proptest! {
    #[test]
    fn below_the_limit_nothing_is_said(
        ports in prop::collection::vec(1..=99u16, 1..500),
        gaps in prop::collection::vec(0..5u64, 500),
    ) {
        let mut engine = engine();
        let mut now = START;
        for (port, gap) in ports.iter().zip(gaps) {
            now += gap * SECOND;
            engine.observe(&[syn(host(1), host(2), *port)], &names(), now);
            engine.tick(now);
        }
        prop_assert_eq!(said(&mut engine), vec![]);
    }

    #[test]
    fn twice_the_limit_in_a_window_is_found_wherever_it_begins(before in 0..60u64) {
        let mut engine = engine();
        engine.observe(&[syn(host(1), host(2), 1)], &names(), START);
        let now = START + before * SECOND;
        for port in 1..=200u16 {
            let now = now + u64::from(port) * SECOND * 59 / 200;
            engine.observe(&[syn(host(1), host(2), port)], &names(), now);
        }
        prop_assert_eq!(kinds(&said(&mut engine)), [Kind::PortScan]);
    }
}
