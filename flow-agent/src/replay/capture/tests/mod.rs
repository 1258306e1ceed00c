//! The reader against captures that the tests build: every variant, every cut, every defect.

mod craft;
mod defects;

use std::io::{Cursor, Read};

use proptest::prelude::*;

use super::*;
use craft::{BOTH, Endian, KUZNETZOV, MICROSECONDS, NANOSECONDS, Ng, Sent};

/// Reads all packets, and how the capture ended.
fn read_from(source: Source) -> Result<(Vec<Sent>, End, Vec<Interface>), CaptureError> {
    let mut capture = Capture::from_source(source, "test.pcap".into(), "test.pcap")?;
    let mut packets = Vec::new();
    while let Some(packet) = capture.next_packet()? {
        packets.push(Sent {
            time_ns: packet.time_ns,
            interface: packet.interface,
            link: packet.link.0,
            wire_octets: packet.wire_octets,
            data: packet.data.to_vec(),
        });
    }
    let end = capture.end().expect("an end after the last packet").clone();
    Ok((packets, end, capture.interfaces().to_vec()))
}

fn read(bytes: &[u8]) -> Result<(Vec<Sent>, End, Vec<Interface>), CaptureError> {
    let total = bytes.len() as u64;
    let source = || Source::new(Box::new(Cursor::new(bytes.to_vec())), Some(total)).unwrap();
    let packets = read_from(source());
    if let Ok(packets) = &packets {
        assert_eq!(read_blocks(source()).0, *packets);
        // However the octets come, the blocks are the same.
        if bytes.len() < 1 << 16 {
            let trickle = Trickle(Cursor::new(bytes.to_vec()));
            let trickled = Source::new(Box::new(trickle), None).unwrap();
            assert_eq!(read_blocks(trickled), read_blocks(source()));
        }
    }
    packets
}

/// The same by blocks, and the packets of each.
fn read_blocks(source: Source) -> ((Vec<Sent>, End, Vec<Interface>), Vec<usize>) {
    let mut capture = Capture::from_source(source, "test.pcap".into(), "test.pcap").unwrap();
    let (mut packets, mut counts) = (Vec::new(), Vec::new());
    let mut block = Block::default();
    loop {
        capture.next_block(&mut block).unwrap();
        if block.packets().len() == 0 {
            break;
        }
        counts.push(block.packets().len());
        packets.extend(block.packets().map(|packet| Sent {
            time_ns: packet.time_ns,
            interface: packet.interface,
            link: packet.link.0,
            wire_octets: packet.wire_octets,
            data: packet.data.to_vec(),
        }));
    }
    let end = capture.end().expect("an end after the last packet").clone();
    ((packets, end, capture.interfaces().to_vec()), counts)
}

/// Asserts that a complete capture yields `packets`.
fn assert_reads(bytes: &[u8], packets: &[Sent]) {
    let (read, end, _) = read(bytes).unwrap();
    assert_eq!(read, packets);
    assert_eq!(end, End::Complete);
}

/// A pipe whose writer writes octet by octet.
struct Trickle(Cursor<Vec<u8>>);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let octets = buffer.len().min(1);
        self.0.read(&mut buffer[..octets])
    }
}

#[test]
fn classic_variants_are_equal() {
    let packets = craft::packets();
    for endian in BOTH {
        for magic in [MICROSECONDS, NANOSECONDS, KUZNETZOV] {
            assert_reads(&craft::pcap(endian, magic, &packets), &packets);
        }
    }
}

#[test]
fn a_frame_check_sequence_flag_is_no_link_type() {
    let packets = craft::packets();
    let mut bytes = craft::pcap_header(Endian::Big, MICROSECONDS, 4, 0x2400_0001);
    bytes.extend(craft::pcap_record(Endian::Big, MICROSECONDS, &packets[0]));
    assert_reads(&bytes, &packets[..1]);
}

#[test]
fn old_versions_have_the_lengths_the_other_way() {
    let packet = Sent { wire_octets: 1500, ..craft::packets()[2].clone() };
    let record = craft::pcap_record(Endian::Little, MICROSECONDS, &packet);
    let mut swapped = record.clone();
    swapped[8..16].rotate_left(4);
    for (minor, record) in [(4, &record), (2, &swapped), (3, &swapped), (3, &record)] {
        let mut bytes = craft::pcap_header(Endian::Little, MICROSECONDS, minor, 1);
        bytes.extend(record);
        assert_reads(&bytes, std::slice::from_ref(&packet));
    }
}

#[test]
fn block_types_and_byte_orders_are_equal() {
    let packets = craft::packets();
    for endian in BOTH {
        for kind in [2, 6] {
            let mut ng = Ng::new(endian);
            ng.interface(1, 0, &[]);
            for packet in &packets {
                ng.block(5, b"statistics");
                ng.packet(kind, 0, packet.time_ns / 1_000, packet);
                ng.block(0x0bad_cafe, &vec![0; 600_000]); // larger than the reader's buffer
            }
            assert_reads(&ng.bytes, &packets);
        }
    }
}

#[test]
fn simple_packets_take_the_time_before_and_the_snap_length() {
    let mut packets = craft::packets()[2..4].to_vec();
    packets[0].wire_octets = 200;
    packets[1].wire_octets = 90;
    packets[1].data = vec![1; 64];
    packets[1].time_ns = packets[0].time_ns;
    let mut ng = Ng::new(Endian::Big);
    ng.interface(1, 64, &[]);
    ng.packet(6, 0, packets[0].time_ns / 1_000, &packets[0]);
    ng.simple(&packets[1]);
    assert_reads(&ng.bytes, &packets);
    // Without a snap length the whole packet is there.
    let whole = Sent { time_ns: 0, wire_octets: 61, data: vec![3; 61], ..packets[1].clone() };
    let mut ng = Ng::new(Endian::Little);
    ng.interface(1, 0, &[]);
    ng.simple(&whole);
    assert_reads(&ng.bytes, &[whole]);
}

#[test]
fn every_time_resolution_is_equal() {
    // Whole milliseconds, so that 10^-3 holds them; 2^-n is exact for half seconds.
    let packet = Sent { time_ns: 1_700_000_000_500_000_000, ..craft::packets()[2].clone() };
    let half_seconds = i128::from(packet.time_ns / 500_000_000);
    for endian in BOTH {
        for tsresol in (1..=9_u8).chain(0x81..=0xa0) {
            let per_second = match tsresol {
                0x80.. => 1 << (tsresol & 0x7f),
                _ => 10_i128.pow(u32::from(tsresol)),
            };
            let units = half_seconds * per_second / 2;
            for offset_s in [0, 1_000_000_000, -1] {
                let units = units - i128::from(offset_s) * per_second;
                let offset = endian.i64(offset_s);
                let mut ng = Ng::new(endian);
                ng.interface(1, 0, &[(9, &[tsresol]), (14, &offset), (2, b"eth0")]);
                ng.packet(6, 0, units as u64, &packet);
                assert_reads(&ng.bytes, std::slice::from_ref(&packet));
            }
        }
    }
}

#[test]
fn interfaces_are_dense_over_sections() {
    let packet = craft::packets().remove(2);
    let time = packet.time_ns / 1_000;
    let mut ng = Ng::new(Endian::Little);
    ng.interface(1, 0, &[(2, b"eth0\0")]);
    ng.interface(1, 0, &[]);
    ng.interface(1, 0, &[(2, b"")]);
    ng.packet(6, 2, time, &packet);
    ng.interface(101, 0, &[(2, b"tun0")]);
    ng.packet(6, 3, time, &packet);
    ng.section(Endian::Big);
    ng.interface(101, 0, &[(2, b"tun0")]);
    ng.interface(1, 0, &[(2, b"eth1")]);
    ng.interface(1, 0, &[]);
    ng.interface(101, 0, &[(2, b"eth0")]);
    for index in 0..4 {
        ng.packet(6, index, time, &packet);
    }
    let (packets, end, interfaces) = read(&ng.bytes).unwrap();
    assert_eq!(end, End::Complete);
    let indices: Vec<_> = packets.iter().map(|packet| packet.interface).collect();
    assert_eq!(indices, [2, 3, 3, 4, 1, 5]);
    let described: Vec<_> =
        interfaces.iter().map(|interface| (interface.name.as_str(), interface.link.0)).collect();
    let expected = [
        ("eth0", 1),
        ("test.pcap", 1),
        ("test.pcap", 1),
        ("tun0", 101),
        ("eth1", 1),
        ("eth0", 101),
    ];
    assert_eq!(described, expected);
    for packet in packets {
        assert_eq!(packet.link, interfaces[packet.interface as usize].link.0);
    }
}

#[test]
fn gzip_is_told_by_its_magic_and_members_are_one_capture() {
    let packets = craft::packets();
    let bytes = craft::pcapng(Endian::Little, &packets);
    assert_reads(&craft::gzip(&bytes), &packets);
    for cut in [0, 1, 30, bytes.len()] {
        let members = [craft::gzip(&bytes[..cut]), craft::gzip(&bytes[cut..])].concat();
        assert_reads(&members, &packets);
    }
}

#[test]
fn a_slow_pipe_reads_the_same() {
    let packets = craft::packets();
    let bytes = craft::pcap(Endian::Little, NANOSECONDS, &packets);
    for bytes in [craft::gzip(&bytes), bytes] {
        let source = Source::new(Box::new(Trickle(Cursor::new(bytes))), None).unwrap();
        let (read, end, _) = read_from(source).unwrap();
        assert_eq!((read, end), (packets.clone(), End::Complete));
    }
}

#[test]
fn packets_larger_than_the_buffer_and_the_progress() {
    let mut packets = craft::packets();
    for (n, packet) in packets.iter_mut().enumerate() {
        packet.data = vec![n as u8; 200_000];
        packet.wire_octets = 200_000;
    }
    let bytes = craft::pcap(Endian::Big, MICROSECONDS, &packets);
    assert_reads(&bytes, &packets);
    assert_reads(&craft::pcapng(Endian::Big, &packets), &packets);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.pcap");
    std::fs::write(&path, &bytes).unwrap();
    let mut capture = Capture::open(&path, "large.pcap").unwrap();
    assert_eq!(capture.file_octets(), Some(bytes.len() as u64));
    assert_eq!(capture.interfaces()[0].name, "large.pcap");
    while capture.next_packet().unwrap().is_some() {}
    assert_eq!(capture.file_octets_read(), bytes.len() as u64);
}

fn any_packet() -> impl Strategy<Value = Sent> {
    let data = prop::collection::vec(any::<u8>(), 0..200);
    (any::<u32>(), 0..1_000_000_u64, 0..3_000_u32, data).prop_map(|(seconds, us, more, data)| {
        Sent {
            time_ns: u64::from(seconds) * 1_000_000_000 + us * 1_000,
            interface: 0,
            link: 1,
            wire_octets: data.len() as u32 + more,
            data,
        }
    })
}

proptest! {
    #[test]
    fn any_packets_come_back(packets in prop::collection::vec(any_packet(), 0..40)) {
        for endian in BOTH {
            for magic in [MICROSECONDS, NANOSECONDS, KUZNETZOV] {
                assert_reads(&craft::pcap(endian, magic, &packets), &packets);
            }
            assert_reads(&craft::pcapng(endian, &packets), &packets);
        }
    }

    #[test]
    fn damaged_captures_end(
        ng: bool,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let packets = craft::packets();
        let mut bytes = if ng {
            craft::pcapng(Endian::Little, &packets)
        } else {
            craft::pcap(Endian::Little, MICROSECONDS, &packets)
        };
        for (at, octet) in damage {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        if let Ok((packets, _, interfaces)) = read(&bytes) {
            for packet in packets {
                prop_assert!(packet.time_ns <= MAX_TIME_NS);
                prop_assert!(packet.wire_octets as usize >= packet.data.len());
                prop_assert!((packet.interface as usize) < interfaces.len());
            }
        }
    }
}
