//! The shipped programs against an independent decoder, packet by packet. Needs root.
//!
//! `FLOW_DIFFERENTIAL_PACKETS` sets how many packets (`cargo xtask test --long`: 20 million),
//! `FLOW_DIFFERENTIAL_SEED` where the generator starts; both are printed with a disagreement.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use flow_tests::counted::{Counted, Sums};
use flow_tests::faults::{self, Outcome};
use flow_tests::packets::{self, ORDINARY};
use flow_tests::unattached::{FIRST_BUFFER, Hook, Unattached};
use flow_tests::{reference, setting};

/// Packets between two drains: few enough that no first fragment leaves the kernel's table.
const BATCH: usize = 4096;

/// ICMP, IPIP, TCP, UDP, DCCP, 6in4, GRE, `ICMPv6`, SCTP, UDP-Lite.
const PROTOCOLS: [u8; 10] = [1, 4, 6, 17, 33, 41, 47, 58, 132, 136];

/// TC test runs refuse what a page cannot hold, and a frame that ends before the IP header that
/// its ethertype announces (`bpf_prog_test_run_skb` in `net/bpf/test_run.c`).
fn is_run_at_tc(frame: &[u8]) -> bool {
    let header = match frame[12..14] {
        [0x08, 0x00] => 20,
        [0x86, 0xdd] => 40,
        _ => 1,
    };
    (14 + header..=ORDINARY).contains(&frame.len())
}

#[test]
fn programs_and_reference_agree_on_every_packet() {
    let packets = setting("FLOW_DIFFERENTIAL_PACKETS", 1_000_000);
    agree(false, packets);
    let outcome = Outcome::agreed(packets).expect("some were compared");
    let proof = "the reference says of each batch what kinds are in it";
    faults::record("strange_packets", proof, outcome).expect("it can be written");
}

/// The same with programs that open tunnels, on a quarter as many packets.
#[test]
fn programs_and_reference_agree_on_what_tunnels_carry() {
    let packets = setting("FLOW_DIFFERENTIAL_PACKETS", 1_000_000) / 4;
    agree(true, packets);
    let mut kinds = BTreeMap::new();
    for frame in packets::batch(1, BATCH) {
        let reading = reference::reading(&frame, frame.len(), true);
        if let Some(tunnel) = reading.ok().and_then(|reading| reading.tunnel) {
            *kinds.entry(tunnel.kind).or_insert(0) += 1;
        }
    }
    assert_eq!(kinds.len(), 5, "all kinds of tunnels are in each batch: {kinds:?}");
    assert!(kinds.values().all(|count| *count >= 10), "{kinds:?}");
}

/// Compares `packets` packets.
fn agree(decapsulate: bool, packets: u64) {
    let seed = setting("FLOW_DIFFERENTIAL_SEED", 1);
    let batches = packets.div_ceil(BATCH as u64);
    let next = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    let work = || {
        let mut programs = Unattached::new(decapsulate);
        loop {
            let batch = next.fetch_add(1, Ordering::Relaxed);
            if batch >= batches {
                return;
            }
            let frames = packets::batch(seed + batch, BATCH);
            for hook in hooks(batch) {
                let counted = compare(&mut programs, *hook, &frames, decapsulate).unwrap_or_else(
                    |difference| {
                        next.store(batches, Ordering::Relaxed);
                        panic!("batch seed {}, {hook:?}: {difference}", seed + batch)
                    },
                );
                totals.lock().expect("no worker panicked").add(*hook, &counted);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(8));
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    let totals = totals.into_inner().expect("no worker panicked");
    let run = |hook: &str| totals.count(&format!("{hook} packets"));
    let counts = [run("Xdp"), run("TcIngress"), run("TcEgress")];
    println!("from seed {seed} on, XDP, TC ingress and TC egress agree on {counts:?} packets");
    // A generator that made no packets of a kind would agree on anything.
    for hook in ["Xdp", "TcIngress"] {
        let count = |what: &str| totals.count(&format!("{hook} {what}"));
        assert!(count("metered") > packets / 2, "{hook}: {totals:?}");
        // Tunnels are what they carry when they are opened.
        let outer = [4, 41, 47];
        for protocol in PROTOCOLS.iter().filter(|one| !decapsulate || !outer.contains(*one)) {
            assert!(count(&format!("protocol {protocol}")) > packets / 200, "{hook}: {totals:?}");
        }
        for what in ["VLAN", "two VLANs", "TCP flags", "ports", "fragments without ports"] {
            assert!(count(what) > packets / 50, "{hook} {what}: {totals:?}");
        }
        for reason in ["arp", "lldp", "other", "truncated", "malformed", "unsupported"] {
            assert!(count(reason) > packets / 1_000, "{hook} {reason}: {totals:?}");
        }
    }
    assert!(totals.count("Xdp packets") >= packets, "{totals:?}");
}

/// A reference that is wrong about one packet is caught, and this packet is named.
#[test]
fn one_wrong_packet_in_a_batch_is_found_and_named() {
    let mut programs = Unattached::new(false);
    let frames = packets::batch(99, BATCH);
    let frames: Vec<_> = frames.iter().collect();
    let metered = |frame: &Vec<u8>| reference::reading(frame, frame.len(), false).is_ok();
    let wrong = (BATCH / 2..BATCH).find(|at| metered(frames[*at])).expect("most are metered");
    let difference = first_difference(&mut programs, Hook::Xdp, &frames, |prefix| {
        let noise = vec![0xff; 60];
        let mut prefix = prefix.to_vec();
        if let Some(frame) = prefix.get_mut(wrong) {
            *frame = &noise;
        }
        by_reference(&prefix, false)
    });
    let difference = difference.expect_err("one packet differs");
    assert!(difference.contains(&format!("packet {wrong} of the batch")), "{difference}");
    assert!(difference.contains(&hex(frames[wrong])), "{difference}");
}

/// The egress program is the ingress program with another direction: a part of the packets is enough.
fn hooks(batch: u64) -> &'static [Hook] {
    if batch.is_multiple_of(8) { &Hook::ALL } else { &Hook::ALL[..2] }
}

/// Runs a batch through a hook's program and compares.
fn compare(
    programs: &mut Unattached,
    hook: Hook,
    frames: &[Vec<u8>],
    decapsulate: bool,
) -> Result<Counted, String> {
    let frames: Vec<_> =
        frames.iter().filter(|frame| hook == Hook::Xdp || is_run_at_tc(frame)).collect();
    first_difference(programs, hook, &frames, |frames| by_reference(frames, decapsulate))
}

/// What both come to; or the first packet that they differ about.
fn first_difference(
    programs: &mut Unattached,
    hook: Hook,
    frames: &[&Vec<u8>],
    reference: impl Fn(&[&Vec<u8>]) -> Counted,
) -> Result<Counted, String> {
    let mut answers = |length: usize| {
        let prefix = &frames[..length];
        (by_programs(programs, hook, prefix), reference(prefix))
    };
    let (found, expected) = answers(frames.len());
    if found == expected && found.packets() == frames.len() as u64 {
        return Ok(found);
    }
    // The shortest beginning of the batch that differs ends with the packet in question.
    let (mut agree, mut differ) = (0, frames.len());
    while differ - agree > 1 {
        let middle = agree.midpoint(differ);
        let (found, expected) = answers(middle);
        if found == expected { agree = middle } else { differ = middle }
    }
    let (found, expected) = answers(differ);
    let mut text = format!(
        "{} frames, packet {agree} of the batch, {} octets:\n{}\n",
        frames.len(),
        frames[agree].len(),
        hex(frames[agree])
    );
    let (programs, reference) = (found.beyond(&expected), expected.beyond(&found));
    let _ = write!(text, "programs:\n{programs}\nreference:\n{reference}");
    Err(text)
}

fn by_programs(programs: &mut Unattached, hook: Hook, frames: &[&Vec<u8>]) -> Counted {
    programs.forget_fragments();
    for frame in frames {
        assert!(programs.run(hook, frame), "{hook:?} refuses {}", hex(frame));
    }
    programs.drain()
}

fn by_reference(frames: &[&Vec<u8>], decapsulate: bool) -> Counted {
    let seen = |frame: &Vec<u8>| frame.len().min(FIRST_BUFFER);
    let frames = frames.iter().map(|frame| (frame.len(), &frame[..seen(frame)]));
    Counted::by_reference(frames, decapsulate)
}

/// How much of what was compared.
#[derive(Debug, Default)]
struct Totals(BTreeMap<String, u64>);

impl Totals {
    fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    fn add(&mut self, hook: Hook, counted: &Counted) {
        let mut add = |what: &str, packets: u64| {
            *self.0.entry(format!("{hook:?} {what}")).or_default() += packets;
        };
        add("packets", counted.packets());
        for (flow, sums) in &counted.flows {
            let Sums { packets, tcp_flags, .. } = *sums;
            add("metered", packets);
            if PROTOCOLS.contains(&flow.protocol) {
                add(&format!("protocol {}", flow.protocol), packets);
            }
            for (what, has) in [
                ("VLAN", flow.vlans[0] != 0),
                ("two VLANs", flow.vlans[1] != 0),
                ("TCP flags", tcp_flags != 0),
                ("ports", flow.src_port != 0),
            ] {
                add(what, if has { packets } else { 0 });
            }
        }
        add("fragments without ports", counted.fragments_without_ports);
        for (reason, packets) in &counted.not_metered {
            add(reason, *packets);
        }
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
