//! What the measurements share. Updates of flows come from [`flow_agent::bench::updates`], as in
//! the tests and in `flow-agent bench cache`.

mod enriched;
#[path = "../../tests/src/mmdb.rs"]
mod mmdb;

pub use enriched::Enriched;

use flow_common::key::protocol;

/// A key as large as that of a flow, rounded up, for caches that know no flows.
pub type Key = [u64; 6];

/// A value as large as a flow's counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Value(pub [u64; 12]);

/// The key of a flow with this number.
#[must_use]
pub const fn key(flow: u32) -> Key {
    [0, 0xffff << 32 | flow as u64, 0, 0x0100_000a_ffff, 443 << 16 | 40_000, 17]
}

impl Value {
    /// Adds a packet, as an update of a flow does.
    pub const fn add(&mut self, now_ns: u64) {
        self.0[0] += 1;
        self.0[1] += 500;
        if self.0[2] == 0 {
            self.0[2] = now_ns;
        }
        self.0[3] = now_ns;
    }
}

/// An Ethernet frame with `tags` VLAN tags, an IPv4 header and a TCP header.
pub fn tcp_frame(tags: usize) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in 0..tags {
        frame.extend([0x81, 0x00, 0, tag as u8]);
    }
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol::TCP, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
    frame
}
