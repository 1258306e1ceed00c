//! Overflow rows: packets whose flows had no place.
//!
//! Enters: an interface's overflow counts. Leaves: flows without addresses and ports, so
//! that totals by interface, direction and protocol still agree.

use flow_common::key::protocol;
use flow_common::table::{ClockReading, HotLine, TcpLine};
use flow_common::{Count, Direction, FlowKey, Overflow, Tunnel};

use super::FlowEntry;

/// ICMP type 255, which is not assigned, with code 0.
const ICMP_TYPE_UNKNOWN: u16 = 255 << 8;

/// Gives on the rows of an interface; `now` is the time of all of them.
pub fn emit(
    interface: u16,
    overflow: &Overflow,
    now: ClockReading,
    flow: &mut impl FnMut(FlowEntry<'_>),
) {
    for (direction, counts) in overflow.counts.iter().enumerate() {
        for (number, count) in Overflow::PROTOCOLS.into_iter().zip(counts) {
            let mut left = *count;
            while left.packets > 0 {
                let packets = left.packets.min(u64::from(u32::MAX));
                // All octets with the last part.
                let octets = if packets == left.packets { left.octets } else { 0 };
                left = Count { packets: left.packets - packets, octets: left.octets - octets };
                let key = FlowKey {
                    interface,
                    protocol: number,
                    // Type 0 would be that of echo replies.
                    dst_port: if number == protocol::ICMP { ICMP_TYPE_UNKNOWN } else { 0 },
                    direction: Direction::from_number(direction as u8) as u8,
                    ..FlowKey::default()
                };
                let hot = HotLine {
                    octets,
                    packets: packets as u32,
                    last_jiffies: now.jiffies as u32,
                    key,
                    ..bytemuck::Zeroable::zeroed()
                };
                let (first_ns, tcp) = (now.boot_ns, &TcpLine::NONE);
                flow(FlowEntry { hot: &hot, first_ns, tcp, tunnel: &Tunnel::NONE });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::BiflowKey;

    #[test]
    fn overflow_rows_say_nothing_that_is_not_known() {
        let mut overflow = Overflow::ZERO;
        for count in &mut overflow.counts[Direction::Egress as usize] {
            count.add(3, 300);
        }
        let now = ClockReading { jiffies: 1, boot_ns: 2 };
        let mut rows = Vec::new();
        emit(7, &overflow, now, &mut |FlowEntry { hot, .. }| {
            assert_eq!((hot.packets, hot.octets, hot.key.interface), (3, 300, 7));
            let (biflow, sender) = BiflowKey::new(&hot.key, None);
            assert_eq!(biflow.sent_by(sender), hot.key, "no answer to anything");
            rows.push((hot.key.protocol, hot.key.dst_port));
        });
        assert_eq!(rows, [(6, 0), (17, 0), (1, 0xff00), (255, 0)]);
    }
}
