//! What a TCP direction's sequence numbers tell: which segments were sent before.
//!
//! Enters: the next sequence number expected of a direction, and a segment. Leaves: the next one
//! after it, and whether it is a retransmission. One number is all that is kept, so a segment that
//! overtook others makes those look repeated; that is rare where the sender is this host.

/// The flags, as they stand in the header (RFC 9293 section 3.1).
pub mod flags {
    #![allow(missing_docs, reason = "each name is its flag")]
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

use flags::{ACK, FIN, RST, SYN};

/// What counts of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its sequence number.
    pub seq: u32,
    /// Octets of payload.
    pub payload: u32,
    /// Its flags.
    pub flags: u8,
}

impl Segment {
    /// The sequence number that follows it: SYN and FIN take one each (RFC 9293 section 3.4).
    #[inline(always)]
    pub const fn end(self) -> u32 {
        let controls = (self.flags & SYN != 0) as u32 + (self.flags & FIN != 0) as u32;
        self.seq.wrapping_add(self.payload).wrapping_add(controls)
    }

    /// Whether its sequence number says where the direction is: not without ACK, but for SYN.
    #[inline(always)]
    pub const fn counts(self) -> bool {
        self.flags & SYN != 0 || self.flags & (ACK | RST) == ACK
    }

    /// Where the direction is after this segment, when `next` was expected of it; and whether
    /// the segment repeats what was sent before.
    ///
    /// A SYN begins anew; repeated ones are counted on their own. RST, and what has no ACK, says
    /// nothing. A probe that keeps the connection alive repeats at most one octet on purpose.
    #[inline(always)]
    pub const fn after(self, next: u32) -> (u32, bool) {
        if self.flags & SYN != 0 {
            return (self.end(), false);
        }
        if !self.counts() {
            return (next, false);
        }
        let end = self.end();
        if end.wrapping_sub(next).cast_signed() > 0 {
            return (end, false);
        }
        let probe = self.payload <= 1 && self.seq == next.wrapping_sub(1);
        (next, self.payload > 0 && !probe)
    }
}
