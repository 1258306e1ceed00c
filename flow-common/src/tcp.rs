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

/// Whether segments that have these flags, taken together, say where the direction is: a SYN
/// does; without one it takes an ACK, and no RST, whose sequence number may be anything. So
/// a direction that is reset is known again from a SYN on.
#[inline(always)]
pub const fn known(flags: u8) -> bool {
    flags & SYN != 0 || flags & (ACK | RST) == ACK
}

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

    /// Where the direction is after this segment, and whether the segment repeats what was
    /// sent before. `before` are the flags of all segments so far, none at the first, and
    /// `next` is what was expected after them.
    #[inline(always)]
    pub const fn follow(self, before: u8, next: u32) -> (u32, bool) {
        if known(before) { self.after(next) } else { (self.end(), false) }
    }

    /// Where the direction is after this segment, when `next` was expected of it; and whether
    /// the segment repeats what was sent before.
    ///
    /// A SYN begins anew; repeated ones are counted on their own. RST, and what has no ACK, says
    /// nothing. A probe that keeps the connection alive repeats at most one octet on purpose.
    #[inline(always)]
    const fn after(self, next: u32) -> (u32, bool) {
        if self.flags & SYN != 0 {
            return (self.end(), false);
        }
        if !known(self.flags) {
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
