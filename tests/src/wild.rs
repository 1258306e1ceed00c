//! A seed enters, captures with frames of every kind leave: whole and cut, right and wrong.
//!
//! What must hold: the same seed gives the same octets on every machine.

/// Frames as `(time_ns, octets on the wire, octets captured)`.
pub type Frames = Vec<(u64, u32, Vec<u8>)>;

/// A small random number generator (xorshift64*).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    /// True once in `times` throws.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Any octet.
    pub fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    fn u16(&mut self) -> [u8; 2] {
        (self.below(1 << 16) as u16).to_be_bytes()
    }
}

/// `count` frames of link type `link`: a supported `LINKTYPE_` number.
pub fn frames(dice: &mut Dice, link: u16, count: usize) -> Frames {
    let mut time_ns = 1_700_000_000_000_000_000;
    (0..count)
        .map(|_| {
            time_ns += match dice.below(50) {
                0 => dice.below(45) as u64 * 1_000_000_000,
                _ => dice.below(1_000_000) as u64 * 1_000,
            };
            // Captures of several queues are not quite in order.
            let late = dice.below(20) as u64 / 19 * 3_000;
            let mut data = frame(dice, link);
            if dice.once_in(10) {
                data.resize(data.len() + dice.below(20), 0); // what Ethernet pads
            }
            for _ in 0..dice.below(40) / 38 {
                let at = dice.below(data.len().min(80));
                data[at] = dice.below(256) as u8;
            }
            let mut wire = data.len();
            match dice.below(12) {
                0 => data.truncate(dice.below(wire)),
                1 => data.truncate(68),
                2 => wire += dice.below(1500), // a snap length that cut only the payload
                _ => {}
            }
            (time_ns - late, wire as u32, data)
        })
        .collect()
}

/// One frame of link type `link`.
fn frame(dice: &mut Dice, link: u16) -> Vec<u8> {
    let v6 = dice.once_in(3);
    let ethertype = if v6 { 0x86dd_u16 } else { 0x0800 }.to_be_bytes();
    let mut frame = match link {
        1 => {
            let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
            tags(dice, &mut frame, ethertype, v6);
            frame
        }
        113 => {
            let mut frame = vec![0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
            tags(dice, &mut frame, ethertype, v6);
            frame
        }
        276 => {
            let mut frame = ethertype.to_vec();
            frame.extend([0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
            frame
        }
        0 | 108 => {
            let family = if v6 { dice.pick(&[10, 24, 28, 30]) } else { 2 };
            if dice.once_in(2) { vec![family, 0, 0, 0] } else { vec![0, 0, 0, family] }
        }
        _ => Vec::new(),
    };
    if v6 {
        ipv6(dice, &mut frame);
    } else {
        ipv4(dice, &mut frame);
    }
    frame
}

/// The ethertype field, and often what else stands before IP.
fn tags(dice: &mut Dice, frame: &mut Vec<u8>, ethertype: [u8; 2], v6: bool) {
    for _ in 0..[0, 0, 0, 1, 1, 2, 3, 4, 5][dice.below(9)] {
        frame.extend(dice.pick(&[[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]]));
        frame.extend([dice.below(256) as u8, dice.below(3) as u8]);
    }
    match dice.below(12) {
        0 => {
            frame.extend([0x88, 0x47]);
            for _ in 0..dice.below(4) {
                frame.extend([0, 1, 0, 64]);
            }
            frame.extend([0, 2, 1, 64]);
        }
        1 => {
            frame.extend([0x88, 0x64, 0x11, 0, 0, 7, 0, 0]);
            frame.extend(if v6 { [0, 0x57] } else { [0, 0x21] });
        }
        2 => frame.extend(dice.pick(&[
            [0x08, 0x06],
            [0x88, 0xcc],
            [0x88, 0x63],
            [0x00, 0x40],
            [0x89, 0x02],
        ])),
        _ => frame.extend(ethertype),
    }
}

fn ipv4(dice: &mut Dice, frame: &mut Vec<u8>) {
    let options = dice.below(6) / 5 * dice.below(11) * 4;
    let protocol = dice.pick(&[1, 6, 6, 17, 17, 33, 47, 47, 4, 41, 50, 51, 132, 136, 2, 253]);
    let payload = transport(dice, protocol);
    let header = 20 + options;
    let total = length(dice, header + payload.len());
    let fragment = fragment_field(dice);
    frame.push(0x40 | (header / 4) as u8);
    frame.push(dice.below(256) as u8);
    frame.extend(total);
    frame.extend([0, dice.below(4) as u8]); // few ids, so that fragments find each other
    frame.extend(fragment);
    frame.extend([64, protocol, 0, 0]);
    frame.extend([10, 0, 0, dice.below(3) as u8]);
    frame.extend([10, 0, 1, dice.below(3) as u8]);
    frame.extend(std::iter::repeat_n(1, options));
    frame.extend(payload);
}

fn ipv6(dice: &mut Dice, frame: &mut Vec<u8>) {
    let mut protocol = dice.pick(&[6, 6, 17, 17, 58, 132, 136, 33, 59, 47, 4, 41, 253]);
    let mut payload = transport(dice, protocol);
    let mut fragmented = false;
    for _ in 0..[0, 0, 0, 1, 1, 2, 3, 8, 9][dice.below(9)] {
        let mut kind = dice.pick(&[0, 43, 44, 44, 60, 51, 135, 139, 140]);
        if kind == 44 && fragmented {
            kind = 60; // a datagram is fragmented once
        }
        fragmented |= kind == 44;
        let mut header = vec![protocol];
        match kind {
            44 => {
                let part = fragment_field(dice);
                let offset = u16::from_be_bytes(part) << 3;
                header.push(0);
                header.extend((offset | u16::from(part[0] & 0x20 != 0)).to_be_bytes());
                header.extend([0, 0, 0, dice.below(4) as u8]);
            }
            51 => {
                header.extend([1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
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
    frame.extend([0x60 | dice.below(16) as u8, 0, 0, 0]);
    frame.extend(length(dice, payload.len()));
    frame.extend([protocol, 64]);
    for network in [1, 2] {
        frame.extend([0xfd, network, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, dice.below(3) as u8]);
    }
    frame.extend(payload);
}

/// A length field: mostly right.
pub(crate) fn length(dice: &mut Dice, right: usize) -> [u8; 2] {
    let length = match dice.below(30) {
        0 => 0,
        1 => dice.below(64),
        2 => right + dice.below(100),
        3 => right.saturating_sub(dice.below(right + 1)),
        _ => right,
    };
    (length as u16).to_be_bytes()
}

/// IPv4's flags and fragment offset: mostly a whole datagram.
pub(crate) fn fragment_field(dice: &mut Dice) -> [u8; 2] {
    match dice.below(8) {
        0 => [0x20, 0],
        1 => [0, 1 + dice.below(255) as u8],
        2 => [0x20 | dice.below(32) as u8, dice.below(256) as u8],
        _ => [0x40, 0],
    }
}

fn transport(dice: &mut Dice, protocol: u8) -> Vec<u8> {
    let mut payload = Vec::new();
    match protocol {
        4 => ipv4(dice, &mut payload),
        41 => ipv6(dice, &mut payload),
        47 => gre(dice, &mut payload),
        17 if dice.once_in(2) => udp_tunnel(dice, &mut payload),
        1 | 58 => payload.extend([dice.pick(&[0, 8, 3, 11, 128, 129, 135]), 0, 0, 0, 0, 1, 0, 1]),
        _ => {
            payload.extend([0x04, dice.below(4) as u8, 0, dice.pick(&[53, 80, 255])]);
            payload.extend(dice.u16());
            payload.extend([0; 6]);
            payload.extend([0x50, dice.below(64) as u8, 0, 0, 0, 0, 0, 0]);
        }
    }
    payload.resize(payload.len() + dice.below(100), 0xaa);
    if dice.once_in(12) {
        payload.truncate(dice.below(8));
    }
    payload
}

/// A GRE header and what it says follows: mostly.
fn gre(dice: &mut Dice, payload: &mut Vec<u8>) {
    let flags = dice.pick(&[0, 0, 0x20, 0x20, 0x80, 0xa0, 0x30, 0xb0, 0x40]);
    payload.extend([flags, dice.below(9) as u8 / 8]);
    let ethertype = carried(dice);
    payload.extend(ethertype);
    for flag in [0x80, 0x20, 0x10] {
        if flags & flag != 0 {
            payload.extend([0, 0, 0, dice.below(3) as u8]);
        }
    }
    content(dice, ethertype, payload);
}

/// UDP with VXLAN, GENEVE or GTP-U.
fn udp_tunnel(dice: &mut Dice, payload: &mut Vec<u8>) {
    let port: u16 = dice.pick(&[4789, 4789, 8472, 6081, 6081, 2152, 2152]);
    payload.extend([0xc0, dice.below(4) as u8]);
    payload.extend(port.to_be_bytes());
    payload.extend([0, 8, 0, 0]);
    let id = dice.below(3) as u8;
    match port {
        6081 => {
            let options = dice.below(4) as u8;
            let ethertype = carried(dice);
            payload.extend([options | (dice.below(20) as u8 / 19 * 0x40), 0]);
            payload.extend(ethertype);
            payload.extend([0, 0, id, 0]);
            payload.extend(std::iter::repeat_n(0, usize::from(options) * 4));
            content(dice, ethertype, payload);
        }
        2152 => {
            let flags = dice.pick(&[0x30, 0x30, 0x32, 0x34, 0x34, 0x34, 0x36, 0x20]);
            payload.extend([flags, dice.pick(&[255, 255, 255, 1]), 0, 0, 0, 0, 0, id]);
            let mut extensions = if flags & 4 == 0 { 0 } else { dice.below(7) };
            if flags & 7 != 0 {
                payload.extend([0, 0, 0, u8::from(extensions > 0)]);
            }
            while extensions > 0 {
                extensions -= 1;
                let words = dice.pick(&[1, 1, 2, 3, 0]);
                payload.push(words);
                payload.extend(std::iter::repeat_n(7, (usize::from(words) * 4).saturating_sub(2)));
                payload.push(u8::from(extensions > 0));
            }
            content(dice, [0x08, 0x00], payload);
        }
        _ => {
            payload.extend([dice.pick(&[8, 8, 8, 8, 0]), 0, 0, 0, 0, 0, id, 0]);
            content(dice, [0x65, 0x58], payload);
        }
    }
}

fn carried(dice: &mut Dice) -> [u8; 2] {
    dice.pick(&[[0x08, 0x00], [0x08, 0x00], [0x86, 0xdd], [0x65, 0x58], [0x65, 0x58], [0x88, 0xbe]])
}

/// What a tunnel carries under this ethertype, rarely something else.
fn content(dice: &mut Dice, ethertype: [u8; 2], payload: &mut Vec<u8>) {
    match ethertype {
        [0x65, 0x58] => payload.extend(frame(dice, 1)),
        [0x86, 0xdd] => ipv6(dice, payload),
        _ if dice.once_in(10) => ipv6(dice, payload),
        _ => ipv4(dice, payload),
    }
}

/// A classic capture of the frames, with nanoseconds, in little-endian order.
pub fn pcap(link: u16, frames: &Frames) -> Vec<u8> {
    let mut bytes = vec![0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(65_535_u32.to_le_bytes());
    bytes.extend(u32::from(link).to_le_bytes());
    for (time_ns, wire, data) in frames {
        bytes.extend(((time_ns / 1_000_000_000) as u32).to_le_bytes());
        bytes.extend(((time_ns % 1_000_000_000) as u32).to_le_bytes());
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(wire.to_le_bytes());
        bytes.extend(data);
    }
    bytes
}

/// A pcapng capture of one interface per link type, their frames in turn, in big-endian order.
pub fn pcapng(interfaces: &[(u16, Frames)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let padding = body.len().next_multiple_of(4) - body.len();
        let length = (12 + body.len() + padding) as u32;
        bytes.extend(kind.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        bytes.extend(std::iter::repeat_n(0, padding));
        bytes.extend(length.to_be_bytes());
    };
    block(0x0a0d_0d0a, &[&[0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0][..], &[0xff; 8]].concat());
    for (link, _) in interfaces {
        // if_tsresol: nanoseconds; then the end of the options.
        let options = [0, 9, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0];
        block(1, &[&link.to_be_bytes()[..], &[0; 6], &options].concat());
    }
    let longest = interfaces.iter().map(|(_, frames)| frames.len()).max().unwrap_or(0);
    for nth in 0..longest {
        for (index, (_, frames)) in interfaces.iter().enumerate() {
            let Some((time_ns, wire, data)) = frames.get(nth) else {
                continue;
            };
            let mut body = (index as u32).to_be_bytes().to_vec();
            body.extend(time_ns.to_be_bytes());
            body.extend((data.len() as u32).to_be_bytes());
            body.extend(wire.to_be_bytes());
            body.extend(data);
            block(6, &body);
        }
    }
    bytes
}
