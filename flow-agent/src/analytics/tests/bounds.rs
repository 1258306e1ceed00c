//! Every structure keeps its bound, whatever comes.

use flow_common::random::SplitMix64;

use super::*;

/// How many records, 10 million in the long tests (`cargo xtask test --long`).
const RECORDS: &str = "FLOW_ANALYTICS_RECORDS";

/// Records of random ends, ports, protocols, flags and times: what no network has.
fn random(random: &mut SplitMix64, record: &mut FlowRecord, now: u64) {
    let (a, b) = (random.next(), random.next());
    let wide = a & 0x8000_0000 != 0;
    record.src = if wide { stranger(a as u32 & 0x1_ffff) } else { host(a as u32 & 0xff_ffff) };
    record.dst = if wide { host(b as u32 & 0xff) } else { host(b as u32 & 0xff_ffff) };
    record.src_port = (a >> 32) as u16;
    record.dst_port = (b >> 32) as u16;
    record.protocol = [6, 6, 6, 17, 17, 1, 58, 132][(a >> 48 & 7) as usize];
    record.tcp_flags = (a >> 52) as u8;
    record.reverse_tcp_flags = (b >> 52) as u8 | ACK;
    record.packets = 1 + (b >> 60);
    record.octets = b >> 40;
    record.reverse_packets = a >> 62;
    record.interface = (b >> 48 & 3) as u16;
    record.start_ns = now.wrapping_sub(a >> 24);
    record.end_ns = now.wrapping_add(b >> 28);
    record.initiator_by =
        [InitiatorBy::Syn, InitiatorBy::Icmp, InitiatorBy::FirstPacket][(a % 3) as usize];
}

#[test]
fn bounds_hold_under_random_records() {
    const BATCH: usize = 10_000;
    let batches = match std::env::var(RECORDS) {
        Ok(records) => records.parse::<u64>().expect("a number") / BATCH as u64,
        Err(_) => 100,
    };
    let mut engine = engine();
    let link = LinkState {
        name: "eth0".into(),
        mac: None,
        addresses: vec![(host(1), 104)],
        neighbours: Vec::new(),
    };
    engine.set_network(std::slice::from_ref(&link), START);
    let mut source = SplitMix64::new(99);
    let mut records = vec![request(host(1), 1, host(2), 2); BATCH];
    let (mut events, mut devices) = (0, 0);
    for batch in 0..batches {
        let now = START + batch * SECOND;
        for record in &mut records {
            random(&mut source, record, now);
        }
        engine.observe(&records, &names(), now);
        engine.tick(now);
        if batch % 30 == 0 {
            engine.set_network(std::slice::from_ref(&link), now);
        }
        let output = engine.take();
        // Each interval: what is said anew, and at most one revision of each episode.
        assert!(output.events.len() <= 4_096 + 2 * 120 * Kind::ALL.len());
        assert!(output.devices.len() <= 2 * 16_384, "{}", output.devices.len());
        events += output.events.iter().filter(|event| event.revision == 1).count();
        devices += output.devices.len();
    }
    let sizes = engine.sizes();
    for size in &sizes {
        assert!(size.entries <= size.limit, "{size:?}");
    }
    // The bounds were reached, so that they were tested.
    for name in ["devices", "listeners", "scan_ports", "scan_hosts", "top_talkers"] {
        let size = sizes.iter().find(|size| size.name == name).expect(name);
        assert!(size.forgotten > 0, "{size:?}");
        assert_eq!(size.entries, size.limit, "{size:?}");
    }
    // 120 at once and 120 an hour of each kind.
    let hours = batches as usize / 3_600 + 1;
    assert!(events <= Kind::ALL.len() * 120 * (1 + hours), "{events} events");
    assert!(devices > 0);
    assert_eq!(engine.snapshot(START, None).records, batches * BATCH as u64);
}
