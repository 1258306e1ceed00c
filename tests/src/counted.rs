//! What a batch of frames comes to: by the kernel's tables, or by the reference. Both in the same
//! terms, so that they can be compared.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;

use flow_agent::delta::Delta;
use flow_agent::drain::Balance;
use flow_common::{FlowKey, NotMetered};

use crate::reference::{self, Direction, Reading, Reason, Tunnel};

/// One direction of a flow. Addresses as in the tables: IPv4 mapped into IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Sender.
    pub src: [u8; 16],
    /// Receiver.
    pub dst: [u8; 16],
    /// IP protocol, or the last next header reached.
    pub protocol: u8,
    /// Sender's port, or 0.
    pub src_port: u16,
    /// Receiver's port; ICMP type and code; or 0.
    pub dst_port: u16,
    /// Outer and inner VLAN id.
    pub vlans: [u16; 2],
    /// The tunnel that it came in: kind, id, sender and receiver.
    pub tunnel: Option<(&'static str, u32, [u8; 16], [u8; 16])>,
}

impl Flow {
    /// A key of ours, and the tunnel if there is one.
    pub fn of(key: &FlowKey, tunnel: Option<&flow_common::Tunnel>) -> Self {
        Self {
            src: key.src.octets(),
            dst: key.dst.octets(),
            protocol: key.protocol,
            src_port: key.src_port,
            dst_port: key.dst_port,
            vlans: [key.vlan_id, key.inner_vlan_id],
            tunnel: tunnel.map(|tunnel| {
                (tunnel.kind().label(), tunnel.id, tunnel.src.octets(), tunnel.dst.octets())
            }),
        }
    }
}

/// What a flow's packets sum up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// Packets.
    pub packets: u64,
    /// IP octets.
    pub octets: u64,
    /// OR of the TCP flags.
    pub tcp_flags: u8,
    /// Code point of the first packet.
    pub dscp: u8,
    /// Smallest TTL or hop limit.
    pub min_ttl: u8,
    /// Largest TTL or hop limit.
    pub max_ttl: u8,
}

impl Sums {
    /// Adds what came later.
    fn add(&mut self, later: Self) {
        self.packets += later.packets;
        self.octets += later.octets;
        self.tcp_flags |= later.tcp_flags;
        self.min_ttl = self.min_ttl.min(later.min_ttl);
        self.max_ttl = self.max_ttl.max(later.max_ttl);
    }
}

/// A batch's flows and what is in none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// What was metered.
    pub flows: BTreeMap<Flow, Sums>,
    /// Packets that were not, by the ledger's names.
    pub not_metered: BTreeMap<&'static str, u64>,
    /// Later fragments whose first was not seen.
    pub fragments_without_ports: u64,
}

impl Counted {
    /// By the kernel's tables.
    pub fn by_kernel(mut deltas: Vec<Delta>, balance: &Balance) -> Self {
        let mut counted =
            Self { fragments_without_ports: balance.fragments_without_ports, ..Self::default() };
        // A flow that left its set or changed the CPU has several deltas.
        deltas.sort_by_key(|delta| delta.first_ns);
        for delta in &deltas {
            let flow = Flow::of(&delta.key, delta.tunnel.as_deref());
            let sums = Sums {
                packets: delta.packets,
                octets: delta.octets,
                tcp_flags: delta.tcp_flags,
                dscp: delta.dscp,
                min_ttl: delta.min_ttl,
                max_ttl: delta.max_ttl,
            };
            counted.flows.entry(flow).and_modify(|sum| sum.add(sums)).or_insert(sums);
        }
        for (reason, count) in NotMetered::ALL.iter().zip(&balance.not_metered) {
            if count.packets > 0 {
                counted.not_metered.insert(reason.label(), count.packets);
            }
        }
        counted
    }

    /// By the reference: frames as `(octets on the wire, octets that can be seen)`, in order.
    pub fn by_reference<'a>(
        frames: impl IntoIterator<Item = (usize, &'a [u8])>,
        decapsulate: bool,
    ) -> Self {
        let mut counted = Self::default();
        let mut firsts = HashMap::new();
        for (wire, data) in frames {
            match reference::reading(data, wire, decapsulate) {
                Ok(reading) => counted.meter(reading, &mut firsts),
                Err(reason) => counted.refuse(reason),
            }
        }
        counted
    }

    fn meter(&mut self, reading: Reading, firsts: &mut HashMap<Datagram, (Direction, u16)>) {
        let Reading { mut direction, octets, vlans, tunnel, mut marks, fragment } = reading;
        let vlans = [0, 1].map(|nth: usize| vlans.get(nth).copied().unwrap_or(0));
        if let Some(fragment) = fragment {
            let (src, dst) = (direction.src, direction.dst);
            let datagram = (vlans, tunnel, src, dst, fragment.protocol, fragment.id);
            if fragment.first {
                firsts.insert(datagram, (direction, marks.icmp));
            } else if let Some(first) = firsts.get(&datagram) {
                (direction, marks.icmp) = *first;
            } else {
                self.fragments_without_ports += 1;
            }
        }
        let flow = Flow {
            src: mapped(direction.src),
            dst: mapped(direction.dst),
            protocol: direction.protocol,
            src_port: direction.src_port,
            dst_port: if marks.icmp == 0 { direction.dst_port } else { marks.icmp },
            vlans,
            tunnel: tunnel
                .map(|Tunnel { kind, id, src, dst }| (kind, id, mapped(src), mapped(dst))),
        };
        let sums = Sums {
            packets: 1,
            octets,
            tcp_flags: marks.tcp_flags,
            dscp: marks.dscp,
            min_ttl: marks.ttl,
            max_ttl: marks.ttl,
        };
        self.flows.entry(flow).and_modify(|sum| sum.add(sums)).or_insert(sums);
    }

    fn refuse(&mut self, reason: Reason) {
        *self.not_metered.entry(reason.name()).or_default() += 1;
    }

    /// Packets that were counted in any way.
    pub fn packets(&self) -> u64 {
        self.flows.values().map(|sums| sums.packets).chain(self.not_metered.values().copied()).sum()
    }

    /// What this one has that the other has not.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        Self {
            flows: (self.flows.iter())
                .filter(|(flow, sums)| other.flows.get(flow) != Some(sums))
                .map(|(flow, sums)| (*flow, *sums))
                .collect(),
            not_metered: (self.not_metered.iter())
                .filter(|(reason, count)| other.not_metered.get(*reason) != Some(count))
                .map(|(reason, count)| (*reason, *count))
                .collect(),
            fragments_without_ports: self.fragments_without_ports,
        }
    }
}

/// VLAN ids, tunnel, addresses, protocol, identification.
type Datagram = ([u16; 2], Option<Tunnel>, IpAddr, IpAddr, u8, u32);

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (flow, sums) in &self.flows {
            let Flow { src, dst, protocol, src_port, dst_port, vlans, tunnel } = flow;
            let [src, dst] = [src, dst].map(|octets| IpAddr::from(*octets).to_canonical());
            write!(out, "  {src} {src_port} > {dst} {dst_port}, protocol {protocol}, ")?;
            writeln!(out, "VLANs {vlans:?}, tunnel {tunnel:?}: {sums:?}")?;
        }
        for (reason, packets) in &self.not_metered {
            writeln!(out, "  not metered, {reason}: {packets}")?;
        }
        write!(out, "  later fragments without ports: {}", self.fragments_without_ports)
    }
}
