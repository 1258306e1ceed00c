//! The key of a flow in both directions.

use flow_common::key::protocol;
use flow_common::{Address, FlowKey, Tunnel};

use crate::delta::Delta;

/// Which end of a [`BiflowKey`] a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The end that sorts first.
    Low = 0,
    /// The other.
    High = 1,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

/// A [`FlowKey`] as its low end sends it, ICMP answers mapped to their requests, and the tunnel:
/// the packets of both directions have the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BiflowKey {
    key: FlowKey,
    /// As the low end's packets have it.
    tunnel: Option<Box<Tunnel>>,
}

impl BiflowKey {
    /// The biflow of these packets, and their sender's end.
    pub fn of(delta: &Delta) -> (Self, Side) {
        Self::new(&delta.key, delta.tunnel.as_deref())
    }

    /// The biflow of a packet with this key in this tunnel, and its sender's end.
    pub fn new(key: &FlowKey, tunnel: Option<&Tunnel>) -> (Self, Side) {
        let (key, side) = low_key(key);
        (Self { key, tunnel: tunnel.map(|tunnel| Box::new(of_low(tunnel, side))) }, side)
    }

    /// The key as `side` sends it.
    pub fn sent_by(&self, side: Side) -> FlowKey {
        sent_by(&self.key, side)
    }

    /// The tunnel as the packets of `side` have it.
    pub fn tunnel_of(&self, side: Side) -> Option<Box<Tunnel>> {
        Some(Box::new(of_low(self.tunnel.as_deref()?, side)))
    }
}

/// The key of a packet's flow as the low end sends it, ICMP answers mapped to their requests, and
/// which end sent this one.
#[inline(always)]
#[expect(
    clippy::needless_bitwise_bool,
    reason = "processors guess a branch wrong half of the time"
)]
pub fn low_key(key: &FlowKey) -> (FlowKey, Side) {
    let mut key = *key;
    let mut ports = (key.src_port, key.dst_port);
    if key.is_icmp() {
        if let Some(request) = icmp_request(&key) {
            key.dst_port = request;
        }
        // Type and code belong to both ends, ports to one each.
        ports = (0, 0);
    }
    let (src, dst) = (number(&key.src), number(&key.dst));
    let is_high = (src > dst) | ((src == dst) & (ports.0 > ports.1));
    let side = if is_high { Side::High } else { Side::Low };
    (sent_by(&key, side), side)
}

/// An address as one number, in the order of [`Address`].
#[inline(always)]
fn number(address: &Address) -> u128 {
    let [first, second]: [u64; 2] = bytemuck::must_cast(*address);
    u128::from(first.rotate_left(32)) << 64 | u128::from(second.rotate_left(32))
}

/// A key of the low end as `side` sends it, and the other way round.
#[inline(always)]
pub fn sent_by(low: &FlowKey, side: Side) -> FlowKey {
    let is_high = side as u64;
    let swap = |a: u64, b: u64| (a ^ b) & is_high.wrapping_neg();
    let [a, b]: [u64; 2] = bytemuck::must_cast(low.src);
    let [c, d]: [u64; 2] = bytemuck::must_cast(low.dst);
    let (first, second) = (swap(a, c), swap(b, d));
    let ports = swap(low.src_port.into(), low.dst_port.into()) as u16;
    let ports = if low.is_icmp() { 0 } else { ports };
    // Ingress becomes egress and the other way round, unknown stays.
    let turns = is_high as u8 & ((low.direction & 1) ^ (low.direction >> 1));
    FlowKey {
        src: Address(bytemuck::must_cast([a ^ first, b ^ second])),
        dst: Address(bytemuck::must_cast([c ^ first, d ^ second])),
        src_port: low.src_port ^ ports,
        dst_port: low.dst_port ^ ports,
        direction: low.direction ^ (turns * 3),
        ..*low
    }
}

/// A tunnel of `side`'s packets as the low end's have it, and the other way round.
#[inline]
pub fn of_low(tunnel: &Tunnel, side: Side) -> Tunnel {
    match side {
        Side::Low => *tunnel,
        Side::High => tunnel.reversed(),
    }
}

/// Type and code of the request that an ICMP answer belongs to; `None` when it
/// is no answer (RFC 792, RFC 950, RFC 4443).
#[inline(always)]
pub fn icmp_request(key: &FlowKey) -> Option<u16> {
    if !key.is_icmp() {
        return None;
    }
    let request = match (key.protocol, key.dst_port >> 8) {
        (protocol::ICMP, 0) => 8,   // echo
        (protocol::ICMP, 14) => 13, // timestamp
        (protocol::ICMP, 16) => 15, // information
        (protocol::ICMP, 18) => 17, // address mask
        (protocol::ICMPV6, 129) => 128,
        _ => return None,
    };
    Some(request << 8 | key.dst_port & 0xff)
}

/// True when the key is that of an ICMP request which has an answer.
pub fn is_icmp_request(key: &FlowKey) -> bool {
    match key.protocol {
        protocol::ICMP => matches!(key.dst_port >> 8, 8 | 13 | 15 | 17),
        protocol::ICMPV6 => key.dst_port >> 8 == 128,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use flow_common::Direction;

    use super::*;

    fn key(src: u8, dst: u8, src_port: u16, dst_port: u16, protocol: u8) -> FlowKey {
        FlowKey {
            src: [src; 16].into(),
            dst: [dst; 16].into(),
            src_port,
            dst_port,
            protocol,
            direction: Direction::Ingress as u8,
            ..FlowKey::default()
        }
    }

    #[test]
    fn both_directions_share_a_key() {
        let request = key(9, 3, 40000, 53, protocol::UDP);
        let mut answer = key(3, 9, 53, 40000, protocol::UDP);
        answer.direction = Direction::Egress as u8;
        let (a, sender) = BiflowKey::new(&request, None);
        let (b, responder) = BiflowKey::new(&answer, None);
        assert_eq!(a, b);
        assert_eq!(sender, responder.other());
        assert_eq!(a.sent_by(sender), request);
        assert_eq!(a.sent_by(responder), answer);
    }

    #[test]
    fn the_answers_tunnel_is_the_reversed_one_with_the_same_id() {
        let tunnel = Tunnel { kind: 1, id: 7, src: [1; 4].into(), dst: [2; 4].into() };
        let (request, mut answer) =
            (key(9, 3, 40000, 53, protocol::UDP), key(3, 9, 53, 40000, protocol::UDP));
        answer.direction = Direction::Egress as u8;
        let (a, sender) = BiflowKey::new(&request, Some(&tunnel));
        let (b, responder) = BiflowKey::new(&answer, Some(&tunnel.reversed()));
        assert_eq!((&a, sender), (&b, responder.other()));
        assert_eq!(a.tunnel_of(sender).as_deref(), Some(&tunnel));
        assert_eq!(a.tunnel_of(responder), Some(Box::new(tunnel.reversed())));
        for other in [None, Some(tunnel), Some(Tunnel { id: 8, ..tunnel.reversed() })] {
            assert_ne!(BiflowKey::new(&answer, other.as_ref()).0, a);
        }
    }

    #[test]
    fn a_host_that_talks_to_itself_has_two_ends() {
        let (a, low) = BiflowKey::new(&key(5, 5, 80, 4000, protocol::TCP), None);
        let mut back = key(5, 5, 4000, 80, protocol::TCP);
        back.direction = Direction::Egress as u8;
        let (b, high) = BiflowKey::new(&back, None);
        assert_eq!((a, low), (b, high.other()));
    }

    #[test]
    fn echo_reply_joins_its_request() {
        let request = key(9, 3, 0, 8 << 8, protocol::ICMP);
        let mut reply = key(3, 9, 0, 0, protocol::ICMP);
        reply.direction = Direction::Egress as u8;
        let (a, sender) = BiflowKey::new(&request, None);
        let (b, responder) = BiflowKey::new(&reply, None);
        assert_eq!((&a, sender), (&b, responder.other()));
        assert!(is_icmp_request(&a.sent_by(sender)));
    }

    #[test]
    fn unanswerable_icmp_stays_in_one_direction() {
        let unreachable = key(9, 3, 0, 3 << 8 | 1, protocol::ICMP);
        assert_eq!(icmp_request(&unreachable), None);
        let (a, side) = BiflowKey::new(&unreachable, None);
        assert_eq!(a.sent_by(side), unreachable);
    }
}
