//! A capture for measurements of readers: numbers of packets and flows enter, a pcap file leaves.
//!
//! It holds that the same plan gives the same octets everywhere. Flows are drawn by Zipf's law, as
//! in [`flow_agent::bench::workload`]; each is one five-tuple: two in three are IPv4, three in four
//! TCP, which begins with a SYN and goes on without a retransmission. Checksums are right.

use std::collections::HashMap;
use std::io::{self, Write};

use flow_agent::bench::workload::{Distribution, workload};
use flow_common::key::protocol;
use flow_common::random::SplitMix64;

/// What a capture is to have in it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Packets.
    pub packets: usize,
    /// Five-tuples, of which the rarest may get no packet.
    pub flows: u32,
    /// Another seed, another capture.
    pub seed: u64,
    /// Octets of a frame that are kept.
    pub snaplen: usize,
}

/// The first packet: 2026-01-01, in seconds since 1970.
const BEGINS_S: u64 = 1_767_225_600;

/// Between two packets, ns: uniform up to this, so 100,000 packets a second on average.
const LARGEST_GAP_NS: u64 = 20_000;

/// Octets of the shortest and the longest frame.
const FRAME_OCTETS: (usize, usize) = (64, 1500);

/// Up to this a frame counts as small; half of all are.
const SMALL_OCTETS: usize = 200;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Writes the capture: nanoseconds, little-endian, Ethernet.
///
/// # Errors
/// `out` takes no more.
pub fn write(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    for word in [0xa1b2_3c4d, 2 | 4 << 16, 0, 0, plan.snaplen as u32, 1_u32] {
        out.write_all(&word.to_le_bytes())?;
    }
    let mut random = SplitMix64::new(!plan.seed);
    let mut time_ns = BEGINS_S * 1_000_000_000;
    // By flow, the next TCP sequence number.
    let mut next_seq: HashMap<u32, u32> = HashMap::new();
    let mut frame = Vec::with_capacity(FRAME_OCTETS.1);
    for flow in workload(Distribution::Zipf, plan.flows, plan.packets, plan.seed) {
        let draw = random.next();
        time_ns += (draw & 0xffff_ffff) % LARGEST_GAP_NS;
        let octets = frame_octets((draw >> 32) as usize);
        let tuple = FiveTuple::of(flow);
        let next = next_seq.get(&flow).copied();
        // A SYN carries nothing.
        let octets = if next.is_none() && tuple.protocol == protocol::TCP { 0 } else { octets };
        tuple.fill(&mut frame, octets, next);
        let octets = frame.len();
        // A SYN takes a number of its own.
        let taken = (octets - tuple.header_octets()).max(usize::from(next.is_none()));
        next_seq.insert(flow, next.unwrap_or(tuple.first_seq).wrapping_add(taken as u32));
        let captured = octets.min(plan.snaplen);
        let (seconds, rest) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
        for word in [seconds as u32, rest as u32, captured as u32, octets as u32] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(&frame[..captured])?;
    }
    Ok(())
}

fn frame_octets(draw: usize) -> usize {
    let (least, most) = FRAME_OCTETS;
    if draw.is_multiple_of(2) {
        least + draw / 2 % (SMALL_OCTETS + 1 - least)
    } else {
        SMALL_OCTETS + draw / 2 % (most + 1 - SMALL_OCTETS)
    }
}

/// What a flow's packets share, all drawn from its number.
struct FiveTuple {
    ipv6: bool,
    src: [u8; 16],
    dst: [u8; 16],
    ports: [u8; 4],
    protocol: u8,
    first_seq: u32,
}

impl FiveTuple {
    fn of(flow: u32) -> Self {
        const SERVICES: [u16; 4] = [53, 80, 443, 4433];
        let mut random = SplitMix64::new(flow.into());
        let draw = random.next();
        let ipv6 = draw.is_multiple_of(3);
        let protocol = if (draw >> 8).is_multiple_of(4) { protocol::UDP } else { protocol::TCP };
        let src_port = 32_768 + (draw >> 16) as u16 % 28_232;
        let dst_port = SERVICES[(draw >> 32) as usize % SERVICES.len()];
        let ([s0, s1], [d0, d1]) = (src_port.to_be_bytes(), dst_port.to_be_bytes());
        let ports = [s0, s1, d0, d1];
        let host = |prefix: u8, number: u64| {
            let mut address = [0; 16];
            if ipv6 {
                address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
                address[7] = prefix;
                address[8..].copy_from_slice(&number.to_be_bytes());
            } else {
                address[0] = prefix;
                address[1..4].copy_from_slice(&number.to_be_bytes()[5..]);
            }
            address
        };
        let (client, server) = (random.next(), random.next());
        Self {
            ipv6,
            src: host(10, client),
            dst: host(100, server),
            ports,
            protocol,
            first_seq: random.next() as u32,
        }
    }

    const fn header_octets(&self) -> usize {
        let ip = if self.ipv6 { 40 } else { 20 };
        14 + ip + if self.protocol == protocol::TCP { 20 } else { 8 }
    }

    /// Makes `frame` a frame of so many octets, or more where the headers take more. A flow's first
    /// packet has no `next_seq`.
    fn fill(&self, frame: &mut Vec<u8>, octets: usize, next_seq: Option<u32>) {
        let octets = octets.max(self.header_octets());
        frame.clear();
        frame.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        if self.ipv6 {
            let payload = (octets - 14 - 40) as u16;
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(payload.to_be_bytes());
            frame.extend([self.protocol, 64]);
            frame.extend(self.src.iter().chain(&self.dst));
        } else {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend(((octets - 14) as u16).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, self.protocol, 0, 0]);
            frame.extend(self.src[..4].iter().chain(&self.dst[..4]));
            let sum = checksum(&frame[14..34], 0);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        let transport = frame.len();
        frame.extend(self.ports);
        let checksum_at = if self.protocol == protocol::TCP {
            let (seq, flags) = next_seq.map_or((self.first_seq, SYN), |seq| (seq, ACK));
            frame.extend(seq.to_be_bytes());
            frame.extend([0, 0, 0, u8::from(flags == ACK), 0x50, flags, 0xff, 0xff]);
            transport + 16
        } else {
            frame.extend(((octets - transport) as u16).to_be_bytes());
            transport + 6
        };
        frame.resize(octets, 0);
        // The pseudo-header: addresses, protocol, length.
        let addresses = if self.ipv6 { 22..54 } else { 26..34 };
        let pseudo = u32::from(self.protocol) + (octets - transport) as u32;
        let headers = [&frame[addresses], &frame[transport..self.header_octets()]].concat();
        let sum = checksum(&headers, pseudo);
        frame[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The Internet checksum (RFC 1071) of octets, even in number, and what was summed before.
fn checksum(octets: &[u8], before: u32) -> u16 {
    let (words, _) = octets.as_chunks::<2>();
    let sum: u32 =
        before + words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use flow_common::{Link, Options, Packet, parse};

    use super::*;

    /// The packets of a capture: their times, and what the parser says.
    fn packets(file: &[u8]) -> Vec<(u64, Packet)> {
        let word =
            |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four octets"));
        let (mut at, mut packets) = (24, Vec::new());
        while at < file.len() {
            let (time, data) =
                (u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4)), at + 16);
            let captured = &file[data..data + word(at + 8) as usize];
            let packet = parse(captured, Link::Ethernet, word(at + 12), None, Options::default());
            packets.push((time, packet.expect("a packet of a flow")));
            at = data + captured.len();
        }
        packets
    }

    #[test]
    fn it_is_reproducible_and_has_what_the_plan_says() {
        let plan = Plan { packets: 20_000, flows: 500, seed: 7, snaplen: 128 };
        let made = |plan: &Plan| {
            let mut file = Vec::new();
            write(plan, &mut file).expect("memory");
            file
        };
        let file = made(&plan);
        assert_eq!(file, made(&plan));
        assert_ne!(file, made(&Plan { seed: 8, ..plan }));
        let packets = packets(&file);
        assert_eq!(packets.len(), plan.packets);
        assert!(packets.is_sorted_by_key(|(time, _)| *time));
        let mut next: HashMap<_, u32> = HashMap::new();
        for (_, packet) in &packets {
            // A SYN over IPv4 is 40 octets, and its frame padded on a wire, not in a capture.
            assert!((40..=1486).contains(&packet.octets), "{}", packet.octets);
            if packet.key.protocol == protocol::TCP {
                let syn = packet.tcp_flags == SYN;
                let seq = next.get(&packet.key).copied();
                assert_eq!(seq.is_none(), syn);
                assert!(seq.is_none_or(|seq| seq == packet.tcp_seq));
                let taken = packet.payload_octets + u32::from(syn);
                next.insert(packet.key, packet.tcp_seq.wrapping_add(taken));
            }
        }
        let share = |is: fn(&Packet) -> bool| {
            let flows: std::collections::HashSet<_> =
                packets.iter().filter(|(_, packet)| is(packet)).map(|(_, p)| p.key).collect();
            flows.len()
        };
        let all = share(|_| true);
        assert!(all > 400 && all <= 500, "{all}");
        assert!(share(|packet| !packet.is_ipv4()) > all / 4);
        assert!(share(|packet| packet.key.protocol == protocol::UDP) > all / 6);
        // What is kept of a frame decides nothing.
        let whole = made(&Plan { snaplen: 1500, ..plan });
        let counts = |(time, packet): &(u64, Packet)| (*time, packet.key, packet.octets);
        assert!(self::packets(&whole).iter().map(counts).eq(packets.iter().map(counts)));
    }
}
