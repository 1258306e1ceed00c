//! What a packet costs in the kernel: the shipped programs against an empty one.

use flow_common::key::protocol;
use serde::Serialize;

use super::rig::{Frame, Hook, PACKETS, Rig, failed, pin_to_one_cpu};
use super::workload::{Distribution, workload};
use super::{RUNS, median, rounded};
use crate::Error;

/// One figure.
#[derive(Debug, Serialize)]
pub struct KernelResult {
    bench: &'static str,
    hook: &'static str,
    ip: u8,
    vlan_tags: u8,
    flows: u32,
    distribution: &'static str,
    /// An empty program in the same place, ns a packet.
    floor_ns: f64,
    /// The shipped program, ns a packet over the floor.
    ns: f64,
    /// The shipped program with the packet's variation and the test run, ns a packet.
    raw_ns: f64,
}

impl KernelResult {
    /// For people.
    pub fn line(&self) -> String {
        format!(
            "kernel  {:<4} IPv{} {} tags {:>9} flows {:<8} {:>7.1} ns a packet (floor {:.1})",
            self.hook,
            self.ip,
            self.vlan_tags,
            self.flows,
            self.distribution,
            self.ns,
            self.floor_ns
        )
    }
}

/// Measures one working set on both hooks, both versions of IP, both distributions.
///
/// # Errors
/// Programs cannot be loaded, or packets are missing.
pub fn measure(flows: u32, mut report: impl FnMut(KernelResult)) -> Result<(), Error> {
    pin_to_one_cpu()?;
    for frame in [ipv4(), ipv6(1)] {
        let mut rig = Rig::new(flows, &frame)?;
        for distribution in Distribution::ALL {
            rig.set_workload(&workload(distribution, flows, PACKETS as usize, 7))?;
            for (hook, name) in [(Hook::Xdp, "xdp"), (Hook::Tc, "tc")] {
                let (floor, raw) = one(&mut rig, hook, &frame)?;
                report(KernelResult {
                    bench: "kernel",
                    hook: name,
                    ip: frame.ip,
                    vlan_tags: frame.vlan_tags,
                    flows,
                    distribution: distribution.label(),
                    floor_ns: rounded(floor),
                    ns: rounded(raw - floor),
                    raw_ns: rounded(raw),
                });
            }
        }
    }
    Ok(())
}

/// Medians of floor and shipped program, measured in turn.
fn one(rig: &mut Rig, hook: Hook, frame: &Frame) -> Result<(f64, f64), Error> {
    let mut deltas = Vec::new();
    // Once to touch every flow: a working set, not a flood of new flows.
    rig.run(hook, false, frame, PACKETS)?;
    let (mut floors, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        floors.push(rig.run(hook, true, frame, PACKETS)?);
        raws.push(rig.run(hook, false, frame, PACKETS)?);
    }
    deltas.clear();
    let (seen, lost) = rig.drain(&mut deltas)?;
    let expected = (RUNS as u64 + 1) * u64::from(PACKETS);
    let metered: u64 = deltas.iter().map(|delta| delta.packets).sum();
    if seen != expected || metered + lost != expected {
        let counts = format!("{expected} packets ran, {seen} seen, {metered} metered, {lost} lost");
        return Err(failed(counts));
    }
    Ok((median(floors), median(raws)))
}

/// Ethernet, IPv4, UDP: 64 octets.
fn ipv4() -> Frame {
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

/// The usual frame of drain measurements.
pub fn usual_frame() -> Frame {
    ipv4()
}
