//! The TCP and UDP sockets of a network namespace, by the kernel's socket diagnosis
//! (`include/uapi/linux/inet_diag.h`).
//!
//! Enters: nothing. Leaves: each socket with its ends and its cgroup. The crates for this
//! protocol do not know the cgroup and allocate for each attribute; what is needed is two
//! structures and one attribute.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use flow_common::key::protocol::{TCP, UDP};
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
use rtnetlink::sys::{Socket, SocketAddr};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NETLINK_HEADER: usize = 16;
/// `inet_diag_req_v2`.
const REQUEST: usize = 56;
/// `inet_diag_msg`.
const ANSWER: usize = 72;
/// `INET_DIAG_CGROUP_ID`: from Linux 5.10 on.
const CGROUP_ID: u16 = 21;

const FAMILIES: [u8; 2] = [2, 10]; // AF_INET, AF_INET6

/// States of `include/net/tcp_states.h`.
mod state {
    pub const TIME_WAIT: u8 = 6;
    pub const CLOSE: u8 = 7;
    pub const LISTEN: u8 = 10;
    pub const LAST: u8 = 11; // closing; those after it have no socket yet
}

/// A socket; IPv4 addresses are mapped, an unspecified one of either family is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSocket {
    /// TCP or UDP.
    pub protocol: u8,
    /// This end.
    pub local: u128,
    /// Its port.
    pub local_port: u16,
    /// The other end, 0 if there is none.
    pub remote: u128,
    /// Its port, 0 if there is none.
    pub remote_port: u16,
    /// The cgroup's number, 0 if the kernel does not say.
    pub cgroup: u64,
}

impl LocalSocket {
    /// True for one that takes what comes: a listening TCP socket, a UDP socket without a peer.
    pub fn is_open(&self) -> bool {
        self.remote == 0 && self.remote_port == 0
    }
}

/// The sockets of this thread's namespace, at most `most` of each family and protocol.
///
/// # Errors
/// What the kernel said: it may lack socket diagnosis for a protocol.
pub fn local_sockets(most: usize) -> io::Result<Vec<LocalSocket>> {
    let mut sockets = Vec::new();
    let tcp = (1..=state::LAST).filter(|state| ![state::TIME_WAIT, state::CLOSE].contains(state));
    let tcp_states = tcp.fold(0, |states, state| states | 1 << state);
    for family in FAMILIES {
        dump(family, TCP, tcp_states, most, &mut sockets)?;
        dump(family, UDP, u32::MAX, most, &mut sockets)?;
    }
    Ok(sockets)
}

fn dump(
    family: u8,
    protocol: u8,
    states: u32,
    most: usize,
    sockets: &mut Vec<LocalSocket>,
) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(family, protocol, states), 0)?;
    let end = sockets.len().saturating_add(most);
    let mut octets = Vec::with_capacity(1 << 16);
    loop {
        octets.clear();
        socket.recv(&mut octets, 0)?;
        for (kind, message) in messages(&octets) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return refusal(message),
                SOCK_DIAG_BY_FAMILY => sockets.extend(parse(protocol, message)),
                _ => {}
            }
        }
        if sockets.len() >= end {
            sockets.truncate(end);
            return Ok(());
        }
    }
}

fn request(family: u8, protocol: u8, states: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(NETLINK_HEADER + REQUEST);
    message.extend(((NETLINK_HEADER + REQUEST) as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    message.extend([0; 8]); // sequence and port: there is one dump
    message.extend([family, protocol, 0, 0]);
    message.extend(states.to_ne_bytes());
    message.resize(NETLINK_HEADER + REQUEST, 0);
    message
}

fn refusal(message: &[u8]) -> io::Result<()> {
    let code = message.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.saturating_neg())) }
}

/// The messages in a datagram, by type, without their headers.
fn messages(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = octets.first_chunk::<NETLINK_HEADER>()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let message = octets.get(NETLINK_HEADER..length)?;
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([header[4], header[5]]), message))
    })
}

fn parse(protocol: u8, message: &[u8]) -> Option<LocalSocket> {
    let (header, attributes) = message.split_first_chunk::<ANSWER>()?;
    let (family, state) = (header[0], header[1]);
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let address = |at: usize| {
        let octets: [u8; 16] = header[at..at + 16].try_into().unwrap_or_default();
        let [a, b, c, d, ..] = octets;
        let v4 = Ipv4Addr::new(a, b, c, d);
        let mapped = Ipv6Addr::from(octets).to_ipv4_mapped();
        match if family == FAMILIES[0] { Some(v4) } else { mapped } {
            Some(Ipv4Addr::UNSPECIFIED) => 0,
            Some(v4) => v4.to_ipv6_mapped().to_bits(),
            None => u128::from_be_bytes(octets),
        }
    };
    let socket = LocalSocket {
        protocol,
        local_port: port(4),
        remote_port: port(6),
        local: address(8),
        remote: address(24),
        cgroup: cgroup(attributes).unwrap_or(0),
    };
    // A UDP socket that is bound to nothing receives nothing.
    (socket.local_port != 0 && (protocol == UDP || state == state::LISTEN || !socket.is_open()))
        .then_some(socket)
}

fn cgroup(mut attributes: &[u8]) -> Option<u64> {
    /// Without the flags for nesting and byte order.
    const KIND: u16 = 0x3fff;
    loop {
        let header = attributes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([header[2], header[3]]) & KIND == CGROUP_ID {
            return value.try_into().ok().map(u64::from_ne_bytes);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

    use proptest::prelude::*;

    use super::*;

    fn bits(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        }
    }

    #[test]
    fn real_sockets_are_listed_with_both_ends() {
        for loopback in ["127.0.0.1", "::1"] {
            let loopback: IpAddr = loopback.parse().expect("an address");
            let listener = TcpListener::bind((loopback, 0)).expect("a port");
            let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("open");
            let (server, _) = listener.accept().expect("open");
            let unspecified: IpAddr =
                if loopback.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
            let udp = UdpSocket::bind((unspecified, 0)).expect("a port");
            let sockets = local_sockets(1 << 20).expect("the kernel can");
            let port = |address: std::net::SocketAddr| address.port();
            let ends = |protocol, local: (u128, u16), remote: (u128, u16)| {
                sockets.iter().any(|socket| {
                    socket.protocol == protocol
                        && (socket.local, socket.local_port) == local
                        && (socket.remote, socket.remote_port) == remote
                })
            };
            let here = bits(loopback);
            let (listening, connecting) =
                (port(listener.local_addr().unwrap()), port(client.local_addr().unwrap()));
            assert_eq!(port(server.peer_addr().expect("open")), connecting);
            assert!(ends(TCP, (here, listening), (0, 0)));
            assert!(ends(TCP, (here, connecting), (here, listening)));
            assert!(ends(TCP, (here, listening), (here, connecting)));
            assert!(ends(UDP, (0, port(udp.local_addr().unwrap())), (0, 0)));
            assert!(sockets.iter().any(|socket| socket.cgroup != 0));
        }
    }

    #[test]
    fn a_limit_is_kept_for_each_family_and_protocol() {
        let _sockets: Vec<_> =
            (0..5).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port")).collect();
        let found = local_sockets(2).expect("the kernel can");
        let of = |protocol| found.iter().filter(|socket| socket.protocol == protocol).count();
        assert!(of(UDP) >= 2 && of(UDP) <= 4 && of(TCP) <= 4, "{found:?}");
    }

    proptest! {
        #[test]
        fn cut_and_strange_answers_do_no_harm(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            for (_, message) in messages(&octets) {
                prop_assert!(message.len() < octets.len());
                parse(TCP, message);
            }
            parse(UDP, &octets);
        }
    }
}
