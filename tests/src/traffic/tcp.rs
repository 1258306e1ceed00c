//! TCP: one long paced transfer, or many short connections.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result, ensure};

use super::socket::{allow, connect_tcp, listen, patient_tcp};
use super::{Ends, Sent};

const CHUNK: usize = 64 << 10;

/// One connection that carries `octets` from client to server, at most `pace` octets
/// a second, and a single octet back.
pub fn bulk(ends: Ends<'_>, octets: u64, pace: u64) -> Result<Sent> {
    exchange(ends, 1, octets, 1, Some(pace))
}

/// Connections one after the other, each a request and an answer.
pub fn short(ends: Ends<'_>, connections: u64, request: u64, answer: u64) -> Result<Sent> {
    exchange(ends, connections, request, answer, None)
}

fn exchange(
    ends: Ends<'_>,
    connections: u64,
    request: u64,
    answer: u64,
    pace: Option<u64>,
) -> Result<Sent> {
    let listener = listen(&ends.server.namespace, ends.to)?;
    thread::scope(|scope| {
        let server = scope.spawn(move || serve(&listener, connections, answer));
        let sent = ends.client.namespace.enter(|| {
            let mut sent = Sent::default();
            for _ in 0..connections {
                let mut stream = connect_tcp(ends.from, ends.to, pace)?;
                send(&mut stream, request)?;
                stream.shutdown(Shutdown::Write)?;
                // The end of the answer means that the server has closed too.
                let backward = drain(&mut stream).context("the server's answer broke off")?;
                sent.add(Sent { conversations: 1, forward: request, backward });
            }
            Ok(sent)
        })?;
        let received = server.join().map_err(|_| anyhow::anyhow!("the TCP server panicked"))??;
        ensure!(
            received == sent.forward && sent.backward == connections * answer,
            "TCP to {}: {} octets were sent and {received} received",
            ends.to,
            sent.forward
        );
        Ok(sent)
    })
}

/// Connections that are all open at the same time and take turns: in each round every
/// client asks, then every one is answered.
pub fn together(
    ends: Ends<'_>,
    connections: u64,
    rounds: u64,
    request: usize,
    answer: usize,
) -> Result<Sent> {
    allow(2 * connections)?;
    let listener = listen(&ends.server.namespace, ends.to)?;
    let (question, reply) = (vec![0x22; request], vec![0x33; answer]);
    thread::scope(|scope| {
        let server = scope.spawn(|| -> Result<()> {
            let accepted = (0..connections).map(|_| {
                let (stream, _) = listener.accept()?;
                patient_tcp(&stream)?;
                io::Result::Ok(stream)
            });
            let mut streams = accepted.collect::<io::Result<Vec<_>>>()?;
            let mut buffer = vec![0; request];
            for _ in 0..rounds {
                for stream in &mut streams {
                    stream.read_exact(&mut buffer).context("a client's request broke off")?;
                    stream.write_all(&reply)?;
                }
            }
            for stream in &mut streams {
                ensure!(drain(stream)? == 0, "a client sent more than it should");
            }
            Ok(())
        });
        ends.client.namespace.enter(|| {
            let connected = (0..connections).map(|_| connect_tcp(ends.from, ends.to, None));
            let mut streams = connected.collect::<Result<Vec<_>>>()?;
            let mut buffer = vec![0; answer];
            for _ in 0..rounds {
                for stream in &mut streams {
                    stream.write_all(&question)?;
                }
                for stream in &mut streams {
                    stream.read_exact(&mut buffer).context("the server's answer broke off")?;
                }
            }
            for stream in &mut streams {
                stream.shutdown(Shutdown::Write)?;
            }
            for stream in &mut streams {
                ensure!(drain(stream)? == 0, "the server sent more than it should");
            }
            Ok(())
        })?;
        server.join().map_err(|_| anyhow::anyhow!("the TCP server panicked"))??;
        Ok(Sent {
            conversations: connections,
            forward: connections * rounds * request as u64,
            backward: connections * rounds * answer as u64,
        })
    })
}

/// Takes the connections, reads each to its end, answers and closes; returns what came.
fn serve(listener: &TcpListener, connections: u64, answer: u64) -> Result<u64> {
    let mut received = 0;
    for _ in 0..connections {
        let (mut stream, _) = listener.accept()?;
        patient_tcp(&stream)?;
        received += drain(&mut stream).context("a client's request broke off")?;
        send(&mut stream, answer)?;
    }
    Ok(received)
}

fn send(stream: &mut TcpStream, octets: u64) -> io::Result<()> {
    let chunk = vec![0x55; CHUNK];
    let mut left = octets;
    while left > 0 {
        let length = left.min(CHUNK as u64) as usize;
        stream.write_all(&chunk[..length])?;
        left -= length as u64;
    }
    Ok(())
}

fn drain(stream: &mut TcpStream) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut octets = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(octets),
            length => octets += length as u64,
        }
    }
}
