//! A seed enters, Ethernet frames of every kind that the parser knows leave: whole, bent, cut
//! at each offset, and noise.
//!
//! What must hold: the same seed gives the same octets on every machine. Few addresses, ports
//! and identifications, so that packets share flows and fragments find each other.

use crate::wild::{Dice, fragment_field, length};

/// Most octets of an ordinary frame; one that is longer needs several buffers.
pub const ORDINARY: usize = 1514;

/// The shortest frame that a test run takes: an Ethernet header.
pub const SHORTEST: usize = 14;

/// `count` frames.
pub fn batch(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut dice = Dice::new(seed);
    let mut frames = Vec::with_capacity(count + ORDINARY);
    while frames.len() < count {
        let (frame, ip) = valid(&mut dice);
        match dice.below(400) {
            0..170 => frames.push(frame),
            170..360 => {
                // The same frame bent in several ways, so that some still share its flow.
                for _ in 0..4 {
                    let mut bent = frame.clone();
                    bend(&mut dice, &mut bent, ip);
                    frames.push(bent);
                }
            }
            360..362 => {
                // Cut everywhere; behind the headers nothing new comes.
                let end = frame.len().min(ip + 160);
                frames.extend((SHORTEST..=end).map(|length| frame[..length].to_vec()));
            }
            362..397 => frames.push(noise(&mut dice)),
            _ => {
                let mut jumbo = frame;
                jumbo.resize(4_000 + dice.below(5_000), 0x5a);
                if dice.once_in(2) {
                    total_length(&mut jumbo, ip);
                }
                frames.push(jumbo);
            }
        }
    }
    frames.truncate(count);
    frames
}

/// A frame as a stack sends it (or nearly), and where its IP header begins.
pub fn valid(dice: &mut Dice) -> (Vec<u8>, usize) {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let v6 = dice.once_in(2);
    link(dice, &mut frame, v6);
    let ip = frame.len();
    if v6 {
        let packet = ipv6(dice, 0);
        frame.extend(packet);
    } else {
        let packet = ipv4(dice, 0);
        frame.extend(packet);
    }
    if dice.once_in(8) {
        frame.resize(frame.len() + dice.below(30), 0); // what Ethernet pads
    }
    frame.truncate(ORDINARY);
    (frame, ip)
}

/// Tags, then whatever carries IP, or does not.
fn link(dice: &mut Dice, frame: &mut Vec<u8>, v6: bool) {
    for _ in 0..dice.pick(&[0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5]) {
        frame.extend(dice.pick(&[[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]]));
        frame.extend([dice.below(256) as u8, dice.below(3) as u8]);
    }
    match dice.below(24) {
        0 | 1 => {
            frame.extend(dice.pick(&[[0x88, 0x47], [0x88, 0x48]]));
            for _ in 0..dice.pick(&[0, 0, 1, 2, 7, 8]) {
                frame.extend([0, 1, 0, 64]);
            }
            frame.extend([0, 2, 1, 64]);
        }
        2 | 3 => {
            frame.extend([0x88, 0x64, 0x11, 0, 0, 7, 0, 0]);
            let ppp = if v6 { [0, 0x57] } else { [0, 0x21] };
            frame.extend(if dice.once_in(6) { [0xc0, 0x21] } else { ppp });
        }
        4 => frame.extend(dice.pick(&[
            [0x08, 0x06],
            [0x88, 0xcc],
            [0x88, 0x63],
            [0x00, 0x40],
            [0x89, 0x02],
            [0xff, 0xff],
        ])),
        // Announced as the other version.
        5 if dice.once_in(6) => frame.extend(if v6 { [0x08, 0x00] } else { [0x86, 0xdd] }),
        _ => frame.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] }),
    }
}

/// What IP carries: ports, ICMP, tunnels, and protocols that are none of these.
const PROTOCOLS: [u8; 24] =
    [1, 58, 6, 6, 6, 6, 17, 17, 17, 17, 33, 132, 136, 47, 47, 4, 41, 50, 2, 89, 112, 253, 115, 59];

/// Tunnels in tunnels end here.
const DEEPEST: u8 = 2;

fn ipv4(dice: &mut Dice, depth: u8) -> Vec<u8> {
    let options = if dice.once_in(5) { dice.below(11) * 4 } else { 0 };
    let protocol = dice.pick(&PROTOCOLS);
    let payload = transport(dice, protocol, depth);
    let header = 20 + options;
    let mut packet = vec![0x40 | (header / 4) as u8, dice.byte()];
    packet.extend(length(dice, header + payload.len()));
    packet.extend([0, dice.below(4) as u8]);
    packet.extend(fragment_field(dice));
    packet.extend([dice.byte(), protocol, 0, 0]);
    packet.extend([10, 0, 0, dice.below(3) as u8]);
    packet.extend([10, 0, 1, dice.below(3) as u8]);
    packet.extend(std::iter::repeat_n(1, options));
    packet.extend(payload);
    packet
}

fn ipv6(dice: &mut Dice, depth: u8) -> Vec<u8> {
    let mut protocol = dice.pick(&PROTOCOLS);
    let mut payload = transport(dice, protocol, depth);
    for _ in 0..dice.pick(&[0, 0, 0, 0, 1, 1, 2, 3, 7, 8, 9]) {
        let kind = dice.pick(&[0, 43, 44, 60, 51, 135, 139, 140]);
        let mut header = vec![protocol];
        match kind {
            44 => {
                let field = u16::from_be_bytes(fragment_field(dice));
                header.push(0);
                header.extend((field << 3 | (field >> 13 & 1)).to_be_bytes());
                header.extend([0, 0, 0, dice.below(4) as u8]);
            }
            51 => {
                let words = dice.below(6);
                header.push(words as u8);
                header.extend(std::iter::repeat_n(0, (words + 2) * 4 - 2));
            }
            _ => {
                let units = dice.below(3);
                header.push(units as u8);
                header.extend(std::iter::repeat_n(0, 6 + units * 8));
            }
        }
        header.extend(payload);
        payload = header;
        protocol = kind;
    }
    let class = dice.byte();
    let mut packet = vec![0x60 | class >> 4, class << 4, 0, 0];
    packet.extend(length(dice, payload.len()));
    packet.extend([protocol, dice.byte()]);
    let mapped = dice.once_in(30);
    for network in [1, 2] {
        let last = dice.below(3) as u8;
        if mapped {
            packet.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, network, last]);
        } else {
            packet.extend([0xfd, network, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
    }
    packet.extend(payload);
    packet
}

fn transport(dice: &mut Dice, protocol: u8, depth: u8) -> Vec<u8> {
    let mut octets = match protocol {
        1 | 58 => vec![dice.pick(&[0, 8, 3, 11, 128, 129, 135]), dice.below(3) as u8, 0, 0, 0, 1],
        6 => {
            let words = dice.pick(&[5, 5, 5, 8, 10, 15]);
            let mut header = ports(dice);
            header.extend([0, 0, 0, 1, 0, 0, 0, 2, (words as u8) << 4, dice.byte()]);
            header.resize(words * 4, 1);
            header
        }
        17 => udp(dice, depth),
        33 | 132 | 136 => {
            let mut header = ports(dice);
            header.extend([0; 8]);
            header
        }
        47 if depth < DEEPEST => gre(dice, depth),
        4 if depth < DEEPEST => ipv4(dice, depth + 1),
        41 if depth < DEEPEST => ipv6(dice, depth + 1),
        _ => vec![0xcc; dice.below(24)],
    };
    octets.resize(octets.len() + dice.below(60), 0xaa);
    if dice.once_in(12) {
        octets.truncate(dice.below(16));
    }
    octets
}

fn ports(dice: &mut Dice) -> Vec<u8> {
    vec![0x04, dice.below(4) as u8, 0, dice.pick(&[53, 80, 255])]
}

/// Plain, or one of the tunnels over UDP.
fn udp(dice: &mut Dice, depth: u8) -> Vec<u8> {
    let mut ports = ports(dice);
    let mut inner = Vec::new();
    if depth < DEEPEST && dice.once_in(3) {
        let port = dice.pick(&[4789_u16, 6081, 2152]);
        ports[2..4].copy_from_slice(&port.to_be_bytes());
        match port {
            4789 => inner.extend([0x08, 0, 0, 0, 0, 0, dice.byte(), 0]),
            6081 => {
                let words = dice.below(4);
                inner.extend([words as u8, 0, 0x65, 0x58, 0, 0, dice.byte(), 0]);
                inner.resize(8 + words * 4, 0);
            }
            _ => {
                let flags = dice.pick(&[0x30, 0x30, 0x32, 0x34]);
                inner.extend([flags, 0xff, 0, 40, 0, 0, 0, dice.byte()]);
                if flags != 0x30 {
                    inner.extend([0, 1, 0, 0]);
                }
            }
        }
        let v6 = dice.once_in(2);
        if port != 2152 {
            inner.extend([2; 12]);
            inner.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        }
        inner.extend(if v6 { ipv6(dice, depth + 1) } else { ipv4(dice, depth + 1) });
    }
    ports.extend(((8 + inner.len()) as u16).to_be_bytes());
    ports.extend([0, 0]);
    ports.extend(inner);
    ports
}

/// With and without checksum, key and sequence number; IP or Ethernet inside.
fn gre(dice: &mut Dice, depth: u8) -> Vec<u8> {
    let flags = dice.pick(&[0, 0x20, 0x20, 0x80, 0x10, 0xb0]);
    let (kind, inner) = match dice.below(3) {
        0 => ([0x08, 0x00], ipv4(dice, depth + 1)),
        1 => ([0x86, 0xdd], ipv6(dice, depth + 1)),
        _ => ([0x65, 0x58], [vec![2; 12], vec![0x08, 0x00], ipv4(dice, depth + 1)].concat()),
    };
    let mut header = vec![flags, 0];
    header.extend(kind);
    for _ in 0..(flags & 0xb0_u8).count_ones() {
        header.extend([0, 0, 0, dice.byte()]);
    }
    header.extend(inner);
    header
}

/// Corrects the length field of a packet that has grown.
fn total_length(frame: &mut [u8], ip: usize) {
    let whole = frame.len() - ip;
    let (at, length) = match frame[ip] >> 4 {
        4 => (ip + 2, whole),
        _ => (ip + 4, whole.saturating_sub(40)),
    };
    frame[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
}

/// Changes some octets: anywhere in the headers, and where they say how long they are.
fn bend(dice: &mut Dice, frame: &mut Vec<u8>, ip: usize) {
    const EDGES: [u8; 9] = [0, 1, 2, 0x0f, 0x7f, 0x80, 0xfe, 0xff, 0x45];
    for _ in 0..=dice.below(3) {
        let reach = frame.len().min(120);
        let at = match dice.below(4) {
            // Version and header length, total length, fragment, protocol or next header...
            0 => ip + dice.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 21, 40, 41, 42, 43, 48, 49]),
            1 => 12 + dice.below(12),
            _ => dice.below(reach),
        };
        let Some(octet) = frame.get_mut(at) else { continue };
        *octet = match dice.below(4) {
            0 => *octet ^ 1 << dice.below(8),
            1 => octet.wrapping_add(dice.pick(&[1, 0xff])),
            2 => dice.pick(&EDGES),
            _ => dice.byte(),
        };
    }
    if dice.once_in(6) {
        frame.truncate(SHORTEST + dice.below(frame.len() - SHORTEST + 1));
    }
}

/// Octets without meaning, often behind an ethertype that has one.
fn noise(dice: &mut Dice) -> Vec<u8> {
    let length = SHORTEST + dice.below(200);
    let mut frame: Vec<u8> = (0..length).map(|_| dice.byte()).collect();
    if !dice.once_in(4) {
        let known =
            [0x0800_u16, 0x86dd, 0x8100, 0x88a8, 0x9100, 0x8847, 0x8848, 0x8864, 0x0806, 0x88cc];
        frame[12..14].copy_from_slice(&dice.pick(&known).to_be_bytes());
        if let Some(octet) = frame.get_mut(14)
            && dice.once_in(2)
        {
            *octet = dice.pick(&[0x45, 0x60, 0x4f, 0x46]);
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_frames_again_and_another_one_others() {
        let frames = batch(7, 2_000);
        assert_eq!(frames.len(), 2_000);
        assert!(frames.iter().all(|frame| frame.len() >= SHORTEST));
        assert!(frames.iter().any(|frame| frame.len() > ORDINARY));
        assert_eq!(frames, batch(7, 2_000));
        assert_ne!(frames, batch(8, 2_000));
    }
}
