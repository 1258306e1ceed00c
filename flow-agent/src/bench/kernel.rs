//! What a packet costs in the kernel: the shipped programs against an empty one.
//!
//! Three figures are measured in turn, run by run: an empty program alone (the floor), an empty
//! program behind the wrapper that varies the packet, and the shipped program behind it. What the
//! shipped program takes is the difference of the last two.

use flow_common::key::protocol;
use serde::Serialize;

use super::generator::{Generator, Hook, PACKETS, Plan};
use super::rig::{Identity, Rig, allowed_cpus, attached_identities, identities, pin};
use super::workload::{Distribution, workload};
use super::{RUNS, Spread, failed, rounded};
use crate::Error;

/// A frame and where its flow's number goes.
pub struct Frame {
    /// The octets.
    pub octets: Vec<u8>,
    /// Offset of the last four octets of the source address.
    pub flow_offset: u32,
    /// 4 or 6.
    ip: u8,
    vlan_tags: u8,
}

/// One figure.
#[derive(Debug, Serialize)]
pub struct KernelResult {
    bench: &'static str,
    hook: &'static str,
    ip: u8,
    flows: u32,
    distribution: &'static str,
    /// An empty program, alone, ns a packet.
    floor_ns: f64,
    /// The shipped program, alone: the floor and what it takes over that, ns a packet.
    ns: f64,
    /// `ns` less `floor_ns`.
    over_floor_ns: f64,
    /// Smallest and largest `over_floor_ns` of the runs.
    min_over_floor_ns: f64,
    max_over_floor_ns: f64,
    /// The empty program behind the wrapper that varies the packet, ns a packet.
    wrapper_ns: f64,
    /// The shipped program behind the wrapper, ns a packet.
    raw_ns: f64,
    vlan_tags: u8,
    runs: usize,
    /// Flows that the table of one CPU has places for.
    places: u32,
    /// The share of packets for which another flow had to leave its set.
    evicted: f64,
    /// The share of packets that were counted as lost.
    lost: f64,
    /// The program's tag, as `bpftool prog` prints it for an attached agent.
    tag: String,
}

impl KernelResult {
    /// For people.
    pub fn line(&self) -> String {
        format!(
            "kernel  {:<4} IPv{} {} tags {:>9} flows {:<8} {:>7.1} ns a packet over the floor \
             ({:.1} to {:.1}; floor {:.1}; {:.3} % evict)",
            self.hook,
            self.ip,
            self.vlan_tags,
            self.flows,
            self.distribution,
            self.over_floor_ns,
            self.min_over_floor_ns,
            self.max_over_floor_ns,
            self.floor_ns,
            self.evicted * 100.0
        )
    }
}

/// Measures one working set on both hooks, IPv4 and IPv6 and a VLAN tag, both distributions.
///
/// # Errors
/// Programs cannot be loaded, are others than an attached agent's, or packets are missing.
pub fn measure(flows: u32, mut report: impl FnMut(KernelResult)) -> Result<(), Error> {
    let cpus = allowed_cpus()?;
    pin(cpus.last().copied().unwrap_or(0))?;
    let mut rig = Rig::new(flows)?;
    let tags = verified_tags(&rig)?;
    for frame in [ipv4(), ipv6(0), ipv6(1)] {
        let plan = Plan { flow_offset: frame.flow_offset, ..Plan::default() };
        let mut generator = Generator::load(plan)?;
        for distribution in Distribution::ALL {
            generator.set_workload(&workload(distribution, flows, PACKETS as usize, 7))?;
            for (hook, tag) in Hook::ALL.into_iter().zip(tags) {
                let runs = runs(&mut rig, &mut generator, hook, &frame.octets)?;
                let over_floor = runs.over_floor.median();
                report(KernelResult {
                    bench: "kernel",
                    hook: hook.label(),
                    ip: frame.ip,
                    flows,
                    distribution: distribution.label(),
                    floor_ns: rounded(runs.floor.median()),
                    ns: rounded(runs.floor.median() + over_floor),
                    over_floor_ns: rounded(over_floor),
                    min_over_floor_ns: rounded(runs.over_floor.min()),
                    max_over_floor_ns: rounded(runs.over_floor.max()),
                    wrapper_ns: rounded(runs.wrapper.median()),
                    raw_ns: rounded(runs.raw.median()),
                    vlan_tags: frame.vlan_tags,
                    runs: RUNS,
                    places: rig.places(),
                    evicted: runs.evicted,
                    lost: runs.lost,
                    tag: format!("{tag:016x}"),
                });
            }
        }
    }
    Ok(())
}

/// The tags of the measured programs, by [`Hook::ALL`]; an error unless an agent would attach the
/// same. The read-only data is the loader's: the same function with the same arguments, and the
/// verifier, which folds it into the code, made the same number of instructions of it.
fn verified_tags(rig: &Rig) -> Result<[u64; 2], Error> {
    let (measured, attached) = (identities(&rig.kernel)?, attached_identities()?);
    let [xdp, tc] = [0, 1].map(|hook: usize| {
        let (measured, attached): (Identity, Identity) = (measured[hook], attached[hook]);
        if measured == attached {
            Ok(measured.tag)
        } else {
            Err(failed(format!("measured is {measured:?}, an agent attaches {attached:?}")))
        }
    });
    Ok([xdp?, tc?])
}

/// What the runs of one figure gave, ns a packet.
struct Runs {
    floor: Spread,
    wrapper: Spread,
    raw: Spread,
    /// Shipped program less empty one, both behind the wrapper, by run.
    over_floor: Spread,
    evicted: f64,
    lost: f64,
}

/// Packets in a run that is timed. A test run of XDP ends with a grace period, which
/// ends with a tick: of this many packets each has a share of less than 1 ns in it.
const TIMED: u32 = 4 * PACKETS;

fn runs(rig: &mut Rig, generator: &mut Generator, hook: Hook, frame: &[u8]) -> Result<Runs, Error> {
    let program = rig.program(hook)?;
    let mut deltas = Vec::new();
    let (mut floor, mut wrapper, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let (mut evicted, mut lost) = (0, 0);
    let ns = |elapsed: std::time::Duration| elapsed.as_nanos() as f64 / f64::from(TIMED);
    for _ in 0..RUNS {
        floor.push(ns(generator.floor(hook, frame, TIMED)?));
        generator.set_target(hook, None)?;
        wrapper.push(ns(generator.vary(hook, frame, TIMED)?));
        generator.set_target(hook, Some(&program))?;
        // Once to have every flow in the table: a working set, not a flood of new flows.
        generator.vary(hook, frame, PACKETS)?;
        raw.push(ns(generator.vary(hook, frame, TIMED)?));
        deltas.clear();
        let sums = rig.drain(&mut deltas)?;
        let (expected, seen) = (u64::from(PACKETS + TIMED), sums.balance.seen.packets);
        let metered = sums.balance.metered.packets;
        if seen != expected || metered + sums.lost() != expected {
            return Err(failed(format!(
                "{expected} packets ran, {seen} were seen, {metered} metered, {} lost",
                sums.lost()
            )));
        }
        evicted += sums.evicted;
        lost += sums.lost();
    }
    let share = |packets: u64| packets as f64 / (RUNS * (PACKETS + TIMED) as usize) as f64;
    let over_floor = raw.iter().zip(&wrapper).map(|(raw, wrapper)| raw - wrapper).collect();
    Ok(Runs {
        floor: Spread(floor),
        wrapper: Spread(wrapper),
        raw: Spread(raw),
        over_floor: Spread(over_floor),
        evicted: share(evicted),
        lost: share(lost),
    })
}

/// Ethernet, IPv4, UDP: 64 octets.
pub fn ipv4() -> Frame {
    let mut octets = vec![2; 12];
    octets.extend([0x08, 0x00]);
    octets.extend([0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, protocol::UDP, 0, 0]);
    octets.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    octets.extend([0x9c, 0x40, 0x01, 0xbb, 0, 30, 0, 0]);
    octets.resize(64, 0);
    Frame { octets, flow_offset: 14 + 12, ip: 4, vlan_tags: 0 }
}

/// Ethernet, VLAN tags, IPv6, UDP.
fn ipv6(vlan_tags: u8) -> Frame {
    let mut octets = vec![2; 12];
    for tag in 1..=vlan_tags {
        octets.extend([0x81, 0x00, 0, tag]);
    }
    octets.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, protocol::UDP, 64]);
    octets.extend([0xfd; 16]);
    octets.extend([0xfc; 16]);
    octets.extend([0x9c, 0x40, 0x01, 0xbb, 0, 8, 0, 0]);
    let flow_offset = 14 + 4 * u32::from(vlan_tags) + 8 + 12;
    Frame { octets, flow_offset, ip: 6, vlan_tags }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_begins_with_what_readers_look_for() {
        let result = KernelResult {
            bench: "kernel",
            hook: Hook::Xdp.label(),
            ip: 4,
            flows: 65_536,
            distribution: Distribution::Zipf.label(),
            floor_ns: 28.0,
            ns: 39.0,
            over_floor_ns: 11.0,
            min_over_floor_ns: 10.5,
            max_over_floor_ns: 12.0,
            wrapper_ns: 31.0,
            raw_ns: 42.0,
            vlan_tags: 0,
            runs: RUNS,
            places: 262_144,
            evicted: 0.0,
            lost: 0.0,
            tag: "0123456789abcdef".into(),
        };
        let json = serde_json::to_string(&result).expect("plain values");
        let expected = r#"{"bench":"kernel","hook":"xdp","ip":4,"flows":65536,"distribution":"zipf","floor_ns":28.0,"ns":39.0,"#;
        assert!(json.starts_with(expected), "{json}");
    }
}
