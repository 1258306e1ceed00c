//! Small facts about a flow, in one octet.

use super::key::Side;
use crate::record::InitiatorBy;

/// Of which ends an ICMP answer was seen, or an ACK of TCP; whether the flow is in a tunnel; and
/// the initiator, if an earlier record of the flow decided it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notes(u8);

impl Notes {
    /// The same as [`Notes::ACKED`], of another protocol.
    pub const ANSWERED: u8 = 1;
    pub const ACKED: u8 = 1;
    const IN_TUNNEL: u8 = 1 << 2;
    const DECIDED: u8 = 1 << 4;
    const INITIATOR_IS_HIGH: u8 = 1 << 5;
    const BY_SHIFT: u8 = 6;

    /// A fact about one end.
    #[inline(always)]
    pub fn has(self, fact: u8, side: Side) -> bool {
        self.0 & fact << side as u8 != 0
    }

    /// Notes a fact about one end.
    #[inline(always)]
    pub fn set(&mut self, fact: u8, side: Side) {
        self.0 |= fact << side as u8;
    }

    /// True for a flow in a tunnel.
    #[inline(always)]
    pub fn in_tunnel(self) -> bool {
        self.0 & Self::IN_TUNNEL != 0
    }

    /// What an earlier record decided.
    pub fn initiator(self) -> Option<(Side, InitiatorBy)> {
        let side = if self.0 & Self::INITIATOR_IS_HIGH == 0 { Side::Low } else { Side::High };
        let by = match self.0 >> Self::BY_SHIFT {
            0 => InitiatorBy::Syn,
            1 => InitiatorBy::Icmp,
            2 => InitiatorBy::ServicePort,
            _ => InitiatorBy::FirstPacket,
        };
        (self.0 & Self::DECIDED != 0).then_some((side, by))
    }

    /// Of a record that begins: what is known of its initiator, and whether it is in a tunnel.
    pub fn new(initiator: Option<(Side, InitiatorBy)>, in_tunnel: bool) -> Self {
        let decided = initiator.map_or(0, |(side, by)| {
            Self::DECIDED
                | (Self::INITIATOR_IS_HIGH * side as u8)
                | ((by as u8 - 1) << Self::BY_SHIFT)
        });
        Self(decided | (Self::IN_TUNNEL * u8::from(in_tunnel)))
    }
}
