//! What attackers do, by real sockets: port scans and SYN floods.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::{Context, Result, bail, ensure};
use flow_common::random::SplitMix64;
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, sendto};

use crate::lab::Side;
use crate::traffic::connect_tcp;

/// Tries ports that are closed, one connection each.
pub fn scan(from: (&Side, u8), to: IpAddr, ports: std::ops::Range<u16>) -> Result<()> {
    let (side, host) = from;
    side.namespace.enter(|| {
        for port in ports {
            let Err(error) = connect_tcp(side.v4(host), SocketAddr::new(to, port), None) else {
                bail!("port {port} is open");
            };
            let kind =
                error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            ensure!(kind == Some(ErrorKind::ConnectionRefused), "port {port}: {error:#}");
        }
        Ok(())
    })
}

/// Sends SYNs from invented addresses of 198.18.0.0/15 by a raw socket; returns those.
pub fn syn_flood(from: &Side, to: (Ipv4Addr, u16), syns: u32) -> Result<Vec<Ipv4Addr>> {
    const RAW: Protocol = rustix::net::ipproto::RAW;
    from.namespace.enter(|| {
        let socket = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(RAW),
        )
        .context("no raw socket: this needs root")?;
        let mut random = SplitMix64::new(u64::from(syns));
        let target = SocketAddrV4::new(to.0, 0);
        let mut sources = Vec::new();
        for _ in 0..syns {
            let number = random.next();
            let source = Ipv4Addr::from_bits(0xc612_0000 + (number as u32 & 0x1_ffff));
            let packet = syn(source, (number >> 32) as u16 | 1024, to);
            sendto(&socket, &packet, SendFlags::empty(), &target)?;
            sources.push(source);
        }
        Ok(sources)
    })
}

/// An IPv4 packet; the kernel fills in length, identification and header checksum.
fn syn(source: Ipv4Addr, source_port: u16, (address, port): (Ipv4Addr, u16)) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[0] = 0x45;
    packet[3] = 40;
    (packet[8], packet[9]) = (64, 6);
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&address.octets());
    packet[20..22].copy_from_slice(&source_port.to_be_bytes());
    packet[22..24].copy_from_slice(&port.to_be_bytes());
    packet[24..28].copy_from_slice(&source_port.reverse_bits().to_be_bytes().repeat(2));
    (packet[32], packet[33]) = (5 << 4, 2);
    packet[34..36].copy_from_slice(&0xffff_u16.to_be_bytes());
    let checksum = checksum(&packet[12..]);
    packet[36..38].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// Of a TCP segment without payload, given from the addresses on (RFC 9293, section 3.1).
fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum::<u32>() + 6 + 20;
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}
