//! Captures that are cut, damaged or none at all.

use super::craft::{self, BOTH, Endian, MICROSECONDS, NANOSECONDS, Ng};
use super::*;

/// Cuts `bytes` at every offset: the packets whose end (an offset in `ends`) lies before the cut
/// are there, and the end names the first incomplete one.
fn assert_every_cut(bytes: &[u8], header: usize, ends: &[usize], packets: &[Sent]) {
    for cut in 0..bytes.len() {
        let result = read(&bytes[..cut]);
        if cut < header {
            match result.unwrap_err() {
                CaptureError::Empty { .. } => assert_eq!(cut, 0),
                CaptureError::Short { present, .. } => assert_eq!(present, cut),
                error => panic!("{error}"),
            }
            continue;
        }
        let (read, end, _) = result.unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(read, packets[..whole.min(packets.len())]);
        let boundary = |at: &usize| *at <= cut;
        let last = ends.iter().copied().filter(boundary).max().unwrap_or(header);
        if cut == last {
            assert_eq!(end, End::Complete);
        } else {
            assert_eq!(end, End::Truncated { offset: last as u64 }, "cut at {cut}");
        }
    }
}

#[test]
fn every_cut_of_a_classic_capture() {
    let packets = craft::packets();
    for endian in BOTH {
        for magic in [MICROSECONDS, NANOSECONDS, KUZNETZOV] {
            let mut bytes = craft::pcap_header(endian, magic, 4, 1);
            let mut ends = Vec::new();
            for packet in &packets {
                bytes.extend(craft::pcap_record(endian, magic, packet));
                ends.push(bytes.len());
            }
            assert_every_cut(&bytes, 24, &ends, &packets);
        }
    }
}

#[test]
fn every_cut_of_a_pcapng_capture() {
    let packets = craft::packets();
    for endian in BOTH {
        let header = Ng::new(endian).bytes.len();
        let whole = craft::pcapng(endian, &[]);
        // The interface description is a block without a packet: measure cuts from after it.
        for cut in header..whole.len() {
            let (read, end, _) = read(&whole[..cut]).unwrap();
            assert!(read.is_empty());
            let complete = End::Complete;
            let truncated = End::Truncated { offset: header as u64 };
            assert_eq!(end, if cut == header { complete } else { truncated });
        }
        let mut ends = Vec::new();
        for count in 1..=packets.len() {
            ends.push(craft::pcapng(endian, &packets[..count]).len());
        }
        let bytes = craft::pcapng(endian, &packets);
        for cut in whole.len()..bytes.len() {
            let (read, end, _) = read(&bytes[..cut]).unwrap();
            let count = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(read, packets[..count]);
            let last = ends[..count].last().copied().unwrap_or(whole.len());
            let truncated = End::Truncated { offset: last as u64 };
            assert_eq!(end, if cut == last { End::Complete } else { truncated });
        }
        for cut in 0..header {
            assert!(read(&whole[..cut]).is_err());
        }
    }
}

#[test]
fn every_cut_of_gzip_data_keeps_a_prefix() {
    let packets = craft::packets();
    let whole = craft::gzip(&craft::pcap(Endian::Little, MICROSECONDS, &packets));
    for cut in 0..whole.len() {
        match read(&whole[..cut]) {
            Ok((read, end, _)) => {
                assert_eq!(read, packets[..read.len()]);
                assert!(matches!(end, End::Truncated { .. }), "{end}");
            }
            Err(error) => assert!(matches!(
                error,
                CaptureError::Compression { .. }
                    | CaptureError::Empty { .. }
                    | CaptureError::Short { .. }
            )),
        }
    }
    // Garbage after the last member is a defect, but no packet is lost.
    let (read, end, _) = read(&[&whole[..], b"garbage after it"].concat()).unwrap();
    assert_eq!(read, packets);
    assert!(matches!(end, End::Corrupt { .. }));
}

#[test]
fn a_damaged_block_ends_the_capture_with_its_reason() {
    let packets = craft::packets();
    let two = craft::pcapng(Endian::Little, &packets[..2]);
    let block_end = |block: &[u8], reason: &str| {
        let (read, end, _) = read(&[&two[..], block].concat()).unwrap();
        assert_eq!(read, packets[..2]);
        let End::Corrupt { offset, reason: found } = end else { panic!("{end}") };
        assert_eq!(offset, two.len() as u64);
        assert!(found.contains(reason), "{found}");
    };
    let block = |kind: u32, length: u32, body: usize, second: u32| {
        let mut bytes = [kind.to_le_bytes(), length.to_le_bytes()].concat();
        bytes.resize(8 + body, 0);
        bytes.extend(second.to_le_bytes());
        bytes
    };
    block_end(&block(6, 0, 0, 0), "length of 0");
    block_end(&block(6, 13, 8, 13), "length of 13");
    block_end(&block(6, u32::MAX - 3, 100, 0), "length of 4294967292");
    block_end(&block(6, 12, 0, 12), "body of 0 octets");
    block_end(&block(3, 12, 0, 12), "body of 0 octets");
    block_end(&block(1, 12, 0, 12), "description of 0 octets");
    block_end(&block(6, 32, 20, 36), "lengths 32 and 36");
    block_end(&block(77, 32, 20, 36), "lengths 32 and 36");
    block_end(&block(0x0a0d_0d0a, 28, 16, 28), "byte-order magic");
    let mut unknown = Ng { endian: Endian::Little, bytes: Vec::new() };
    unknown.packet(6, 9, 0, &packets[2]);
    block_end(&unknown.bytes, "interface 9 where 1 are described");
    let mut long = Ng { endian: Endian::Little, bytes: Vec::new() };
    long.block(6, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0, 1, 2, 3, 4]);
    block_end(&long.bytes, "packet of 5 octets in a block that has 4");
    long.bytes.clear();
    long.block(3, &[5, 0, 0, 0, 1, 2, 3, 4]);
    block_end(&long.bytes, "packet of 5 octets in a block that has 4");
    // A length that is only too long for the file cannot be told from a cut.
    let (_, end, _) = read(&[&two[..], &block(77, u32::MAX - 3, 100, 0)].concat()).unwrap();
    assert_eq!(end, End::Truncated { offset: two.len() as u64 });
}

#[test]
fn a_damaged_record_ends_the_capture_with_its_reason() {
    let packets = craft::packets();
    let mut bytes = craft::pcap(Endian::Big, MICROSECONDS, &packets);
    let offset = bytes.len() as u64;
    let mut record = craft::pcap_record(Endian::Big, MICROSECONDS, &packets[0]);
    record[8] = 0x7f;
    bytes.extend(record);
    let (read, end, _) = read(&bytes).unwrap();
    assert_eq!(read, packets);
    let End::Corrupt { offset: found, reason } = end else { panic!("{end}") };
    assert_eq!(found, offset);
    assert!(reason.contains("2130706432 captured octets"), "{reason}");
}

#[test]
fn more_octets_than_on_the_wire_are_the_octets_on_the_wire() {
    let packet = Sent { wire_octets: 10, ..craft::packets()[2].clone() };
    let (read, _, _) = read(&craft::pcap(Endian::Big, MICROSECONDS, &[packet])).unwrap();
    assert_eq!(read[0].wire_octets, 60);
}

#[test]
fn what_is_no_capture_is_refused() {
    assert!(matches!(read(b"").unwrap_err(), CaptureError::Empty { .. }));
    assert!(matches!(read(&craft::gzip(b"")).unwrap_err(), CaptureError::Empty { .. }));
    for text in [&b"GET / HTTP/1.1\r\n"[..], &craft::gzip(b"a tar file, say"), &[0; 100]] {
        assert!(matches!(read(text).unwrap_err(), CaptureError::NotACapture { .. }));
    }
    let error = read(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "test.pcap is no capture (it starts with 28 b5 2f fd, zstd: decompress it first); give a \
         pcap or pcapng file, plain or gzip"
    );
    let mut version = craft::pcap(Endian::Big, MICROSECONDS, &[]);
    version[5] = 9;
    assert!(matches!(read(&version).unwrap_err(), CaptureError::Unsupported { .. }));
    let mut version = craft::pcapng(Endian::Big, &[]);
    version[13] = 2;
    assert!(matches!(read(&version).unwrap_err(), CaptureError::Unsupported { .. }));
    let gzip = craft::gzip(&craft::pcap(Endian::Big, MICROSECONDS, &craft::packets()));
    assert!(matches!(read(&gzip[..12]).unwrap_err(), CaptureError::Compression { .. }));
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Capture::open(&folder.path().join("missing.pcap"), "missing").unwrap_err();
    assert!(missing.to_string().contains("missing.pcap: No such file"), "{missing}");
    let directory = Capture::open(folder.path(), "folder").unwrap_err();
    assert!(matches!(directory, CaptureError::Open { .. }), "{directory}");
    assert_eq!(directory.exit(), crate::Exit::Usage);
}

#[test]
fn too_many_interfaces_are_damage() {
    let mut ng = Ng::new(Endian::Little);
    for _ in 0..5000 {
        ng.interface(1, 0, &[]);
    }
    let (_, end, interfaces) = read(&ng.bytes).unwrap();
    assert!(matches!(end, End::Corrupt { .. }));
    assert_eq!(interfaces.len(), 4096);
}
