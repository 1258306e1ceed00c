//! One packet between the parser and its flow.

use flow_common::key::protocol;
use flow_common::parse::FragmentRole;
use flow_common::tcp::Segment;
use flow_common::tcp::flags::{ACK, SYN};
use flow_common::{FlowKey, Packet, Tunnel};

use crate::cache::{FlowHasher, Sent, Side, low_key, of_low, sent_by};
use crate::delta::Delta;

/// What a packet adds to its flow, with what is known of the flow: 80 octets.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Metered {
    /// When it was captured, ns.
    pub time_ns: u64,
    /// The key of its flow, as the low end sends it.
    pub key: FlowKey,
    /// The hash of its flow, the same for both directions.
    pub hash: u32,
    /// Its position among the metered packets of its block.
    pub position: u32,
    /// The position of its tunnel in its block plus one, 0 for none.
    pub tunnel: u32,
    octets: u32,
    /// The sequence number of TCP; of ICMP, type and code, which of an answer are not its flow's.
    told: u32,
    payload_octets: u32,
    tcp_flags: u8,
    dscp: u8,
    ttl: u8,
    marks: u8,
}

const _: () = assert!(size_of::<Metered>() == 80);

/// In [`Metered::marks`]: the high end sent it.
const HIGH: u8 = 1;

/// In [`Metered::marks`]: it has a TCP header.
const SEGMENT: u8 = 2;

impl Metered {
    /// A packet as it was parsed. Its key, tunnel and hash are still to be said.
    #[inline(always)]
    pub fn new(packet: &Packet, time_ns: u64, position: u32) -> Self {
        // A later fragment has no header to tell.
        let is_segment =
            packet.key.protocol == protocol::TCP && packet.fragment != FragmentRole::Later;
        Self {
            time_ns,
            key: FlowKey::default(),
            hash: 0,
            position,
            tunnel: 0,
            octets: packet.octets,
            told: packet.tcp_seq,
            payload_octets: packet.payload_octets,
            tcp_flags: packet.tcp_flags,
            dscp: packet.dscp(),
            ttl: packet.ttl,
            marks: if is_segment { SEGMENT } else { 0 },
        }
    }

    /// Says its key, as it was sent, and so the hash of its flow.
    #[inline(always)]
    pub fn set_key(&mut self, sent: &FlowKey, tunnel: Option<&Tunnel>, hasher: &FlowHasher) {
        let (key, side) = low_key(sent);
        self.key = key;
        self.hash = match tunnel {
            None => hasher.hash(&key, None),
            Some(tunnel) => hasher.hash(&key, Some(&of_low(tunnel, side))),
        };
        self.marks = (self.marks & !HIGH) | (HIGH * side as u8);
        if sent.is_icmp() {
            self.told = u32::from(sent.dst_port);
        }
    }

    /// Who sent it, and in which flow.
    #[inline(always)]
    pub fn sent(&self) -> Sent<'_> {
        Sent { key: &self.key, hash: self.hash, side: self.side(), segment: self.segment() }
    }

    #[inline(always)]
    fn side(&self) -> Side {
        if self.marks & HIGH == 0 { Side::Low } else { Side::High }
    }

    /// The key as it was sent.
    #[inline(always)]
    fn sent_key(&self) -> FlowKey {
        let mut key = sent_by(&self.key, self.side());
        if key.is_icmp() {
            key.dst_port = self.told as u16;
        }
        key
    }

    #[inline(always)]
    fn segment(&self) -> Option<Segment> {
        let segment =
            Segment { seq: self.told, payload: self.payload_octets, flags: self.tcp_flags };
        (self.marks & SEGMENT != 0).then_some(segment)
    }

    /// What it adds to its flow, but for what its segment tells.
    #[inline(always)]
    pub fn delta(&self, tunnel: Option<&Tunnel>) -> Delta {
        let now = self.time_ns;
        let syn = self.tcp_flags & SYN != 0;
        let ack = self.tcp_flags & ACK != 0;
        Delta {
            key: self.sent_key(),
            tunnel: tunnel.map(|tunnel| Box::new(*tunnel)),
            packets: 1,
            octets: u64::from(self.octets),
            first_ns: now,
            last_ns: now,
            syn_ns: if syn { now } else { 0 },
            ack_ns: if ack && !syn { now } else { 0 },
            syn_packets: u32::from(syn && !ack),
            syn_ack_packets: u32::from(syn && ack),
            retransmits: 0,
            sampling: 1,
            tcp_flags: self.tcp_flags,
            dscp: self.dscp,
            min_ttl: self.ttl,
            max_ttl: self.ttl,
        }
    }
}
