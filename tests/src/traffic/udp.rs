//! UDP: questions with answers from many ports, a one-way stream, or floods.

use std::net::SocketAddr;
use std::thread;

use anyhow::{Context, Result, ensure};

use super::pace::paced;
use super::socket::{allow, udp};
use super::{Ends, Sent};
use crate::wild::Dice;

/// From each of `ports` client ports, `questions` datagrams one after the other, each
/// answered before the next.
pub fn ask(
    ends: Ends<'_>,
    ports: u64,
    questions: u64,
    request: usize,
    answer: usize,
) -> Result<Sent> {
    let server = udp(&ends.server.namespace, ends.to)?;
    thread::scope(|scope| {
        let answering = scope.spawn(move || -> Result<()> {
            let (mut buffer, reply) = (vec![0; 65536], vec![0x33; answer]);
            for _ in 0..ports * questions {
                let (_, client) = server.recv_from(&mut buffer)?;
                server.send_to(&reply, client)?;
            }
            Ok(())
        });
        let mut sent = Sent::default();
        let (mut buffer, question) = (vec![0; 65536], vec![0x22; request]);
        for _ in 0..ports {
            let client = udp(&ends.client.namespace, SocketAddr::new(ends.from, 0))?;
            let mut backward = 0;
            for _ in 0..questions {
                client.send_to(&question, ends.to)?;
                let length = client.recv(&mut buffer).context("a UDP answer did not come")?;
                backward += length as u64;
            }
            let forward = questions * request as u64;
            sent.add(Sent { conversations: 1, forward, backward });
        }
        answering.join().map_err(|_| anyhow::anyhow!("the UDP server panicked"))??;
        Ok(sent)
    })
}

/// The same with all ports at once: in each round every client port asks, then every
/// one is answered.
pub fn ask_together(
    ends: Ends<'_>,
    ports: u64,
    rounds: u64,
    request: usize,
    answer: usize,
) -> Result<Sent> {
    allow(ports)?;
    let server = udp(&ends.server.namespace, ends.to)?;
    let clients = (0..ports).map(|_| udp(&ends.client.namespace, SocketAddr::new(ends.from, 0)));
    let clients = clients.collect::<Result<Vec<_>>>()?;
    let (mut buffer, question, reply) = (vec![0; 65536], vec![0x22; request], vec![0x33; answer]);
    for _ in 0..rounds {
        for client in &clients {
            client.send_to(&question, ends.to)?;
        }
        for _ in 0..ports {
            let (_, client) = server.recv_from(&mut buffer).context("a question did not come")?;
            server.send_to(&reply, client)?;
        }
        for client in &clients {
            let length = client.recv(&mut buffer).context("a UDP answer did not come")?;
            ensure!(length == answer, "an answer has {length} octets");
        }
    }
    Ok(Sent {
        conversations: ports,
        forward: ports * rounds * request as u64,
        backward: ports * rounds * answer as u64,
    })
}

/// `datagrams` of `size` octets to random ports where nobody listens, as fast as one
/// thread can; the port of `ends` is not used.
pub fn flood(ends: Ends<'_>, datagrams: u64, size: usize) -> Result<Sent> {
    const SEED: u64 = 7;
    let client = udp(&ends.client.namespace, SocketAddr::new(ends.from, 0))?;
    let (mut dice, datagram) = (Dice::new(SEED), vec![0x66; size]);
    for _ in 0..datagrams {
        let port = 1 + dice.below(usize::from(u16::MAX)) as u16;
        client.send_to(&datagram, SocketAddr::new(ends.to.ip(), port))?;
    }
    Ok(Sent { conversations: datagrams, forward: datagrams * size as u64, backward: 0 })
}

/// So many datagrams of `size` octets a second, as long as told, each to the next port of one of
/// four hosts: a flow each, none of which comes again within two seconds at 100,000 a second.
pub fn spread(ends: Ends<'_>, per_second: u64, seconds: u64, size: usize) -> Result<Sent> {
    let client = udp(&ends.client.namespace, SocketAddr::new(ends.from, 0))?;
    let datagram = vec![0x77; size];
    let sent = paced(per_second, seconds, |number| {
        let (host, port) = (number / 65_535 % 4, 1 + (number % 65_535) as u16);
        let to = SocketAddr::new(ends.server.v4(host as u8), port);
        client.send_to(&datagram, to)?;
        Ok(())
    })?;
    Ok(Sent { conversations: sent, forward: sent * size as u64, backward: 0 })
}

/// `datagrams` of `size` octets from one socket to another, nothing back. The sender
/// never has more than a window of datagrams under way, so none is lost.
pub fn stream(ends: Ends<'_>, datagrams: u64, size: usize) -> Result<Sent> {
    /// Datagrams sent before the receiver is waited for: they fit its buffer.
    const WINDOW: u64 = 256;
    let server = udp(&ends.server.namespace, ends.to)?;
    let client = udp(&ends.client.namespace, SocketAddr::new(ends.from, 0))?;
    let (mut buffer, datagram) = (vec![0; 65536], vec![0x44; size]);
    let (mut sent, mut received, mut octets) = (0, 0, 0);
    while received < datagrams {
        while sent < datagrams && sent < received + WINDOW {
            client.send_to(&datagram, ends.to)?;
            sent += 1;
        }
        octets += server.recv(&mut buffer).context("a UDP datagram did not come")? as u64;
        received += 1;
    }
    ensure!(octets == datagrams * size as u64, "UDP to {}: {octets} octets came", ends.to);
    Ok(Sent { conversations: 1, forward: octets, backward: 0 })
}
