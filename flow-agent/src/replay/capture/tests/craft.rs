//! Builds captures for the reader's tests, octet by octet from the format specifications.

use std::io::Write;

/// A byte order to write in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

pub(super) const BOTH: [Endian; 2] = [Endian::Little, Endian::Big];

impl Endian {
    pub(super) fn u16(self, number: u16) -> [u8; 2] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    pub(super) fn u32(self, number: u32) -> [u8; 4] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    pub(super) fn i64(self, number: i64) -> [u8; 8] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }
}

/// A packet as a test wants it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) time_ns: u64,
    pub(super) interface: u32,
    pub(super) link: u16,
    pub(super) wire_octets: u32,
    pub(super) data: Vec<u8>,
}

/// A few packets of an Ethernet interface with index 0, at whole microseconds.
pub(super) fn packets() -> Vec<Sent> {
    [(1, 0), (2, 1), (3, 60), (4, 64), (5, 0), (6, 61)]
        .into_iter()
        .map(|(n, octets)| Sent {
            time_ns: 1_700_000_000_000_000_000 + n * 1_000_001_000,
            interface: 0,
            link: 1,
            wire_octets: octets as u32 + n as u32 % 2 * 100,
            data: (0..octets).map(|at| at as u8 ^ n as u8).collect(),
        })
        .collect()
}

pub(super) const MICROSECONDS: u32 = 0xa1b2_c3d4;
pub(super) const NANOSECONDS: u32 = 0xa1b2_3c4d;
pub(super) const KUZNETZOV: u32 = 0xa1b2_cd34;

/// The 24 octets before a classic capture's records.
pub(super) fn pcap_header(endian: Endian, magic: u32, minor: u16, link: u32) -> Vec<u8> {
    let mut bytes = endian.u32(magic).to_vec();
    bytes.extend(endian.u16(2));
    bytes.extend(endian.u16(minor));
    bytes.extend([0; 8]);
    bytes.extend(endian.u32(65_535));
    bytes.extend(endian.u32(link));
    bytes
}

/// One record of a classic capture.
pub(super) fn pcap_record(endian: Endian, magic: u32, packet: &Sent) -> Vec<u8> {
    let unit = if magic == NANOSECONDS { 1 } else { 1_000 };
    let mut bytes = endian.u32((packet.time_ns / 1_000_000_000) as u32).to_vec();
    bytes.extend(endian.u32((packet.time_ns % 1_000_000_000 / unit) as u32));
    bytes.extend(endian.u32(packet.data.len() as u32));
    bytes.extend(endian.u32(packet.wire_octets));
    if magic == KUZNETZOV {
        bytes.extend([7; 8]);
    }
    bytes.extend(&packet.data);
    bytes
}

/// A whole classic capture.
pub(super) fn pcap(endian: Endian, magic: u32, packets: &[Sent]) -> Vec<u8> {
    let mut bytes = pcap_header(endian, magic, 4, 1);
    for packet in packets {
        bytes.extend(pcap_record(endian, magic, packet));
    }
    bytes
}

/// A pcapng capture being written.
pub(super) struct Ng {
    pub(super) endian: Endian,
    pub(super) bytes: Vec<u8>,
}

impl Ng {
    /// A capture with its first section header.
    pub(super) fn new(endian: Endian) -> Self {
        let mut ng = Self { endian, bytes: Vec::new() };
        ng.section(endian);
        ng
    }

    /// A new section, in its own byte order.
    pub(super) fn section(&mut self, endian: Endian) {
        self.endian = endian;
        let mut body = endian.u32(0x1a2b_3c4d).to_vec();
        body.extend(endian.u16(1));
        body.extend(endian.u16(0));
        body.extend([0xff; 8]);
        self.block(0x0a0d_0d0a, &body);
    }

    /// Any block; its body is padded.
    pub(super) fn block(&mut self, kind: u32, body: &[u8]) {
        let length = self.endian.u32(12 + body.len().next_multiple_of(4) as u32);
        self.bytes.extend(self.endian.u32(kind));
        self.bytes.extend(length);
        self.bytes.extend(padded(body));
        self.bytes.extend(length);
    }

    /// An Interface Description Block with options of (code, value).
    pub(super) fn interface(&mut self, link: u16, snaplen: u32, options: &[(u16, &[u8])]) {
        let mut body = self.endian.u16(link).to_vec();
        body.extend([0; 2]);
        body.extend(self.endian.u32(snaplen));
        for (code, value) in options {
            body.extend(self.endian.u16(*code));
            body.extend(self.endian.u16(value.len() as u16));
            body.extend(padded(value));
        }
        if !options.is_empty() {
            body.extend([0; 4]);
        }
        self.block(1, &body);
    }

    /// An Enhanced Packet Block (6), or the obsolete Packet Block (2).
    pub(super) fn packet(&mut self, kind: u32, index: u32, units: u64, packet: &Sent) {
        let endian = self.endian;
        let mut body = if kind == 2 {
            [endian.u16(index as u16), endian.u16(0xffff)].concat()
        } else {
            endian.u32(index).to_vec()
        };
        body.extend(endian.u32((units >> 32) as u32));
        body.extend(endian.u32(units as u32));
        body.extend(endian.u32(packet.data.len() as u32));
        body.extend(endian.u32(packet.wire_octets));
        body.extend(padded(&packet.data));
        // A comment, which readers skip.
        body.extend([endian.u16(1), endian.u16(3)].concat());
        body.extend(b"hey\0\0\0\0\0");
        self.block(kind, &body);
    }

    /// A Simple Packet Block.
    pub(super) fn simple(&mut self, packet: &Sent) {
        let mut body = self.endian.u32(packet.wire_octets).to_vec();
        body.extend(&packet.data);
        self.block(3, &body);
    }
}

/// A whole pcapng capture of one interface with microseconds.
pub(super) fn pcapng(endian: Endian, packets: &[Sent]) -> Vec<u8> {
    let mut ng = Ng::new(endian);
    ng.interface(1, 0, &[]);
    for packet in packets {
        ng.packet(6, 0, packet.time_ns / 1_000, packet);
    }
    ng.bytes
}

/// One gzip member.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
