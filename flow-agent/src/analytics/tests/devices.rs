//! The device inventory.

use super::*;

const MAC_A: Mac = [2, 0, 0, 0, 0, 0xa];
const MAC_B: Mac = [2, 0, 0, 0, 0, 0xb];
const OWN: Mac = [2, 0, 0, 0, 0, 1];

fn link(neighbours: Vec<Neighbour>) -> LinkState {
    LinkState { name: "eth0".into(), mac: Some(OWN), addresses: vec![(host(1), 120)], neighbours }
}

fn neighbour(address: Address, mac: Mac, confirmed_ns: u64) -> Neighbour {
    Neighbour { address, mac, confirmed_ns: Some(confirmed_ns) }
}

fn row<'a>(rows: &'a [DeviceRow], address: Address, mac: &str) -> &'a DeviceRow {
    let found = rows.iter().find(|row| row.address == address && row.mac == mac);
    found.unwrap_or_else(|| panic!("{} {mac} is not in {rows:?}", ip(address)))
}

#[test]
fn what_is_there_at_the_start_is_listed_and_not_news() {
    let mut engine = engine_with(AnalyticsConfig::default());
    engine.set_network(&[link(vec![neighbour(host(2), MAC_A, START - SECOND)])], START);
    let Output { events, devices } = engine.take();
    assert_eq!(events, []);
    assert_eq!(devices.len(), 2);
    let own = row(&devices, host(1), "02:00:00:00:00:01");
    assert!(own.own && own.last_ns == START);
    let other = row(&devices, host(2), "02:00:00:00:00:0a");
    assert!(!other.own);
    assert_eq!((other.first_ns, other.last_ns), (START - SECOND, START - SECOND));
    // Nothing new, nothing written.
    engine.set_network(&[link(vec![neighbour(host(2), MAC_A, START - SECOND)])], START + SECOND);
    assert_eq!(engine.take().devices, []);
}

#[test]
fn a_device_of_a_flow_gets_its_mac_and_one_event() {
    let mut engine = engine();
    engine.set_network(&[link(vec![])], START);
    engine.take();
    let flow = request(host(5), 40_000, stranger(1), 443);
    engine.observe(std::slice::from_ref(&flow), &names(), START + SECOND);
    engine.tick(START + 2 * SECOND);
    assert_eq!(engine.take(), Output::default(), "the neighbour table knows more");
    let by_hand = Neighbour { address: host(5), mac: MAC_A, confirmed_ns: None };
    engine.set_network(&[link(vec![by_hand])], START + 30 * SECOND);
    let Output { events, devices } = engine.take();
    assert_eq!(kinds(&events), [Kind::NewDevice]);
    assert_eq!(events[0].finding.src, host(5));
    assert!(events[0].message.contains("10.0.0.5 with MAC 02:00:00:00:00:0a"));
    let found = row(&devices, host(5), "02:00:00:00:00:0a");
    assert_eq!((found.first_ns, found.last_ns), (flow.start_ns, flow.end_ns));
    // Later flows move the end, and are written when it is time.
    let later = FlowRecord { start_ns: START + 90 * SECOND, end_ns: START + 95 * SECOND, ..flow };
    engine.observe(&[later], &names(), START + 96 * SECOND);
    engine.tick(START + 310 * SECOND);
    let Output { events, devices } = engine.take();
    assert_eq!(events, []);
    let again = row(&devices, host(5), "02:00:00:00:00:0a");
    assert_eq!((again.first_ns, again.last_ns), (found.first_ns, START + 95 * SECOND));
}

#[test]
fn another_address_of_a_known_mac_is_a_row_and_no_event() {
    let mut engine = engine();
    engine.set_network(&[link(vec![neighbour(host(2), MAC_A, START)])], START);
    assert_eq!(kinds(&said(&mut engine)), [Kind::NewDevice]);
    let both = vec![neighbour(host(2), MAC_A, START), neighbour(host(3), MAC_A, START)];
    engine.set_network(&[link(both)], START + 30 * SECOND);
    let Output { events, devices } = engine.take();
    assert_eq!(events, []);
    row(&devices, host(3), "02:00:00:00:00:0a");
}

#[test]
fn another_mac_of_a_known_address_is_said() {
    let mut engine = engine_with(AnalyticsConfig::default());
    engine.set_network(&[link(vec![neighbour(host(2), MAC_A, START)])], START);
    engine.take();
    let now = START + 30 * SECOND;
    engine.set_network(&[link(vec![neighbour(host(2), MAC_B, now)])], now);
    let Output { events, devices } = engine.take();
    assert_eq!(kinds(&events), [Kind::MacChanged], "even while it learns");
    let finding = &events[0].finding;
    assert_eq!(finding.detail("mac"), "02:00:00:00:00:0b");
    assert_eq!(finding.detail("mac_before"), "02:00:00:00:00:0a");
    assert_eq!(row(&devices, host(2), "02:00:00:00:00:0b").first_ns, now);
}

#[test]
fn only_neighbours_that_speak_are_devices() {
    let mut engine = engine();
    engine.set_network(&[link(vec![])], START);
    engine.take();
    let records = [
        // Not there: nobody answers.
        syn(host(1), host(77), 22),
        // Behind a router.
        request(stranger(1), 40_000, host(1), 443),
        // To everybody.
        FlowRecord { protocol: 17, ..request(host(1), 68, address("255.255.255.255"), 67) },
    ];
    engine.observe(&records, &names(), START);
    engine.set_network(&[link(vec![])], START + SECOND);
    engine.finish(START + SECOND);
    let devices = engine.take().devices;
    let addresses: Vec<_> = devices.iter().map(|row| row.address).collect();
    assert_eq!(addresses, [host(1)], "{devices:?}");
}
