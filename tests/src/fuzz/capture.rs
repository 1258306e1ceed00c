//! The capture reader: a capture that is cut anywhere gives the packets before the cut and none
//! else, and one that is whole ends where it says; what is no capture is refused.

use flow_agent::replay::capture::{Capture, End};

use super::take_u16;

/// Of one packet: time, interface, link, octets on the wire, octets.
type Seen = (u64, u32, String, u32, Vec<u8>);

/// The first two octets say where the capture is cut.
pub fn run(mut octets: &[u8]) {
    let cut = take_u16(&mut octets);
    let Some((whole, end)) = read(octets) else { return };
    if let End::Truncated { offset } | End::Corrupt { offset, .. } = &end {
        // Compressed captures are longer than their files.
        let plain = !octets.starts_with(&[0x1f, 0x8b]);
        assert!(!plain || *offset <= octets.len() as u64, "{end}, of {} octets", octets.len());
    }
    let cut = cut % (octets.len() + 1);
    let Some((part, _)) = read(&octets[..cut]) else { return };
    assert!(part.len() <= whole.len(), "a cut capture has more packets");
    assert_eq!(part[..], whole[..part.len()], "a cut capture has other packets");
}

/// All packets and how the capture ended; none if it is refused, with a sentence.
fn read(octets: &[u8]) -> Option<(Vec<Seen>, End)> {
    let mut capture = match Capture::from_octets(octets.to_vec()) {
        Ok(capture) => capture,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let mut packets = Vec::new();
    while let Some(packet) = capture.next_packet().expect("memory can be read") {
        assert!(packet.wire_octets as usize >= packet.data.len());
        let link = format!("{:?}", packet.link);
        let seen =
            (packet.time_ns, packet.interface, link, packet.wire_octets, packet.data.to_vec());
        let interface = packet.interface as usize;
        assert!(interface < capture.interfaces().len(), "a packet of an unknown interface");
        packets.push(seen);
    }
    let end = capture.end().expect("it has ended").clone();
    assert!(!end.to_string().is_empty());
    Some((packets, end))
}
