//! One packet between the parser and its flow.

use flow_common::key::protocol;
use flow_common::parse::FragmentRole;
use flow_common::tcp::Segment;
use flow_common::tcp::flags::{ACK, SYN};
use flow_common::{FlowKey, Packet, Tunnel};

use crate::delta::Delta;

/// What a packet adds to its flow, with what is known of the flow: 80 octets.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Metered {
    /// When it was captured, ns.
    pub time_ns: u64,
    /// The key of its direction.
    pub key: FlowKey,
    /// The hash of its flow, the same for both directions.
    pub hash: u32,
    /// Its position among the metered packets of its block.
    pub position: u32,
    /// The position of its tunnel in its block plus one, 0 for none.
    pub tunnel: u32,
    octets: u32,
    tcp_seq: u32,
    payload_octets: u32,
    tcp_flags: u8,
    dscp: u8,
    ttl: u8,
    /// It has a TCP header.
    is_segment: bool,
}

const _: () = assert!(size_of::<Metered>() == 80);

impl Metered {
    /// A packet as it was parsed; its flow's hash is still to be said.
    #[inline(always)]
    pub fn new(packet: &Packet, time_ns: u64, position: u32) -> Self {
        Self {
            time_ns,
            key: packet.key,
            hash: 0,
            position,
            tunnel: 0,
            octets: packet.octets,
            tcp_seq: packet.tcp_seq,
            payload_octets: packet.payload_octets,
            tcp_flags: packet.tcp_flags,
            dscp: packet.dscp(),
            ttl: packet.ttl,
            // A later fragment has no header to tell.
            is_segment: packet.key.protocol == protocol::TCP
                && packet.fragment != FragmentRole::Later,
        }
    }

    /// The TCP segment in it.
    #[inline(always)]
    pub fn segment(&self) -> Option<Segment> {
        let segment =
            Segment { seq: self.tcp_seq, payload: self.payload_octets, flags: self.tcp_flags };
        self.is_segment.then_some(segment)
    }

    /// What it adds to its flow.
    #[inline(always)]
    pub fn delta(&self, tunnel: Option<&Tunnel>, repeats: bool) -> Delta {
        let now = self.time_ns;
        let syn = self.tcp_flags & SYN != 0;
        let ack = self.tcp_flags & ACK != 0;
        Delta {
            key: self.key,
            tunnel: tunnel.map(|tunnel| Box::new(*tunnel)),
            packets: 1,
            octets: u64::from(self.octets),
            first_ns: now,
            last_ns: now,
            syn_ns: if syn { now } else { 0 },
            ack_ns: if ack && !syn { now } else { 0 },
            syn_packets: u32::from(syn && !ack),
            syn_ack_packets: u32::from(syn && ack),
            retransmits: u32::from(repeats),
            sampling: 1,
            tcp_flags: self.tcp_flags,
            dscp: self.dscp,
            min_ttl: self.ttl,
            max_ttl: self.ttl,
        }
    }
}
