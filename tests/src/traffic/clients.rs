//! A busy server's clients: many addresses of which few ask most, each flow from a port of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, bail};
use flow_agent::bench::workload::{Distribution, workload};
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with,
};

use super::pace::paced;
use super::{Ends, Sent};

/// Addresses of 198.18.0.0/15 (RFC 2544).
const CLIENTS: u32 = 100_000;
/// Their source ports, one after the other.
const PORTS: std::ops::RangeInclusive<u16> = 1_024..=u16::MAX;
/// Headers of IPv4 and UDP.
const HEADERS: usize = 28;

/// So many datagrams of `size` octets a second, as long as told, to one service, each a flow of
/// its own. Who sends is drawn by Zipf's law; who sends most has an eighth of all, and so at
/// 100,000 a second comes round to a port again after five seconds. They are sent from a raw
/// socket, so nobody is there to be answered.
pub fn clients(ends: Ends<'_>, per_second: u64, seconds: u64, size: usize) -> Result<Sent> {
    let (IpAddr::V4(server), port) = (ends.to.ip(), ends.to.port()) else {
        bail!("clients are of IPv4");
    };
    let socket = ends.client.namespace.enter(|| {
        let (family, kind) = (AddressFamily::INET, SocketType::RAW);
        socket_with(family, kind, SocketFlags::CLOEXEC, Some(ipproto::RAW))
            .context("no raw socket: this needs root")
    })?;
    let whose = workload(Distribution::Zipf, CLIENTS, 1 << 20, 7);
    let mut ports = vec![*PORTS.start(); CLIENTS as usize];
    let mut packet = datagram(server, port, size);
    let target = SocketAddrV4::new(server, 0);
    let sent = paced(per_second, seconds, |number| {
        let client = whose[number as usize % whose.len()] % CLIENTS;
        let from = &mut ports[client as usize];
        packet[12..16].copy_from_slice(&(0xc612_0000 | client).to_be_bytes());
        packet[20..22].copy_from_slice(&from.to_be_bytes());
        *from = if from == PORTS.end() { *PORTS.start() } else { *from + 1 };
        sendto(&socket, &packet, SendFlags::empty(), &target)?;
        Ok(())
    })?;
    Ok(Sent { conversations: sent, forward: sent * size as u64, backward: 0 })
}

/// An IPv4 packet whose source is still to be written. The kernel fills in length, identification
/// and header checksum; without a checksum of its own UDP is valid (RFC 768).
fn datagram(server: Ipv4Addr, port: u16, size: usize) -> Vec<u8> {
    let mut packet = vec![0x77; HEADERS + size];
    packet[..HEADERS].fill(0);
    packet[0] = 0x45;
    (packet[8], packet[9]) = (64, 17);
    packet[16..20].copy_from_slice(&server.octets());
    packet[22..24].copy_from_slice(&port.to_be_bytes());
    packet[24..26].copy_from_slice(&(8 + size as u16).to_be_bytes());
    packet
}
