//! The rules in the running kernel, one by one, driven by test runs. Needs root.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aya::programs::{TestRun, TestRunOptions};
use etherparse::PacketBuilder;
use flow_agent::attach::{Kernel, TableSize};
use flow_agent::config::Settings;
use flow_agent::delta::Delta;
use flow_agent::drain::{Balance, Drain, own_connections};
use flow_agent::filter::{OwnConnections, Rules};
use flow_agent::sink::ConnectionWatch;
use flow_common::NotMetered;
use flow_common::filter::MAX_PREFIXES;
use flow_common::table::{InterfaceEntry, names};

/// Test runs say that packets come from `lo`.
const TEST_RUN_IFINDEX: u32 = 1;

struct Bench {
    kernel: Kernel,
    drain: Drain,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        let cpus = aya::util::nr_cpus().expect("the CPUs are known") as u32;
        let size = TableSize { cpus, sets_per_region: 1024, interfaces: 16, tunnels: false };
        let mut kernel = Kernel::load(size, 7).unwrap_or_else(|error| panic!("{error}"));
        let entry = InterfaceEntry::ethernet(1);
        kernel.set_interface(TEST_RUN_IFINDEX, entry).expect("the map takes it");
        let mut drain = Drain::new(&mut kernel, 1).unwrap_or_else(|error| panic!("{error}"));
        drain.install_rules(rules).unwrap_or_else(|error| panic!("{error}"));
        Self { kernel, drain }
    }

    fn run(&mut self, hook: &str, frame: &[u8], repeat: u32) {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        if hook == names::XDP_INGRESS {
            self.kernel.xdp().expect("loaded").test_run(options).expect("runs");
        } else {
            self.kernel.classifier(hook).expect("loaded").test_run(options).expect("runs");
        }
    }

    fn drain(&mut self) -> (Vec<Delta>, Balance) {
        let mut deltas = Vec::new();
        let drained = self.drain.drain(flow_agent::clock::wall_clock, &mut deltas);
        let balance = drained.unwrap_or_else(|error| panic!("{error}")).balances[1];
        assert_eq!(balance.unaccounted(), (0, 0), "{balance:?}");
        (deltas, balance)
    }
}

fn rules(text: &str) -> Rules {
    let settings = Settings::parse(text, "test").unwrap_or_else(|error| panic!("{error}"));
    settings.check("host", 1).unwrap_or_else(|error| panic!("{error}")).rules
}

/// A frame of 50 octets of payload: `udp`, `tcp`, or a protocol number without ports.
fn frame(protocol: &str, src: (&str, u16), dst: (&str, u16)) -> Vec<u8> {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = match (address(src.0), address(dst.0)) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), 64),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), 64),
        _ => panic!("two families"),
    };
    let (mut octets, payload) = (Vec::new(), [0; 50]);
    match protocol {
        "udp" => ip.udp(src.1, dst.1).write(&mut octets, &payload),
        "tcp" => ip.tcp(src.1, dst.1, 1, 1000).write(&mut octets, &payload),
        number => {
            let number = etherparse::IpNumber(number.parse().expect("a number"));
            ip.write(&mut octets, number, &payload)
        }
    }
    .expect("valid");
    octets
}

/// At every hook: whether the packet is metered under the rules.
fn metered(bench: &mut Bench, text: &str, frame: &[u8]) -> bool {
    bench.drain.set_rules(rules(text));
    bench.drain();
    let hooks = [names::XDP_INGRESS, names::TC_INGRESS, names::TC_EGRESS];
    // Both generations have the rules.
    let answers = [0, 1].map(|_| {
        for hook in hooks {
            bench.run(hook, frame, 1);
        }
        let (deltas, balance) = bench.drain();
        let filtered = balance.not_metered[NotMetered::Filtered as usize];
        assert_eq!(balance.metered.packets + filtered.packets, hooks.len() as u64);
        assert_eq!(balance.metered.octets + filtered.octets, balance.seen.octets);
        let packets: u64 = deltas.iter().map(|delta| delta.packets).sum();
        assert_eq!(packets, balance.metered.packets);
        assert!(packets == 0 || filtered.packets == 0, "the hooks differ under {text}");
        packets > 0
    });
    assert_eq!(answers[0], answers[1], "the generations differ under {text}");
    answers[0]
}

/// Both generations hold the most prefixes there may be, and then all others.
#[test]
fn the_most_prefixes_can_be_replaced_by_others() {
    let most = |net: u8| {
        let address = |nth: u32| format!("'{net}.0.{}.{}'", nth >> 8, nth & 0xff);
        let list: Vec<_> = (0..MAX_PREFIXES).map(address).collect();
        format!("[filter]\ninclude = [{}]", list.join(","))
    };
    let mut bench = Bench::new(rules(&most(10)));
    let packet = |to: &str| frame("udp", ("192.0.2.1", 1), (to, 2));
    assert!(metered(&mut bench, &most(10), &packet("10.0.255.255")));
    let other = most(11);
    assert!(metered(&mut bench, &other, &packet("11.0.255.255")));
    assert!(!metered(&mut bench, &other, &packet("10.0.255.255")));
}

#[test]
fn for_each_address_the_longest_prefix_decides() {
    let mut bench = Bench::new(Rules::default());
    let filter = "[filter]\n\
        include = ['10.0.0.0/8', '10.1.2.0/24', '2001:db8::/32', '2001:db8:1:2::/64']\n\
        exclude = ['10.1.0.0/16', '10.1.2.3', '2001:db8:1::/48', '2001:db8:1:2::3']";
    for (src, dst, expected) in [
        ("10.0.0.1", "192.0.2.1", true),
        ("192.0.2.1", "10.0.0.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("10.0.0.1", "10.1.0.1", false),
        ("10.1.0.1", "192.0.2.1", false),
        ("10.1.2.1", "192.0.2.1", true),
        ("192.0.2.1", "10.1.2.3", false),
        ("10.1.2.2", "10.1.2.1", true),
        ("2001:db8::1", "fd00::1", true),
        ("fd00::1", "fd00::2", false),
        ("2001:db8:1::1", "2001:db8::1", false),
        ("fd00::1", "2001:db8:1:2::1", true),
        ("2001:db8:1:2::3", "fd00::1", false),
    ] {
        let frame = frame("udp", (src, 1000), (dst, 2000));
        assert_eq!(metered(&mut bench, filter, &frame), expected, "{src} -> {dst}");
    }
}

#[test]
fn a_prefix_of_all_addresses_is_of_one_family() {
    let mut bench = Bench::new(Rules::default());
    let four = frame("udp", ("10.0.0.1", 1), ("10.0.0.2", 2));
    let six = frame("udp", ("fd00::1", 1), ("fd00::2", 2));
    for (filter, expected) in [
        ("[filter]\nexclude = ['::/0']", (true, false)),
        ("[filter]\nexclude = ['0.0.0.0/0']", (false, true)),
        ("[filter]\ninclude = ['::/0']", (false, true)),
        ("[filter]\ninclude = ['::/0', '0.0.0.0/0']", (true, true)),
        ("[filter]\nexclude = ['192.0.2.0/24']", (true, true)),
    ] {
        assert_eq!(
            (metered(&mut bench, filter, &four), metered(&mut bench, filter, &six)),
            expected,
            "{filter}"
        );
    }
}

#[test]
fn ports_and_protocols_are_included_and_excluded() {
    let mut bench = Bench::new(Rules::default());
    let ports = |protocol, src, dst| frame(protocol, ("10.0.0.1", src), ("10.0.0.2", dst));
    let icmp = frame("1", ("10.0.0.1", 0), ("10.0.0.2", 0));
    let gre = frame("250", ("fd00::1", 0), ("fd00::2", 0));
    for (filter, frame, expected) in [
        ("include_ports = [443, '8000-8100']", ports("tcp", 50000, 443), true),
        ("include_ports = [443, '8000-8100']", ports("udp", 443, 50000), true),
        ("include_ports = [443, '8000-8100']", ports("tcp", 8100, 8101), true),
        ("include_ports = [443, '8000-8100']", ports("tcp", 7999, 8101), false),
        ("include_ports = [443, '8000-8100']", icmp.clone(), false),
        ("exclude_ports = ['0-1023', 65535]", ports("tcp", 50000, 1023), false),
        ("exclude_ports = ['0-1023', 65535]", ports("tcp", 65535, 1024), false),
        ("exclude_ports = ['0-1023', 65535]", ports("tcp", 65534, 1024), true),
        // Type and code are no port.
        ("exclude_ports = ['0-65535']", icmp.clone(), true),
        ("include_ports = ['1-100']\nexclude_ports = [50]", ports("udp", 50, 60), false),
        ("include_ports = ['1-100']\nexclude_ports = [50]", ports("udp", 500, 60), true),
        ("include_protocols = ['tcp', 250]", ports("tcp", 1, 2), true),
        ("include_protocols = ['tcp', 250]", gre.clone(), true),
        ("include_protocols = ['tcp', 250]", ports("udp", 1, 2), false),
        ("exclude_protocols = ['udp', 1]", ports("udp", 1, 2), false),
        ("exclude_protocols = ['udp', 1]", icmp, false),
        ("exclude_protocols = ['udp', 1]", gre, true),
    ] {
        assert_eq!(
            metered(&mut bench, &format!("[filter]\n{filter}"), &frame),
            expected,
            "{filter}"
        );
    }
}

#[test]
fn a_flow_is_sampled_whole_in_both_directions_with_its_weight() {
    const FLOWS: u16 = 2000;
    const RATE: u32 = 4;
    let mut bench = Bench::new(rules(&format!("[sampling]\nmode = 'flow'\nrate = {RATE}")));
    for flow in 0..FLOWS {
        let there = frame("udp", ("10.0.0.1", 10_000 + flow), ("10.0.0.2", 53));
        let back = frame("udp", ("10.0.0.2", 53), ("10.0.0.1", 10_000 + flow));
        bench.run(names::TC_INGRESS, &there, 3);
        bench.run(names::TC_EGRESS, &back, 2);
    }
    let (deltas, balance) = bench.drain();
    let sampled = deltas.len() as u64 / 2;
    // Five standard deviations: 97.
    let expected = u64::from(FLOWS) / u64::from(RATE);
    assert!(sampled.abs_diff(expected) < 97, "{sampled} of {FLOWS} flows at 1 in {RATE}");
    for delta in &deltas {
        let there = delta.key.dst_port == 53;
        assert_eq!(delta.packets, if there { 3 } else { 2 });
        assert_eq!(delta.sampling, RATE);
        let client = if there { delta.key.src_port } else { delta.key.dst_port };
        let sides = deltas
            .iter()
            .filter(|delta| delta.key.src_port == client || delta.key.dst_port == client);
        assert_eq!(sides.count(), 2, "port {client}");
    }
    let not_sampled = balance.not_metered[NotMetered::NotSampled as usize].packets;
    assert_eq!(not_sampled, 5 * (u64::from(FLOWS) - sampled));
}

#[test]
fn other_rules_count_from_a_flip_on_and_every_delta_has_its_weight() {
    let frame = frame("udp", ("10.0.0.1", 1), ("10.0.0.2", 2));
    let mut bench = Bench::new(Rules::default());
    bench.run(names::XDP_INGRESS, &frame, 10);
    bench.drain.set_rules(rules("[sampling]\nmode = 'packet'\nrate = 2"));
    bench.run(names::XDP_INGRESS, &frame, 10);
    // All of it met the old rules, although the new ones were set before.
    let (deltas, balance) = bench.drain();
    assert_eq!((deltas[0].packets, deltas[0].sampling), (20, 1));
    assert_eq!(balance.not_metered[NotMetered::NotSampled as usize].packets, 0);
    for _ in 0..2 {
        bench.run(names::XDP_INGRESS, &frame, 10_000);
        let (deltas, balance) = bench.drain();
        assert_eq!(deltas[0].sampling, 2);
        let not_sampled = balance.not_metered[NotMetered::NotSampled as usize].packets;
        assert_eq!(deltas[0].packets + not_sampled, 10_000);
        // Ten standard deviations.
        assert!(not_sampled.abs_diff(5_000) < 500, "{not_sampled} of 10,000");
    }
    // And back: nothing of the rules is left in either generation.
    bench.drain.set_rules(rules("[filter]\nexclude = ['10.0.0.0/8']\nexclude_ports = [7]"));
    bench.drain();
    for expected in [0, 10, 10] {
        bench.run(names::XDP_INGRESS, &frame, 10);
        if expected == 0 {
            bench.drain.set_rules(Rules::default());
        }
        let (_, balance) = bench.drain();
        assert_eq!(balance.metered.packets, expected);
        assert_eq!(balance.not_metered[NotMetered::Filtered as usize].packets, 10 - expected);
    }
}

/// Packets of own connections and metered ones, of a frame each way.
fn own_and_metered(bench: &mut Bench, local: &SocketAddr, remote: &SocketAddr) -> (u64, u64) {
    let end = |address: &SocketAddr| (address.ip().to_string(), address.port());
    let ((local, local_port), (remote, remote_port)) = (end(local), end(remote));
    let (local, remote) = ((local.as_str(), local_port), (remote.as_str(), remote_port));
    bench.run(names::TC_EGRESS, &frame("tcp", local, remote), 1);
    bench.run(names::TC_INGRESS, &frame("tcp", remote, local), 1);
    let (_, balance) = bench.drain();
    let own = balance.not_metered[NotMetered::OwnTraffic as usize].packets;
    (own, balance.metered.packets)
}

#[test]
fn a_connection_is_own_from_its_opening_until_a_while_after_its_end() {
    let mut bench = Bench::new(Rules { own_port: Some(8123), ..Rules::default() });
    let own = OwnConnections::new(own_connections(&mut bench.kernel).expect("there"));
    let start = Instant::now();
    for (hour, local, other, remote) in [
        (0u64, "10.0.0.1:40000", "10.0.0.1:40001", "10.0.0.2:8123"),
        (1, "[fd00::1]:40000", "[fd00::1]:40001", "[fd00::2]:8123"),
    ] {
        let [local, other, remote] =
            [local, other, remote].map(|text| text.parse::<SocketAddr>().expect("valid"));
        assert_eq!(own_and_metered(&mut bench, &local, &remote), (0, 2));
        let after = |seconds: u64| start + Duration::from_secs(3600 * hour + seconds);
        own.opened(local, remote, after(0));
        assert_eq!(own_and_metered(&mut bench, &local, &remote), (2, 0));
        assert_eq!(own_and_metered(&mut bench, &other, &remote), (0, 2));
        own.closed(local, remote, after(1));
        // The same ports again, and their end.
        own.opened(local, remote, after(2));
        own.closed(local, remote, after(10));
        own.opened(other, remote, after(69));
        assert_eq!(own_and_metered(&mut bench, &local, &remote), (2, 0));
        own.closed(other, remote, after(70));
        assert_eq!(own_and_metered(&mut bench, &local, &remote), (0, 2));
        assert_eq!(own_and_metered(&mut bench, &other, &remote), (2, 0));
    }
}

/// A store that refuses every connection leaves many that have ended.
#[test]
fn many_ended_connections_do_not_keep_a_new_one_out() {
    let mut bench = Bench::new(Rules { own_port: Some(8123), ..Rules::default() });
    let own = OwnConnections::new(own_connections(&mut bench.kernel).expect("there"));
    let remote = "10.0.0.2:8123".parse().expect("valid");
    let now = Instant::now();
    for port in 20_000..25_000 {
        let local = SocketAddr::from(([10, 0, 0, 1], port));
        own.opened(local, remote, now);
        own.closed(local, remote, now);
    }
    let local = SocketAddr::from(([10, 0, 0, 1], 30_000));
    own.opened(local, remote, now);
    for (port, expected) in [(30_000, (2, 0)), (24_999, (2, 0)), (20_000, (0, 2))] {
        let local = SocketAddr::from(([10, 0, 0, 1], port));
        assert_eq!(own_and_metered(&mut bench, &local, &remote), expected, "port {port}");
    }
}
